import type { Resource } from './fhir-resource.js';

/** How much of each resource is answered: all of it, or its data without the narrative. */
export type Summary = 'all' | 'data';

/** What `_summary` asks for; `undefined` when that is not served here: it would change what an answer is. */
export function summaryOf(value: string | undefined): Summary | undefined {
  if (value === undefined || value === 'false') return 'all';
  return value === 'data' ? 'data' : undefined;
}

const SUBSETTED = { system: 'http://terminology.hl7.org/CodeSystem/v3-ObservationValue', code: 'SUBSETTED' };

/** A resource as far as it was asked for; one that lacks something says so. @see FHIR R4, search, "Summary" */
export function summarized(resource: Resource, summary: Summary): Resource {
  if (summary === 'all') return resource;
  const { text: _, ...data } = resource;
  const { tag, ...meta } = (resource.meta ?? {}) as { readonly tag?: unknown };
  return { ...data, meta: { ...meta, tag: [...(Array.isArray(tag) ? tag : []), SUBSETTED] } };
}
