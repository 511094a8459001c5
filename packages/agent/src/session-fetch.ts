import { HmcpError } from '@hmcp/core';
import { FetchReply, PeerStatus } from './fetch-reply.js';
import { type Asked, messageOf, readAsked } from './fetch-request.js';
import type { JsonRpcMessage, TransportFetch } from './instrument.js';
import type { PlaceMessage } from './message-place.js';
import { type LinkParts, PeerLink } from './peer-link.js';
import type { ResolvedPeer } from './peers.js';
import { peerAt } from './session-transport.js';

/** A request whose answer is waited for. */
interface Exchange {
  readonly id: string | number;
  readonly link: PeerLink;
  readonly reply: FetchReply;
  readonly stop: AbortController;
}

/**
 * A `fetch` for MCP clients that take nothing else: what each POST holds goes through the same link as on an instrumented transport.
 * Each request has a link of its own, because clients that share this `fetch` number their requests alike.
 * @see protocol section 7
 */
export function sessionFetch(options: {
  readonly parts: LinkParts;
  readonly peers: ReadonlyMap<string, ResolvedPeer>;
  /** Where what is asked at this very moment belongs: a client may take long to write its body, and the session goes on meanwhile. */
  readonly placeNow: () => PlaceMessage;
  /** The network itself. */
  readonly base: TransportFetch;
}): typeof globalThis.fetch {
  const { parts, peers, placeNow, base } = options;
  /** Requests under way, by address and session of the connection: what a cancellation can be about. */
  const underWay = new Map<string, Set<Exchange>>();

  return async (input, init) => {
    const place = placeNow();
    const asked = await readAsked(input, init);
    const peer = peerAt(peers, asked.url);
    const link = new PeerLink(peer, 'http', parts, place);
    if (peer === undefined) return refuseUndeclared(link, asked);
    // What comes on a stream beside the requests belongs to none of them.
    if (asked.method === 'DELETE')
      return withoutBody(await link.fetch(base)(asked.url, { method: 'DELETE', headers: asked.headers, ...until(asked.signal) }));
    if (asked.method !== 'POST') return new Response(null, { status: 405, headers: { allow: 'POST, DELETE' } });
    const message = messageOf(asked);
    if (message === undefined) throw new TypeError('a POST of an MCP client holds one JSON-RPC message');
    if (message.method === 'notifications/cancelled') return cancel(asked, message);
    return message.id === undefined || message.method === undefined
      ? tell(link, asked, message)
      : ask(link, asked, message, message.id);
  };

  /** A request: its answer comes checked, as JSON or as a stream, whichever the peer chose. */
  function ask(link: PeerLink, asked: Asked, message: JsonRpcMessage, id: string | number): Promise<Response> {
    const stop = new AbortController();
    const reply = new FetchReply(id, () => stop.abort());
    const exchange: Exchange = { id, link, reply, stop };
    const unlisten = follow(asked.signal, stop, reply);
    const forget = remember(exchange, keyOf(asked));
    const send = async (checked: JsonRpcMessage): Promise<void> => {
      const response = await post(link, asked, checked, stop.signal);
      // Its cancellation goes the same way, and has no answer.
      if (checked.id === undefined) return response.body?.cancel();
      await reply.take(response, (received) => link.incoming(received, reply.deliver, answerTo(link, asked)));
    };
    link
      .outgoing(message, send, { requestSignal: stop.signal }, reply.deliver)
      .catch((error: unknown) => reply.fail(error, link))
      .finally(() => {
        unlisten();
        forget();
      });
    return reply.response;
  }

  /** A notification, or an answer of the client: the peer has nothing to say to it. */
  async function tell(link: PeerLink, asked: Asked, message: JsonRpcMessage): Promise<Response> {
    const send = async (checked: JsonRpcMessage): Promise<void> => {
      const response = await post(link, asked, checked, asked.signal);
      await response.body?.cancel();
      if (!response.ok) throw new PeerStatus(response.status, undefined);
    };
    try {
      await link.outgoing(message, send, {}, () => undefined);
    } catch (error) {
      if (error instanceof PeerStatus) return new Response(null, { status: error.status });
      throw error instanceof Error ? link.failure(error) : error;
    }
    return new Response(null, { status: 202 });
  }

  /** Goes to the one request it can mean; where clients that share this `fetch` have two of that id, neither is stopped. */
  async function cancel(asked: Asked, message: JsonRpcMessage): Promise<Response> {
    const meant = [...(underWay.get(keyOf(asked)) ?? [])].filter(({ id }) => id === message.params?.requestId);
    const [exchange] = meant;
    if (meant.length > 1) parts.ledger.warn('a cancellation that may mean two requests was dropped');
    if (exchange === undefined || meant.length > 1) return new Response(null, { status: 202 });
    try {
      return await tell(exchange.link, asked, message);
    } finally {
      exchange.reply.leave();
      exchange.stop.abort();
    }
  }

  function remember(exchange: Exchange, key: string): () => void {
    const all = underWay.get(key) ?? new Set();
    underWay.set(key, all.add(exchange));
    return () => {
      all.delete(exchange);
      if (all.size === 0 && underWay.get(key) === all) underWay.delete(key);
    };
  }

  function post(
    link: PeerLink,
    { url, headers }: Asked,
    message: JsonRpcMessage,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    const body = JSON.stringify(message);
    return link.fetch(base)(url, { method: 'POST', headers, body, redirect: 'manual', ...until(signal) });
  }

  function answerTo(link: PeerLink, asked: Asked): (message: JsonRpcMessage) => Promise<void> {
    return async (message) => {
      const response = await post(link, asked, message, undefined);
      await response.body?.cancel();
    };
  }

  /** Refused and recorded as a request would be, whatever it was: nothing of a patient leaves by another address. */
  async function refuseUndeclared(link: PeerLink, asked: Asked): Promise<Response> {
    const message = asked.method === 'POST' ? messageOf(asked) : undefined;
    const { id, method } = message ?? {};
    const unsent = async (): Promise<never> => {
      throw new Error('nothing is sent to a server nobody declared');
    };
    const request: JsonRpcMessage = { jsonrpc: '2.0', id: id ?? 0, method: method ?? asked.method };
    const error = await link.outgoing(request, unsent, {}, () => undefined).catch((refused: unknown) => refused);
    if (id === undefined || !(error instanceof HmcpError)) throw error;
    return FetchReply.refusal(id, error);
  }
}

function keyOf({ url, headers }: Asked): string {
  return `${headers.get('mcp-session-id') ?? ''} ${url.href}`;
}

function until(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

/** Stops with `signal`. @returns what lets go of it: clients hand in one signal for their whole life */
function follow(signal: AbortSignal | undefined, stop: AbortController, reply: FetchReply): () => void {
  const abort = () => {
    reply.abort(signal?.reason);
    stop.abort(signal?.reason);
  };
  if (signal?.aborted) abort();
  else signal?.addEventListener('abort', abort, { once: true });
  return () => signal?.removeEventListener('abort', abort);
}

async function withoutBody(response: Response): Promise<Response> {
  await response.body?.cancel();
  return new Response(null, { status: response.status });
}
