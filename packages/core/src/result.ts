import { type CompartmentVerdict, checkCompartment, checkText, combineVerdicts } from './compartment.js';
import { META } from './envelope.js';
import type { PatientIdentity } from './patient-context.js';

/** What a result was found to hold, or the fixed reason it must not go on. */
export type ResultVerdict =
  | Extract<CompartmentVerdict, { readonly inside: true }>
  | Extract<CompartmentVerdict, { readonly inside: false }>
  | { readonly inside: false; readonly reason: 'a blob is no base64' };

/** Whose result it is, and which part of it a schema describes. */
export interface ResultExpectation {
  readonly patient: PatientIdentity;
  /**
   * `structuredContent`: the operation's `output` describes that member, and it satisfied it. `members`: `output` describes
   * the result as a whole, as at a custom method. Parts no schema describes are counted as unverifiable. @default "nothing"
   */
  readonly described?: 'structuredContent' | 'members' | 'nothing' | undefined;
  /** Name of the operation's argument for the patient, which its answers may use too. @default none */
  readonly patientArgument?: string | null | undefined;
}

/** Verdict on what was judged elsewhere in the same result. */
const NOTHING: ResultVerdict = { inside: true, types: {}, resources: 0, unverifiable: 0 };

type Json = Readonly<Record<string, unknown>>;

/** Members of results that the SDK itself gives a shape; nothing of a patient fits in. */
const FRAME: ReadonlySet<string> = new Set(['isError', 'resultType', 'ttlMs', 'cacheScope', 'nextCursor']);

/**
 * Checks everything a result of any MCP method carries, at the server that releases it and again at the caller: every FHIR
 * resource, Reference and mention of a patient must be the context patient's, wherever it stands: `structuredContent`,
 * content, embedded resources, resource contents, prompt messages, members of custom methods, `_meta`, and JSON inside text
 * or base64; in JSON outside FHIR also every id under a patient's name. A text that repeats `structuredContent` is checked and not counted again.
 * @see protocol section 7
 */
export function checkResult(result: Json, { patient, described = 'nothing', patientArgument }: ResultExpectation): ResultVerdict {
  const options = { patient, sourceBase: patient.fhirServer, patientArgument };
  const check = (value: unknown, declared = false): ResultVerdict => checkCompartment(value, { ...options, declared });
  let json: { readonly text: string | undefined } | undefined;
  /** Of `structuredContent`; made when there is a text to compare it with. */
  const repeated = (): string | undefined => {
    json ??= { text: result.structuredContent === undefined ? undefined : JSON.stringify(result.structuredContent) };
    return json.text;
  };
  return combine(Object.entries(result).flatMap(([key, value]) => membersOf(key, value)));

  function membersOf(key: string, value: unknown): readonly ResultVerdict[] {
    if (key === '_meta') return [check(withoutBinding(value), true)];
    if (key === 'structuredContent') return [check(value, described !== 'nothing')];
    if (key === 'content') return list(value).map(contentVerdict);
    if (key === 'contents') return list(value).map(resourceVerdict);
    if (key === 'messages') return list(value).map(messageVerdict);
    return [check({ [key]: value }, described === 'members' || FRAME.has(key))]; // keys can name somebody too
  }

  function messageVerdict(message: unknown): ResultVerdict {
    const { content } = object(message);
    return combine([...list(content).map(contentVerdict), besides(message, 'content')]);
  }

  function contentVerdict(part: unknown): ResultVerdict {
    const { type, text, resource } = object(part);
    if (type === 'text' && typeof text === 'string') return combine([textVerdict(text), besides(part, 'text')]);
    if (type === 'resource') return combine([resourceVerdict(resource), besides(part, 'resource')]);
    return check(part);
  }

  function textVerdict(text: string): ResultVerdict {
    // What it repeats is checked as `structuredContent`, and its own bytes are JSON.stringify's: nothing in it can be read otherwise.
    if (text === repeated()) return NOTHING;
    const verdict = checkText(text, options);
    return verdict.inside && repeated() !== undefined && repeats(text) ? NOTHING : verdict;
  }

  function repeats(text: string): boolean {
    try {
      return JSON.stringify(JSON.parse(text)) === repeated();
    } catch {
      return false;
    }
  }

  function resourceVerdict(resource: unknown): ResultVerdict {
    const { text, blob } = object(resource);
    const parts = [besides(resource, 'text', 'blob')];
    if (text !== undefined) parts.push(typeof text === 'string' ? checkText(text, options) : check(text));
    if (blob !== undefined) parts.push(blobVerdict(blob));
    return combine(parts);
  }

  function blobVerdict(blob: unknown): ResultVerdict {
    const bytes = typeof blob === 'string' ? decodeBase64(blob) : undefined;
    // Somebody less strict may still read what cannot be decoded here.
    if (bytes === undefined) return { inside: false, reason: 'a blob is no base64' };
    return checkText(new TextDecoder().decode(bytes), options);
  }

  /** The other members of a part: type, URI, annotations. They frame it, and are no part to verify of their own. */
  function besides(part: unknown, ...members: readonly string[]): ResultVerdict {
    return check(Object.fromEntries(Object.entries(object(part)).filter(([key]) => !members.includes(key))), true);
  }
}

function combine(verdicts: readonly ResultVerdict[]): ResultVerdict {
  const withheld = verdicts.find((verdict) => !verdict.inside);
  if (withheld !== undefined) return withheld;
  return combineVerdicts(verdicts.filter((verdict) => verdict.inside));
}

/** Standard and URL-safe alphabet; undefined when it is neither. */
function decodeBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));
  } catch {
    return undefined;
  }
}

function withoutBinding(meta: unknown): Json {
  const { [META.context]: _, ...rest } = object(meta);
  return rest;
}

function object(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : value === undefined ? [] : [value];
}
