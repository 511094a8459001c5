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

function isContextKey(key: string): boolean {
  return key.startsWith('dev.hmcp/') || CARRIERS.has(key);
}

/** The same for HTTP headers: the protocol's transition header, its relatives in SHARP, and W3C carriers. */
export function isContextHeader(name: string): boolean {
  const lower = name.toLowerCase();
  return CARRIERS.has(lower) || lower.startsWith('x-hmcp-') || lower === 'x-patient-id' || lower.startsWith('x-fhir-');
}
