import { FhirId } from './patient-context.js';
import { isObject } from './references.js';

/** Names of arguments and members that say whose record is meant, whatever their author called them. */
const PATIENT_KEY =
  /^(?:for[-_]?)?(?:fhir[-_]?)?(?:patients?|subjects?|beneficiary)(?:[-_.]?(?:fhir)?[-_.]?(?:ids?|refs?|references?|uuids?|guids?))?$/i;
const LONGEST_KEY = 'for-fhir-beneficiary-fhir-references'.length;
const SHORTEST_KEY = 'patient'.length;
/** First letters of such names, in lower case: most members are done after a look at one. */
const [P, S, B, F] = [...'psbf'].map((letter) => letter.charCodeAt(0));

/** A name that says what it stands in, not whose: as a declared argument it tells nothing about the members of an answer. */
const OWN_NAME = /^_?(?:ids?|uuid|key|code|name|refs?|references?|identifiers?|value|text|query|q|uri|url)$/i;
/** A name that holds ids and nothing else, so that a text of several is taken apart. */
const OF_IDS = /(?:ids?|refs?|references?|uuid)$/i;
/** How many people a value speaks of, and not which. */
const PLURAL = /^(?:for[-_]?)?(?:patients|subjects)$/i;
/** What names the patient inside an object that stands for one, in lower case; the first that is there, in any case. */
const ID_MEMBERS = ['id', '_id', 'uuid', 'guid'] as const;

/** Deeper than anything the compartment check lets pass. */
export const DEEPEST = 64;

/** True when the name of an argument or member says "patient" itself. @see protocol section 5 */
export function saysPatient(key: string): boolean {
  if (key.length < SHORTEST_KEY || key.length > LONGEST_KEY) return false;
  const first = key.charCodeAt(0) | 0x20;
  return (first === P || first === S || first === B || first === F) && PATIENT_KEY.test(key);
}

/** A declared `patientArgument` by which members of an answer can be judged too. */
export function judgedMember(patientArgument: string | null | undefined): string | undefined {
  return patientArgument == null || OWN_NAME.test(patientArgument) ? undefined : patientArgument;
}

/**
 * The first id under a patient's key that is not `own`: a text or number that can be a FHIR id, in a list, or as the id of an
 * object. `undefined` when there is none: what cannot be an id (a name with spaces, null, a count) says nothing here.
 * @see protocol section 5
 */
export function otherIdUnder(key: string, value: unknown, own: string, depth = 0): string | undefined {
  if (value === own) return undefined;
  if (typeof value === 'string') return otherInText(key, value, own);
  if (typeof value === 'number') return depth === 0 && PLURAL.test(key) ? undefined : otherNumber(value, own);
  if (Array.isArray(value)) {
    if (depth > DEEPEST) return undefined; // withheld by the walk, which goes deeper
    for (const item of value) {
      const other = otherIdUnder(key, item, own, depth + 1);
      if (other !== undefined) return other;
    }
    return undefined;
  }
  if (!isObject(value) || typeof value.resourceType === 'string') return undefined; // a resource is judged as one
  const { reference } = value;
  if (typeof reference === 'string' && reference.includes('/')) return undefined; // and so is a reference
  for (const name of idsOf(value)) {
    const other = otherOf(key, value[name], own);
    if (other !== undefined) return other;
  }
  return otherOf(key, reference, own);
}

/** Names of the id of an object; several where one is written in several cases. */
function idsOf(object: object): readonly string[] {
  const short = Object.keys(object).filter((name) => name.length <= 'uuid'.length);
  for (const member of ID_MEMBERS) {
    const found = short.filter((name) => name.toLowerCase() === member);
    if (found.length > 0) return found;
  }
  return [];
}

function otherOf(key: string, said: unknown, own: string): string | undefined {
  if (typeof said === 'string') return otherInText(key, said, own);
  return typeof said === 'number' ? otherNumber(said, own) : undefined;
}

function otherInText(key: string, said: string, own: string): string | undefined {
  const id = said.trim().replace(/^urn:(?:uuid|oid):/i, '');
  if (id === own) return undefined;
  if (FhirId.safeParse(id).success) return id;
  if (!/[,;\s]/.test(id) || !OF_IDS.test(key)) return undefined;
  const several = id.split(/[,;\s]+/).filter((one) => one !== '' && one !== own);
  return several.find((one) => FhirId.safeParse(one).success);
}

/** A number too large to be exact may have been another one. */
function otherNumber(said: number, own: string): string | undefined {
  const id = String(said);
  if (id === own && Number.isSafeInteger(said)) return undefined;
  return FhirId.safeParse(id).success ? id : undefined;
}
