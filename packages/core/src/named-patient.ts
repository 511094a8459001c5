import type { PatientIdentity } from './patient-context.js';
import { LONGEST_REFERENCE, normalBase } from './references.js';

const MENTION =
  /(?:(https?:\/\/[^\s"'<>]{1,512}?\/)?Patient\/|\b[Pp]atient:\/\/|[?&](?:patient|subject)=(?:Patient\/)?)([A-Za-z0-9\-.]{1,64})/g;

/**
 * Whom a text that was found to name another patient names, as far as plain text says it: for the keyed hash in an audit record.
 * Decides nothing. `undefined` when it cannot be told.
 * @see protocol section 8
 */
export function otherPatientNamedIn(said: unknown, base: string | undefined, own: PatientIdentity): PatientIdentity | undefined {
  if (typeof said !== 'string') return undefined;
  const ownBase = normalBase(own.fhirServer);
  for (const [, absolute, patient] of said.slice(0, LONGEST_REFERENCE).matchAll(MENTION)) {
    const at = absolute === undefined ? base : normalBase(absolute);
    if (at === undefined || patient === undefined) continue;
    if (at !== ownBase) return { fhirServer: at, patient };
    if (patient !== own.patient) return { ...own, patient };
  }
  return undefined;
}
