import { checkCompartment, type PatientContext } from '@hmcp/core';

/** Verdict on an answer: what it holds, or the fixed reason it must be dropped. */
export type ResultVerdict =
  | { readonly inside: true; readonly types: Readonly<Record<string, number>>; readonly unverifiable: number }
  | { readonly inside: false; readonly reason: string };

const MAX_DEPTH = 4;

/**
 * The caller's own check of an answer: every FHIR resource, Reference and `Patient/…` string in it must be the context
 * patient's, wherever it stands: `structuredContent`, content, embedded resources, resource contents, prompt messages, `_meta`,
 * and JSON inside text or base64, up to four levels deep.
 * @param options.contract true when the caller parses `structuredContent` with a contract's `output`, so that it is verifiable
 * @see protocol section 7
 */
export function checkResult(
  result: unknown,
  options: { readonly patient: PatientContext; readonly contract: boolean },
): ResultVerdict {
  const { patient } = options;
  const compartment = { patient, sourceBase: patient.fhirServer };
  const whole = checkCompartment(result, compartment);
  if (!whole.inside) return whole;
  const types = new Map(Object.entries(whole.types));
  const inline = whole.resources > 0;
  let level = [...jsonInside(result)];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === MAX_DEPTH) return { inside: false, reason: 'JSON nested in text too deep' };
    const next: unknown[] = [];
    for (const value of level) {
      const verdict = checkCompartment(value, compartment);
      if (!verdict.inside) return verdict;
      if (!inline) for (const [type, count] of Object.entries(verdict.types)) types.set(type, (types.get(type) ?? 0) + count);
      next.push(...jsonInside(value));
    }
    level = next;
  }
  return { inside: true, types: Object.fromEntries(types), unverifiable: countUnverifiable(result, options.contract) };
}

/** Values of every string in `value` that is a JSON object or array, as text or as base64 of `blob` members. */
function* jsonInside(value: unknown): Generator<unknown> {
  const queue: unknown[] = [value];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    if (typeof next === 'string') {
      const parsed = parseJson(next);
      if (parsed !== undefined) yield parsed;
    } else if (typeof next === 'object' && next !== null) {
      for (const [key, inner] of Object.entries(next)) {
        if (inner === null || inner === undefined) continue;
        if (key === 'blob' && typeof inner === 'string') {
          const parsed = parseJson(Buffer.from(inner, 'base64').toString('utf8'));
          if (parsed !== undefined) yield parsed;
        } else queue.push(inner);
      }
    }
  }
}

function parseJson(text: string): object | undefined {
  const start = text.replace(/^\uFEFF/, '').trimStart();
  if (!start.startsWith('{') && !start.startsWith('[')) return undefined;
  try {
    const parsed: unknown = JSON.parse(start);
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined;
  } catch {
    return undefined;
  }
}

/** Parts nobody can check: free text and binary content, and JSON that no contract describes. */
function countUnverifiable(result: unknown, contract: boolean): number {
  const { structuredContent, content, contents, messages, completion } = record(result);
  let count = structuredContent !== undefined && !contract && !isFhir(structuredContent) ? 1 : 0;
  for (const part of [...array(content), ...array(messages).map((message) => record(message)['content'])].map(record)) {
    if (part['type'] === 'text') {
      const parsed = typeof part['text'] === 'string' ? parseJson(part['text']) : undefined;
      if (parsed === undefined || (structuredContent === undefined && !isFhir(parsed))) count++;
    } else if (part['type'] !== 'resource' || !isVerifiableContents(record(part['resource']))) count++;
  }
  for (const part of array(contents)) if (!isVerifiableContents(record(part))) count++;
  return count + array(record(completion)['values']).length;
}

function isVerifiableContents(part: Readonly<Record<string, unknown>>): boolean {
  const { text, blob } = part;
  const parsed =
    typeof text === 'string'
      ? parseJson(text)
      : typeof blob === 'string'
        ? parseJson(Buffer.from(blob, 'base64').toString('utf8'))
        : undefined;
  return parsed !== undefined && isFhir(parsed);
}

function isFhir(value: unknown): boolean {
  return typeof record(value)['resourceType'] === 'string';
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

function array(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
