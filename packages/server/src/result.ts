import {
  type Binding,
  type CompartmentVerdict,
  checkCompartment,
  checkText,
  combineVerdicts,
  type Operation,
  type PatientContext,
  PROTOCOL_VERSION,
} from '@hmcp/core';

/** What examining an answer found: FHIR types, counts and unverifiable parts, or the fixed reason to withhold it. */
export type Examination = Extract<CompartmentVerdict, { inside: true }> | { readonly inside: false; readonly reason: string };

const FRAMED: readonly string[] = ['tools/call', 'resources/read', 'prompts/get'];

/**
 * Checks everything an answer carries against the patient in context: FHIR resources and references anywhere in it,
 * also inside text, embedded resources and blobs. Structured content of an operation with `output` must satisfy it.
 * Free text, media, and JSON nobody declared a schema for are counted as unverifiable.
 * @see protocol section 7
 */
export function examineResult(
  method: string,
  result: Readonly<Record<string, unknown>>,
  context: PatientContext,
  operation: Operation | undefined,
): Examination {
  const { _meta, structuredContent, ...said } = result;
  const options = { patient: context, sourceBase: context.fhirServer };
  const output = operation?.output;
  if (!FRAMED.includes(method)) {
    if (output !== undefined && !output.safeParse(said).success)
      return { inside: false, reason: 'the result does not satisfy the declared output' };
    return checkCompartment(said, { ...options, declared: output !== undefined });
  }
  if (structuredContent !== undefined && output !== undefined && !output.safeParse(structuredContent).success) {
    return { inside: false, reason: 'the result does not satisfy the declared output' };
  }
  // The frame (block types, URIs, names) is looked through for patients too, but is not itself a part to verify.
  const frame = checkCompartment(said, options);
  if (!frame.inside) return frame;
  const repeated = structuredContent === undefined ? undefined : JSON.stringify(structuredContent);
  const texts = [...textsOf(said)].filter((text) => text !== repeated);
  return combineVerdicts([
    checkCompartment(structuredContent, { ...options, declared: output !== undefined }),
    ...texts.map((text) => checkText(text, options)),
  ]);
}

/** The binding of a released answer. `patients` is empty when the answer holds no resource of the patient. @see protocol section 2.4 */
export function bindResult(pk: string, intent: string, by: string, resources: number): Binding {
  return { version: PROTOCOL_VERSION, pk, pkScope: 'intent', intent: { id: intent }, by, patients: resources > 0 ? [pk] : [] };
}

/** Text blocks, text resources, decoded blobs and a word for media, wherever the answer's method puts them. */
function* textsOf(value: unknown): Generator<string> {
  if (typeof value !== 'object' || value === null) return;
  if (Array.isArray(value)) {
    for (const item of value) yield* textsOf(item);
    return;
  }
  const block = value as Record<string, unknown>;
  const carries = block.type === 'text' || typeof block.uri === 'string';
  if (carries && typeof block.text === 'string') yield block.text;
  if (carries && typeof block.blob === 'string') yield Buffer.from(block.blob, 'base64').toString('utf8');
  if ((block.type === 'image' || block.type === 'audio') && typeof block.data === 'string') yield block.type;
  for (const inner of Object.values(block)) yield* textsOf(inner);
}
