import { AuthorityUnavailable } from '@hmcp/auth';
import { HmcpError, META, methodClass } from '@hmcp/core';
import type { AuthInfo, MessageExtraInfo } from '@modelcontextprotocol/server';
import type { Inbound } from './admission.js';
import { makeDurable } from './audit.js';
import type { AgentEnv } from './define-agent.js';
import { isJsonObject, type Message, metaOf } from './message.js';

/** What the layer in front of the guard knows of one request: its verified token and the headers that count. */
export interface Exchange extends Pick<Inbound, 'token' | 'accessToken' | 'header' | 'traceparent'> {
  /** `http`: behind the gate, which answers 403 to a scope refusal. `pipe`: JSON-RPC 40300. */
  readonly carrier: 'http' | 'pipe';
  /** Aborts when the caller goes away. */
  readonly signal?: AbortSignal | undefined;
  /** Set by the guard: the scopes to name in a 403, decided before the first byte is sent. */
  challenge?: string | undefined;
  /** Set where answers are written by this package: takes the whole answer in the place of what the SDK would make of it. */
  takesWhole?: ((answer: string) => void) | undefined;
  /** Decisions under way; the gate waits for them before it lets a response begin. */
  readonly deciding: Promise<unknown>[];
}

/** A handshake on a pipe, which needs no token. @see protocol section 3 */
export const HANDSHAKE = 'handshake';

const gated = new WeakMap<AuthInfo, Exchange>();

/** Attaches what the gate verified to the object the SDK carries to the transport. */
export function behindGate(authInfo: AuthInfo, exchange: Exchange): void {
  gated.set(authInfo, exchange);
}

/** The exchange that passed the gate, if this message did. */
export function gatedExchange(extra: MessageExtraInfo | undefined): Exchange | undefined {
  return extra?.authInfo && gated.get(extra.authInfo);
}

/**
 * The exchange of a message: the gate's, or on a pipe (stdio, in-process) its own token. HTTP that did not pass the gate has
 * none. Behind the gate it is known at once, so that the gate sees the decision begin.
 */
export function exchangeOf(
  message: Message,
  extra: MessageExtraInfo | undefined,
  env: AgentEnv,
  pinned?: string,
): Exchange | undefined | Promise<Exchange | typeof HANDSHAKE> {
  return gatedExchange(extra) ?? (cameByHttp(extra) ? undefined : onPipe(message, env, pinned));
}

/** SDK v2 hands on the `request`, SDK v1 says of it in `requestInfo`. */
function cameByHttp(extra: MessageExtraInfo | undefined): boolean {
  return extra?.request !== undefined || (extra !== undefined && 'requestInfo' in extra);
}

/**
 * The token of one request on a pipe: its own, else the process's, never a choice between two.
 * @throws {HmcpError} 40100 for a token fault, 50301 when its authority is down, 50302 when that could not be recorded
 * @see protocol section 2.7
 */
async function onPipe(message: Message, env: AgentEnv, pinned: string | undefined): Promise<Exchange | typeof HANDSHAKE> {
  if (methodClass(String(message.method)) === 'handshake') return HANDSHAKE;
  const refuse = async (code: 40100 | 50301, reason: string): Promise<HmcpError> => {
    await makeDurable(env, { event: 'request.refused', outcome: 4, code, check: 'token', reason, by: env.resource });
    return new HmcpError(code, { by: env.resource, check: 'token' }, { reason });
  };
  const sent = isJsonObject(message.params) ? metaOf(message.params)[META.authorization] : undefined;
  if (sent !== undefined && pinned !== undefined) throw await refuse(40100, 'a token beside the one the process is pinned to');
  const accessToken = sent ?? pinned;
  if (accessToken === undefined) throw await refuse(40100, 'no access token');
  if (typeof accessToken !== 'string') throw await refuse(40100, 'the token is no string');
  try {
    return { token: await env.verifier.verify(accessToken), accessToken, carrier: 'pipe', deciding: [] };
  } catch (error) {
    throw error instanceof AuthorityUnavailable
      ? await refuse(50301, 'the authority is unavailable')
      : await refuse(40100, 'the token could not be verified');
  }
}
