import { isObject } from './references.js';

type Json = Readonly<Record<string, unknown>>;

/** Whether an object is a resource, or can be a Reference, by the names of its members. */
export function telling(keys: readonly string[]): 'resource' | 'reference' | undefined {
  let told: 'reference' | undefined;
  for (const key of keys) {
    if (key === 'resourceType') return 'resource';
    if (key === 'reference' || key === '_reference' || key === 'identifier') told = 'reference';
  }
  return told;
}

/** A Reference: it has `reference` (or the extension of one), or one `identifier` that is no list. */
export function isReference(object: Json): boolean {
  if (Object.hasOwn(object, 'reference') || Object.hasOwn(object, '_reference')) return true;
  return Object.hasOwn(object, 'identifier') && isObject(object.identifier) && isIdentifier(object.identifier);
}

function isIdentifier(object: Json): boolean {
  return typeof object.value === 'string' || typeof object.system === 'string';
}

/** A Reference in JSON outside FHIR: what it refers to is written as FHIR writes it. */
export function looksLikeFhir({ reference }: Json): boolean {
  if (reference === undefined) return true;
  return typeof reference === 'string' && /^(?:[A-Z][A-Za-z]*[/?]|urn:|#)/.test(reference);
}
