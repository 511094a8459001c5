import {
  type Binding,
  checkResult,
  type Operation,
  type PatientIdentity,
  PROTOCOL_VERSION,
  patientKey,
  type ResultVerdict,
} from '@hmcp/core';
import type { Bound } from './admitted.js';
import { isJsonObject, type Json } from './message.js';

/** What examining a result found, or the fixed reason to withhold it. */
export type Examination =
  | ResultVerdict
  | { readonly inside: false; readonly reason: 'the result does not satisfy the declared output' };

/** Methods whose results have a frame of MCP's own; `output` describes their `structuredContent`. */
const FRAMED: readonly string[] = ['tools/call', 'resources/read', 'prompts/get'];
/** What SDKs add to the result of any method. */
const ADDED: readonly string[] = ['_meta', 'resultType', 'ttlMs', 'cacheScope'];

/**
 * Checks everything a result carries against the patient it is about, and against the operation's `output`. Members that the
 * schema would leave out satisfy nothing: with them, the JSON counts as undeclared.
 * @param patient of the context; for an operation about nobody, {@link nobody}
 * @see protocol section 7
 */
export function examineResult(
  method: string,
  result: Json,
  patient: PatientIdentity,
  operation: Operation | undefined,
): Examination {
  const framed = FRAMED.includes(method);
  const said = framed
    ? result.structuredContent
    : Object.fromEntries(Object.entries(result).filter(([key]) => !ADDED.includes(key)));
  const { output, patientArgument } = operation ?? {};
  if (output === undefined || said === undefined) return checkResult(result, { patient, patientArgument });
  const parsed = output.safeParse(said);
  if (!parsed.success) return { inside: false, reason: 'the result does not satisfy the declared output' };
  const described = framed ? 'structuredContent' : 'members';
  return checkResult(result, { patient, patientArgument, described: leavesOut(said, parsed.data) ? 'nothing' : described });
}

/** True when the schema dropped a member on its way: what it does not know, nobody declared. */
function leavesOut(said: unknown, parsed: unknown): boolean {
  if (said === parsed) return false; // handed through as it is
  if (Array.isArray(said) && Array.isArray(parsed)) return said.some((item, i) => leavesOut(item, parsed[i]));
  if (!isJsonObject(said) || !isJsonObject(parsed)) return false;
  return Object.entries(said).some(
    ([key, value]) => value !== undefined && (!Object.hasOwn(parsed, key) || leavesOut(value, parsed[key])),
  );
}

/** A patient no record can be of: what an operation about nobody is checked against. */
export function nobody(fhirServer: string): PatientIdentity {
  return { fhirServer, patient: '' };
}

/**
 * The binding of what answers a request: in a session its seal's key, else one of the intent. `undefined` when the request brought
 * no envelope. `patients` is empty when the answer holds no resource of the patient.
 * @see protocol section 2.4
 */
export async function bindResult(bound: Bound, by: string, resources: number): Promise<Binding | undefined> {
  const { context, intent, seal } = bound;
  if (intent === undefined) return undefined;
  const whose: Pick<Binding, 'sid' | 'epoch' | 'pk' | 'pkScope'> = seal
    ? { sid: seal.sid, epoch: seal.epoch, pk: seal.pk }
    : { pk: await patientKey(intent, context), pkScope: 'intent' };
  return { version: PROTOCOL_VERSION, ...whose, intent: { id: intent }, by, patients: resources > 0 ? [whose.pk] : [] };
}

/** `_meta` of a handler's result without the keys that only the guard may write. */
export function withoutOwnKeys(meta: unknown): Record<string, unknown> {
  const entries = isJsonObject(meta) ? Object.entries(meta) : [];
  return Object.fromEntries(entries.filter(([key]) => !/^dev\.hmcp\//i.test(key)));
}
