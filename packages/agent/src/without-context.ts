import type { JsonRpcMessage } from './instrument.js';

/** W3C members that carry whatever an ancestor put in; never sent. */
const CARRIERS: ReadonlySet<string> = new Set(['baggage', 'tracestate']);

/**
 * The message without anything in `params._meta` that says, or could say, whom it is about: this project's own keys in any
 * spelling, `baggage`, `tracestate`. What a caller wrote there is never sent: this package is the last writer.
 * @see protocol sections 2.2 and 3
 */
export function withoutContext(message: JsonRpcMessage): JsonRpcMessage {
  const meta = message.params?._meta;
  if (typeof meta !== 'object' || meta === null) return message;
  const kept = Object.entries(meta).filter(([key]) => !isContextKey(key.toLowerCase()));
  return { ...message, params: { ...message.params, _meta: Object.fromEntries(kept) } };
}

/**
 * What a peer said without this project's own keys in `_meta`. They are read by the checks only: frameworks show `_meta` to a model,
 * and a binding holds `pk` beside the intent that keys it. Every other key stays; a `_meta` of which nothing is left goes.
 * @see protocol section 2.4
 */
export function withoutOwnKeys(message: JsonRpcMessage): JsonRpcMessage {
  const { params, result } = message;
  return {
    ...message,
    ...(params === undefined ? {} : { params: bared(params) }),
    ...(result === undefined ? {} : { result: bared(result) }),
  };
}

function bared<T>(said: T): T {
  if (typeof said !== 'object' || said === null || !('_meta' in said)) return said;
  const { _meta: meta, ...rest } = said;
  if (typeof meta !== 'object' || meta === null) return said;
  const kept = Object.entries(meta).filter(([key]) => !isOwnKey(key.toLowerCase()));
  return (kept.length === 0 ? rest : { ...rest, _meta: Object.fromEntries(kept) }) as T;
}

function isOwnKey(key: string): boolean {
  return key.startsWith('dev.hmcp/');
}

function isContextKey(key: string): boolean {
  return isOwnKey(key) || CARRIERS.has(key);
}

/** The same for HTTP headers: the protocol's transition header, its relatives in SHARP, and W3C carriers. */
export function isContextHeader(name: string): boolean {
  const lower = name.toLowerCase();
  return CARRIERS.has(lower) || lower.startsWith('x-hmcp-') || lower === 'x-patient-id' || lower.startsWith('x-fhir-');
}
