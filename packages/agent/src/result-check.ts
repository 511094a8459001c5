import { type CompartmentVerdict, checkCompartment, checkText, combineVerdicts, META, type PatientContext } from '@hmcp/core';

/** Verdict on an answer: what it holds, or the fixed reason it must be dropped. */
export type ResultVerdict =
  | { readonly inside: true; readonly types: Readonly<Record<string, number>>; readonly unverifiable: number }
  | { readonly inside: false; readonly reason: string };

/** Whose answer it is, and whether a contract describes its `structuredContent`. */
export interface ResultExpectation {
  readonly patient: PatientContext;
  readonly contract: boolean;
}

type Json = Readonly<Record<string, unknown>>;

/** Members of results that the SDK itself gives a shape; nothing of a patient fits in. */
const FRAME: ReadonlySet<string> = new Set(['isError', 'resultType', 'ttlMs', 'cacheScope', 'nextCursor']);

/**
 * The caller's own check of an answer, also from a peer that checked it before: every FHIR resource, Reference and mention of a
 * patient must be the context patient's, wherever it stands: `structuredContent`, content, embedded resources, resource
 * contents, prompt messages, members of custom methods, `_meta`, and JSON inside text or base64.
 * @see protocol section 7
 */
export function checkResult(result: Json, { patient, contract }: ResultExpectation): ResultVerdict {
  const options = { patient, sourceBase: patient.fhirServer };
  const check = (value: unknown, declared = false) => checkCompartment(value, { ...options, declared });
  const verdicts: CompartmentVerdict[] = [];
  const structured = result.structuredContent !== undefined;
  for (const [key, value] of Object.entries(result)) {
    if (key === '_meta') verdicts.push(check(withoutBinding(value), true));
    else if (key === 'structuredContent') verdicts.push(check(value, contract));
    else if (key === 'content') verdicts.push(...list(value).map((part) => copyOf(structured, part, contentVerdict(part))));
    else if (key === 'contents') verdicts.push(...list(value).map(resourceVerdict));
    else if (key === 'messages') verdicts.push(...list(value).map((message) => contentVerdict(json(message).content)));
    else verdicts.push(check(value, FRAME.has(key)));
  }
  const verdict = combineVerdicts(verdicts);
  return verdict.inside ? { inside: true, types: verdict.types, unverifiable: verdict.unverifiable } : verdict;

  function contentVerdict(part: unknown): CompartmentVerdict {
    const { type, text, resource } = json(part);
    if (type === 'text' && typeof text === 'string') return combineVerdicts([checkText(text, options), besides(part, 'text')]);
    if (type === 'resource') return combineVerdicts([resourceVerdict(resource), besides(part, 'resource')]);
    return check(part);
  }

  function resourceVerdict(resource: unknown): CompartmentVerdict {
    const { text, blob } = json(resource);
    if (typeof text === 'string') return combineVerdicts([checkText(text, options), besides(resource, 'text')]);
    if (typeof blob !== 'string') return check(resource);
    const decoded = checkText(Buffer.from(blob, 'base64').toString('utf8'), options);
    return combineVerdicts([decoded, besides(resource, 'blob')]);
  }

  /** The other members of a part: type, URI, annotations. */
  function besides(part: unknown, member: string): CompartmentVerdict {
    const { [member]: _, ...rest } = json(part);
    return check(rest, true);
  }
}

/** A text beside `structuredContent` says the same again, for models: checked, but counted once. */
function copyOf(structured: boolean, part: unknown, verdict: CompartmentVerdict): CompartmentVerdict {
  if (!structured || !verdict.inside || json(part).type !== 'text') return verdict;
  return { ...verdict, types: {}, resources: 0, unverifiable: 0 };
}

function withoutBinding(meta: unknown): Json {
  const { [META.context]: _, ...rest } = json(meta);
  return rest;
}

function json(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : value === undefined ? [] : [value];
}
