import { checkResult as checkAnyResult, type PatientContext, type ResultVerdict } from '@hmcp/core';

/** Whose answer it is, and whether a contract describes its `structuredContent`. */
export interface ResultExpectation {
  readonly patient: PatientContext;
  readonly contract: boolean;
}

/**
 * The caller's own check of an answer, also from a peer that checked it before.
 * @see protocol section 7
 */
export function checkResult(result: Readonly<Record<string, unknown>>, { patient, contract }: ResultExpectation): ResultVerdict {
  return checkAnyResult(result, { patient, described: contract ? 'structuredContent' : 'nothing' });
}
