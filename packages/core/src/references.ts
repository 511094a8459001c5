/**
 * Whom a FHIR reference names: the patient of the context, something that is no patient, another patient, or it cannot be
 * told. Only `own` and `other` may cross the boundary.
 * @see protocol section 7
 */
export type Resolution = 'own' | 'other' | 'foreign' | 'unknown';

/** The patient of the context, ready for comparing. */
export interface OwnPatient {
  /** Base URL as {@link normalBase} gives it. */
  readonly base: string | undefined;
  readonly id: string;
  /** `system|value` of identifiers known to be this patient's. */
  readonly identifiers: ReadonlySet<string>;
}

/** Where a reference stands: what it may point at without leaving the value. */
export interface ReferencePlace {
  readonly own: OwnPatient;
  /** Base that relative references start from; undefined when the source is not known. */
  readonly base: string | undefined;
  /** `contained` of the resource around, by id. */
  readonly contained: ReadonlyMap<string, unknown> | undefined;
  /** Entries of the Bundle around, by fullUrl. */
  readonly entries: ReadonlyMap<string, unknown> | undefined;
}

/** No honest reference is longer. */
export const LONGEST_REFERENCE = 2048;
const RELATIVE = /^([A-Z][A-Za-z]{0,63})\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/[A-Za-z0-9\-.]{1,64})?$/;
const ABSOLUTE = /^(.+)\/([A-Z][A-Za-z]{0,63})\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/[A-Za-z0-9\-.]{1,64})?$/;
const CONDITIONAL_DIRECTORY = /^(?:Practitioner|PractitionerRole|Organization|Location|Medication)\?identifier=[^&?]+$/;

/** Scheme, host, port and path of a base URL without trailing slash; undefined when it is no usable http(s) URL. */
export function normalBase(url: string | undefined): string | undefined {
  if (url === undefined || !URL.canParse(url)) return undefined;
  const { protocol, username, password, origin, pathname, search, hash } = new URL(url);
  if ((protocol !== 'https:' && protocol !== 'http:') || username || password || search || hash) return undefined;
  return origin + pathname.replace(/\/+$/, '');
}

const bases = new Map<string, string | undefined>();

/** {@link normalBase} of one that is configured: there are few, and each part of every answer is checked against one. */
export function knownBase(url: string | undefined): string | undefined {
  if (url === undefined) return undefined;
  if (!bases.has(url)) {
    if (bases.size >= 64) bases.clear();
    bases.set(url, normalBase(url));
  }
  return bases.get(url);
}

/** Base of an absolute RESTful URL (`<base>/<Type>/<id>`); undefined when it has not that form. */
export function baseOf(fullUrl: string): string | undefined {
  return splitAbsolute(fullUrl)?.base;
}

/** True when `fullUrl` is `<base>/<Type>/<id>` of exactly this base. */
export function isUnder(fullUrl: string, base: string | undefined): boolean {
  if (base === undefined) return false;
  const plain = fullUrl.startsWith(`${base}/`) && RELATIVE.test(fullUrl.slice(base.length + 1));
  return plain || baseOf(fullUrl) === base;
}

function splitAbsolute(text: string): { base: string; type: string; id: string } | undefined {
  if (text.length > LONGEST_REFERENCE || /[\\%\s]|\/\.{1,2}(?:\/|$)/.test(text) || !URL.canParse(text)) return undefined;
  const { protocol, username, password, origin, pathname, search, hash } = new URL(text);
  if ((protocol !== 'https:' && protocol !== 'http:') || username || password || search || hash) return undefined;
  const [, base, type, id] = ABSOLUTE.exec(origin + pathname) ?? [];
  return base !== undefined && type !== undefined && id !== undefined ? { base, type, id } : undefined;
}

/**
 * Resolves the string of `Reference.reference`: `#contained`, `urn:` inside the same Bundle, absolute, relative, conditional.
 * Ids are compared whole and case-sensitive; an equal id on another base is another patient.
 * @see protocol section 7
 */
export function resolveReference(reference: string, place: ReferencePlace): Resolution {
  const relative = RELATIVE.exec(reference);
  if (relative) return relative[1] === 'Patient' ? resolvePatient(place.base, relative[2], place.own) : 'other';
  if (reference.startsWith('#')) return resolveContained(reference.slice(1), place);
  if (reference.startsWith('urn:')) return resolveEntry(reference, place);
  if (CONDITIONAL_DIRECTORY.test(reference)) return 'other';
  const absolute = splitAbsolute(reference);
  if (!absolute) return 'unknown';
  if (absolute.type === 'Patient') return resolvePatient(absolute.base, absolute.id, place.own);
  return /\/Patient(?:\/|$)/.test(absolute.base) ? 'unknown' : 'other';
}

/** A patient by base and id; unknown when the base is. */
export function resolvePatient(base: string | undefined, id: unknown, own: OwnPatient): Resolution {
  if (base === undefined || own.base === undefined) return 'unknown';
  return base === own.base && id === own.id ? 'own' : 'foreign';
}

function resolveContained(id: string, { contained, own }: ReferencePlace): Resolution {
  if (id === '') return 'other'; // the resource around, which is checked for itself
  const target = contained?.get(id);
  if (!isObject(target)) return 'unknown';
  return target.resourceType === 'Patient' ? resolveContainedPatient(target, own) : 'other';
}

/** A contained Patient has no id of its own on any server: only a business identifier can say who it is. */
export function resolveContainedPatient(patient: Readonly<Record<string, unknown>>, own: OwnPatient): Resolution {
  const identifiers = Array.isArray(patient.identifier) ? patient.identifier : [];
  return identifiers.some((identifier: unknown) => isKnown(identifier, own)) ? 'own' : 'foreign';
}

function resolveEntry(urn: string, { entries, base, own }: ReferencePlace): Resolution {
  const target = entries?.get(urn);
  if (!isObject(target)) return 'unknown';
  return target.resourceType === 'Patient' ? resolvePatient(base, target.id, own) : 'other';
}

/**
 * Resolves a whole Reference object: `reference`, `identifier` or both, which must then agree. `display` is never used.
 * A logical reference is the patient's only by a known identifier; of unknown type, and not known, it may be anybody.
 * @see protocol section 7
 */
export function resolveReferenceObject(object: Readonly<Record<string, unknown>>, place: ReferencePlace): Resolution {
  const { reference, identifier, type } = object;
  if (Object.hasOwn(object, '_reference') || (type !== undefined && typeof type !== 'string')) return 'unknown';
  const named = type?.replace('http://hl7.org/fhir/StructureDefinition/', '');
  if (reference !== undefined) {
    if (typeof reference !== 'string') return 'unknown';
    const resolution = resolveReference(reference, place);
    if (resolution === 'other') return named === 'Patient' ? 'unknown' : 'other';
    if (resolution !== 'own') return resolution;
    if (named !== undefined && named !== 'Patient') return 'unknown';
    return identifier === undefined || isKnown(identifier, place.own) ? 'own' : 'foreign';
  }
  if (named !== undefined && named !== 'Patient') return /^[A-Z][A-Za-z]{0,63}$/.test(named) ? 'other' : 'unknown';
  return isKnown(identifier, place.own) ? 'own' : 'unknown';
}

function isKnown(identifier: unknown, own: OwnPatient): boolean {
  if (!isObject(identifier)) return false;
  const { system, value } = identifier;
  return typeof system === 'string' && typeof value === 'string' && own.identifiers.has(`${system}|${value}`);
}

/** A JSON object: no list, not null. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
