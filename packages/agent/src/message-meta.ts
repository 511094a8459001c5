import { type Envelope, isSealed } from '@hmcp/core';
import type { RequestScope } from '@hmcp/core/request-scope';
import type { CallFrame } from './call-frame.js';
import type { JsonRpcMessage } from './instrument.js';
import type { SessionProof } from './peer-tokens.js';

/** `params._meta` of a message; empty when it has none. */
export function metaOf(message: JsonRpcMessage): Readonly<Record<string, unknown>> {
  const meta = message.params?._meta;
  return typeof meta === 'object' && meta !== null ? (meta as Readonly<Record<string, unknown>>) : {};
}

/** The message with more members in its `params._meta`. */
export function withMeta(message: JsonRpcMessage, more: Readonly<Record<string, unknown>>): JsonRpcMessage {
  return { ...message, params: { ...message.params, _meta: { ...metaOf(message), ...more } } };
}

/**
 * The envelope of a request that leaves: forwarded unchanged, but for the seal's renewal; a permit goes only with the one call that
 * uses it.
 * @see protocol section 2.2
 */
export function envelopeOf(scope: RequestScope, proof: SessionProof | undefined, frame: CallFrame | undefined): Envelope {
  const { envelope } = scope.facts;
  if (!isSealed(envelope) || proof === undefined) return envelope;
  const { version, intent } = envelope;
  const permit = frame?.permit === undefined ? {} : { permit: frame.permit };
  return { version, seal: proof.seal, intent, ...permit };
}
