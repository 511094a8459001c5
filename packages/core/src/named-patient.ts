import type { PatientIdentity } from './patient-context.js';
import { LONGEST_REFERENCE, normalBase } from './references.js';

const MENTION =
  /(?:(https?:\/\/[^\s"'<>]{1,512}?\/)?(?<![A-Za-z0-9_])Patient\/|\b[Pp]atient:\/\/|[?&](?:patient|subject)=(?:Patient\/)?)([A-Za-z0-9\-.]{1,64})/g;

/**
 * Whom a text that was found to name another patient names, as far as plain text says it: for the keyed hash in an audit record.
 * Decides nothing. `undefined` when it cannot be told.
 * @see protocol section 8
 */
export function otherPatientNamedIn(said: unknown, base: string | undefined, own: PatientIdentity): PatientIdentity | undefined {
  if (typeof said !== 'string') return undefined;
  const ownBase = normalBase(own.fhirServer);
  const text = said.slice(0, LONGEST_REFERENCE);
  const isSpaced = /\s/.test(text);
  for (const { 0: whole, 1: absolute, 2: patient = '', index } of text.matchAll(MENTION)) {
    const [before, after] = [said.charAt(index - 1), said.charAt(index + whole.length)];
    const isRelative = absolute === undefined && whole.startsWith('Patient/');
    if (isRelative && !/\d/.test(patient) && !/["'=]/.test(before) && isSpaced) continue; // "Patient/family" is prose
    const at = absolute === undefined ? base : normalBase(absolute);
    if (at === ownBase && patient === own.patient && !/[\w%-]/.test(after)) continue;
    // The end of a sentence, of what was looked at, or an escape: a part of an id is the id of somebody else.
    const isPart = patient.endsWith('.') || /[\w%.-]/.test(after) || index + whole.length >= LONGEST_REFERENCE;
    if (at === undefined || isPart || (isRelative && before === '/')) return undefined;
    return at === ownBase ? { ...own, patient } : { fhirServer: at, patient };
  }
  return undefined;
}
