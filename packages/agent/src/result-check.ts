import { checkResult as checkAnyResult, type PatientContext, type ResultVerdict } from '@hmcp/core';

/** Whose answer it is, and whether a contract describes its `structuredContent`. */
export interface ResultExpectation {
  readonly patient: PatientContext;
  readonly contract: boolean;
  /** The contract's own name for the patient. */
  readonly patientArgument?: string | null | undefined;
}

/**
 * The caller's own check of an answer, also from a peer that checked it before.
 * @see protocol section 7
 */
export function checkResult(
  result: Readonly<Record<string, unknown>>,
  { patient, contract, patientArgument }: ResultExpectation,
): ResultVerdict {
  return checkAnyResult(result, { patient, described: contract ? 'structuredContent' : 'nothing', patientArgument });
}
