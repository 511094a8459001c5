import { AUDIT_REASONS, type PatientContext } from '@hmcp/core';
import type { Inbound } from './admission.js';
import { isJsonObject, type Json } from './message.js';
import { examineResult } from './result.js';

/** A part of a result that nobody can check, in fixed words. */
type Part =
  | 'structuredContent, for which no `output` is declared'
  | 'structuredContent, which has members that `output` does not name'
  | 'text of content, without structuredContent that `output` could describe'
  | 'text of content that is not the JSON of structuredContent'
  | 'content that is no text'
  | 'contents'
  | 'messages'
  | 'another member';

/**
 * Why a result counts as one that nobody can check, for the local audit: which parts, never what is in them. Asked only of a result that is
 * withheld for it, so that it costs nothing elsewhere.
 * @see protocol section 5
 */
export function uncheckable({ method, operation }: Pick<Inbound, 'method' | 'operation'>, result: Json, patient: PatientContext) {
  const { structuredContent } = result;
  const structured = structuredContent === undefined ? {} : { structuredContent };
  const count = (part: Json): number => {
    const verdict = examineResult(method, part, patient, operation);
    return verdict.inside ? verdict.unverifiable : 0;
  };
  const own = count(structured);
  const parts = new Set<Part>();
  if (own > 0) {
    const declared = operation?.output !== undefined;
    parts.add(
      declared
        ? 'structuredContent, which has members that `output` does not name'
        : 'structuredContent, for which no `output` is declared',
    );
  }
  for (const [key, value] of Object.entries(result)) {
    if (key === 'structuredContent') continue;
    // Beside that member, for a text may repeat it.
    for (const [part, said] of partsOf(key, value, structuredContent !== undefined))
      if (count({ ...structured, [key]: said }) > own) parts.add(part);
  }
  if (parts.size === 0) parts.add('another member');
  return `${AUDIT_REASONS.uncheckable}: ${[...parts].join('; ')}` as const;
}

/** A member by the parts it may hold: content is text, and what is none. */
function partsOf(key: string, value: unknown, hasJson: boolean): readonly (readonly [Part, unknown])[] {
  if (key === 'contents' || key === 'messages') return [[key, value]];
  if (key !== 'content' || !Array.isArray(value)) return [['another member', value]];
  const isText = (item: unknown): boolean => isJsonObject(item) && item.type === 'text';
  const text = hasJson
    ? 'text of content that is not the JSON of structuredContent'
    : 'text of content, without structuredContent that `output` could describe';
  return [
    [text, value.filter(isText)],
    ['content that is no text', value.filter((item) => !isText(item))],
  ];
}
