import { type ResourceScope, satisfies, type VerifiedToken } from '@hmcp/core';
import { searchParameter } from './fhir-parameters.js';
import type { Resource } from './fhir-resource.js';
import { parameterFilter } from './fhir-search.js';
import type { Records } from './records.js';

/** True for a resource the token may have. */
export type Permits = (resource: Resource) => boolean;

/**
 * What a token may read or search of one FHIR type, decided from its scopes alone: each granted scope admits the rows that match
 * all of its constraints, and several scopes are a union. A constraint this server cannot evaluate makes its scope grant nothing.
 * `undefined` when no scope grants anything (403 `insufficient_scope`).
 * @see protocol section 2.1
 */
export function scopePermits(token: VerifiedToken, type: string, interaction: 'r' | 's'): Permits | undefined {
  const permits = token.scopes.flatMap((scope): Permits[] => {
    if (scope.kind !== 'resource') return [];
    const { constraints } = scope;
    const wanted: ResourceScope = { kind: 'resource', raw: '', level: 'patient', type, ops: new Set([interaction]), constraints };
    return satisfies([scope], [wanted], token) ? constraintPermits(type, constraints) : [];
  });
  return permits.length === 0 ? undefined : (resource) => permits.some((permit) => permit(resource));
}

function constraintPermits(type: string, constraints: ReadonlyMap<string, string>): Permits[] {
  const filters: Permits[] = [];
  for (const [name, value] of constraints) {
    const parameter = searchParameter(type, name);
    const filter = parameter && parameterFilter(parameter, value);
    if (filter === undefined) return [];
    filters.push(filter);
  }
  return [(resource) => filters.every((filter) => filter(resource))];
}

/**
 * True when a resource is in the token's patient's chart, or is a directory resource. Whatever names another patient
 * anywhere is in nobody's.
 * @see protocol section 7
 */
export function inCompartment(records: Records, token: VerifiedToken, resource: Resource): boolean {
  const owner = records.patientOf(resource);
  return owner === undefined ? records.isShared(resource) : owner === token.patient;
}

/**
 * True when the resource is the person of the token's `fhirUser` claim and the `fhirUser` scope was granted: readable although
 * outside the chart. A `fhirUser` that is another patient is not.
 */
export function isFhirUser(token: VerifiedToken, base: string, resource: Resource): boolean {
  const { resourceType, id } = resource;
  if (!['Practitioner', 'PractitionerRole'].includes(resourceType)) return false;
  return token.fhirUser === `${base}/${resourceType}/${id}` && token.scopes.some(({ raw }) => raw === 'fhirUser');
}
