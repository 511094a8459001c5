import { type Binding, checkCompartment, type Operation, type PatientContext, PROTOCOL_VERSION } from '@hmcp/core';

/** What examining an answer found: releasable, with counts for the audit, or the fixed reason to withhold it. */
export type Examination =
  | {
      readonly release: true;
      readonly types: Readonly<Record<string, number>>;
      readonly unverifiable: number;
      readonly resources: number;
    }
  | { readonly release: false; readonly reason: string };

/**
 * Checks everything an answer carries against the patient in context: FHIR resources and references anywhere in it,
 * JSON inside text, embedded resources and blobs. JSON of an operation with `output` must satisfy it.
 * Free text, and JSON nobody declared a schema for, is counted as unverifiable.
 * @see protocol section 7
 */
export function examineResult(
  result: Readonly<Record<string, unknown>>,
  context: PatientContext,
  operation: Operation | undefined,
): Examination {
  const { _meta, ...said } = result;
  const options = { patient: context, sourceBase: context.fhirServer };
  const types: Record<string, number> = {};
  let resources = 0;
  let unverifiable = 0;
  const check = (value: unknown): string | undefined => {
    const verdict = checkCompartment(value, options);
    if (!verdict.inside) return verdict.reason;
    for (const [type, count] of Object.entries(verdict.types)) types[type] = (types[type] ?? 0) + count;
    resources += verdict.resources;
    return undefined;
  };

  if (said.structuredContent !== undefined) {
    if (operation?.output === undefined) unverifiable += 1;
    else if (!operation.output.safeParse(said.structuredContent).success)
      return { release: false, reason: 'the result does not satisfy the declared output' };
  }
  const outer = check(said);
  if (outer !== undefined) return { release: false, reason: outer };
  for (const text of textsOf(said)) {
    const json = asJson(text);
    if (json === undefined) {
      unverifiable += 1;
      continue;
    }
    if (operation?.output === undefined && !isResource(json)) unverifiable += 1;
    // The text form of structured content repeats it: its resources are checked, but counted once.
    const before = { ...types };
    const seen = resources;
    const inner = check(json);
    if (inner !== undefined) return { release: false, reason: inner };
    if (said.structuredContent !== undefined) {
      for (const type of Object.keys(types)) delete types[type];
      Object.assign(types, before);
      resources = seen;
    }
  }
  return { release: true, types, unverifiable, resources };
}

/** The binding of a released answer. `patients` is empty when the answer holds no resource of the patient. @see protocol section 2.4 */
export function bindResult(pk: string, intent: string, by: string, resources: number): Binding {
  return { version: PROTOCOL_VERSION, pk, pkScope: 'intent', intent: { id: intent }, by, patients: resources > 0 ? [pk] : [] };
}

/** Text blocks, text resources and decoded blobs, wherever the answer's method puts them. */
function* textsOf(value: unknown, depth = 0): Generator<string> {
  if (typeof value !== 'object' || value === null || depth > 40) return;
  if (Array.isArray(value)) {
    for (const item of value) yield* textsOf(item, depth + 1);
    return;
  }
  const record = value as Record<string, unknown>;
  const isText = record.type === 'text' || typeof record.uri === 'string';
  if (isText && typeof record.text === 'string') yield record.text;
  if (typeof record.uri === 'string' && typeof record.blob === 'string') yield decodeBlob(record.blob);
  if ((record.type === 'image' || record.type === 'audio') && typeof record.data === 'string') yield '(media)';
  for (const [key, inner] of Object.entries(record)) if (key !== 'structuredContent') yield* textsOf(inner, depth + 1);
}

function decodeBlob(blob: string): string {
  try {
    return new TextDecoder().decode(Uint8Array.from(atob(blob), (char) => char.charCodeAt(0)));
  } catch {
    return '(binary)';
  }
}

function asJson(text: string): object | undefined {
  const start = text.trimStart()[0];
  if (start !== '{' && start !== '[') return undefined;
  try {
    return JSON.parse(text) as object;
  } catch {
    return undefined;
  }
}

function isResource(value: object): boolean {
  return 'resourceType' in value;
}
