import { parseStrictJson } from '@hmcp/core';

/** Largest message accepted, in bytes. @see protocol section 3 */
export const MAX_BODY_BYTES = 1_048_576;

/** Deepest nesting of a message: deeper ones exhaust the stack of some reader behind. */
export const MAX_DEPTH = 64;

/** A JSON-RPC message, loosely: the guard looks at it before any schema does. */
export interface Message {
  readonly jsonrpc?: unknown;
  readonly id?: unknown;
  readonly method?: unknown;
  readonly params?: unknown;
  readonly result?: unknown;
  readonly error?: unknown;
}

/** A member of JSON that has members. */
export type Json = Readonly<Record<string, unknown>>;

/** A message that was read, or the JSON-RPC error that answers what could not be. */
export type ReadMessage =
  | { readonly ok: true; readonly message: Json }
  | { readonly ok: false; readonly code: -32700 | -32600; readonly says: 'Parse error' | 'Invalid Request' };

/**
 * Reads one message: JSON, without repeated names, not nested beyond {@link MAX_DEPTH}, one object. A batch could carry two patients.
 * @see protocol section 3
 */
export function readMessage(text: string): ReadMessage {
  const parsed = parseStrictJson(text);
  if (!parsed.ok && parsed.reason === 'not JSON') return { ok: false, code: -32700, says: 'Parse error' };
  if (!parsed.ok || !isJsonObject(parsed.value) || isDeep(parsed.value)) {
    return { ok: false, code: -32600, says: 'Invalid Request' };
  }
  return { ok: true, message: parsed.value };
}

/** True for a JSON object: no list, not null. */
export function isJsonObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `params._meta`, or an empty object. */
export function metaOf(params: Json): Json {
  return isJsonObject(params._meta) ? params._meta : {};
}

/** Level by level, without recursion. */
function isDeep(value: unknown): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > MAX_DEPTH) return true;
    level = level.flatMap((one) => (typeof one === 'object' && one !== null ? Object.values(one) : []));
  }
  return false;
}
