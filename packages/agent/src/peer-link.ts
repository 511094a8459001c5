import { HmcpError, isSealed, META, methodClass } from '@hmcp/core';
import { currentScope, outsideScope, type RequestScope } from '@hmcp/core/request-scope';
import { admitNotification, errorAnswer, judgeAnswer, releaseAnswer, withoutCaching } from './answer-check.js';
import { BoundRequest } from './bound-request.js';
import { type CallFrame, callFrame, sending } from './call-frame.js';
import { deliverable, isSuperseded } from './delivery.js';
import type { HopLedger } from './hop-ledger.js';
import type { JsonRpcMessage, SendOptions, TransportFetch, TransportHooks } from './instrument.js';
import { envelopeOf, metaOf, withMeta } from './message-meta.js';
import { inCurrentScope, type MessagePlace, type PlaceMessage } from './message-place.js';
import { CLIENT_NOTIFICATIONS, SERVER_NOTIFICATIONS } from './methods.js';
import { peerFetch } from './peer-fetch.js';
import { defaultTimeoutMs, type PeerTokens, type SessionProof } from './peer-tokens.js';
import type { ResolvedPeer } from './peers.js';
import type { SealKeeper } from './seal-keeper.js';
import { sealOf } from './sealed-scope.js';
import { nextTraceparent, type RandomBytes } from './traceparent.js';
import { withoutContext, withoutOwnKeys } from './without-context.js';

/** What a link needs of its agent. */
export interface LinkParts {
  readonly ledger: HopLedger;
  readonly tokens: PeerTokens;
  readonly seals: SealKeeper;
  readonly now: () => number;
  readonly random: RandomBytes;
}

type Id = string | number;
type Write = (message: JsonRpcMessage) => Promise<void>;
type Deliver = (message: JsonRpcMessage) => void;
/** How a request about a patient reaches its peer and its client. */
interface Wire {
  readonly send: Write;
  readonly deliver: Deliver;
  readonly options: SendOptions;
}

/** A request without a patient that waits for its answer. */
interface UnboundRequest {
  /** The scope it was written in; what answers it is delivered there. */
  readonly origin: RequestScope | undefined;
  readonly method: string;
  readonly end: () => void;
}

/** What the record of a client's goodbye says. */
const END_OF_SESSION: JsonRpcMessage = { jsonrpc: '2.0', method: 'DELETE' };

/** Milliseconds an answer may still come after its session went on: then the connection is cut. */
const LATE_MS = 60_000;

/**
 * The guard on one connection to one peer: everything that leaves gets what the current request may send there and nothing
 * else; everything that comes back is checked against the request it answers before the client sees it.
 * @see protocol sections 2.4, 3 and 4
 */
export class PeerLink implements TransportHooks {
  /** `undefined`: a server nobody declared. */
  readonly #peer: ResolvedPeer | undefined;
  readonly #isHmcp: boolean;
  readonly #kind: 'http' | 'stdio';
  readonly #parts: LinkParts;
  readonly #ledger: HopLedger;
  /** Requests about a patient that wait for their answer. */
  readonly #bound = new Map<Id, BoundRequest>();
  /** Requests settled because their session went on; their answers are waited for only to be dropped. */
  readonly #late = new Map<Id, BoundRequest>();
  /** Requests without a patient: handshake, catalogue, or made outside every request. */
  readonly #unbound = new Map<Id, UnboundRequest>();
  readonly #place: PlaceMessage;

  /** @param place says which scope a message goes with. @default the one it is written in */
  constructor(peer: ResolvedPeer | undefined, kind: 'http' | 'stdio', parts: LinkParts, place: PlaceMessage = inCurrentScope) {
    this.#peer = peer;
    this.#isHmcp = peer?.kind === 'hmcp';
    this.#kind = kind;
    this.#parts = parts;
    this.#ledger = parts.ledger;
    this.#place = place;
  }

  async outgoing(message: JsonRpcMessage, send: Write, options: SendOptions, deliver: Deliver): Promise<void> {
    const { id, method } = message;
    // A client answers only what it was asked, and it was asked nothing: server requests are refused below.
    if (method === undefined) return;
    const bare = withoutContext(message);
    if (id === undefined) return this.#sendNotification(method, bare, send);
    this.#unused(id);
    const place = await this.#placeOf(bare);
    try {
      await this.#sendRequest(id, method, bare, place, { send, deliver, options });
    } catch (error) {
      place.end();
      throw error;
    }
  }

  /** @returns of a notification that has to be judged: when it is, and was handed over or dropped */
  incoming(message: JsonRpcMessage, deliver: Deliver, reply: Write): Promise<void> | undefined {
    const { id, method } = message;
    if (method !== undefined && id === undefined) return this.#receiveNotification(method, message, deliver);
    if (method !== undefined && id !== undefined) this.#refuseServerRequest(id, method, reply);
    else if (id !== undefined) this.#receiveAnswer(id, message, deliver);
    return undefined;
  }

  failure(error: Error): Error {
    return error instanceof HmcpError ? error : new Error('the connection to the peer failed');
  }

  fetch(base: TransportFetch): TransportFetch {
    const fetch = peerFetch(base, this.#peer, (...refused) => this.#ledger.refusal(currentScope(), ...refused));
    return (url, init) => (init?.method === 'DELETE' ? this.#endSession(() => fetch(url, init)) : fetch(url, init));
  }

  closed(): void {
    for (const id of [...this.#bound.keys()]) this.#take(id)?.lost();
    for (const id of [...this.#unbound.keys()]) this.#takeUnbound(id);
    this.#late.clear();
  }

  /** Where a message belongs; one that may not leave from inside another request is refused there. */
  async #placeOf(bare: JsonRpcMessage): Promise<MessagePlace> {
    try {
      return await this.#place();
    } catch (error) {
      const scope = currentScope();
      throw scope === undefined ? error : await this.#refuse(scope, bare, error);
    }
  }

  /** Two requests of one id could get each other's answers. @throws {TypeError} while an earlier one may still be answered */
  #unused(id: Id): void {
    if ([this.#bound, this.#unbound, this.#late].some((waiting) => waiting.has(id)))
      throw new TypeError('a request of this id is still under way');
  }

  async #sendRequest(id: Id, method: string, bare: JsonRpcMessage, place: MessagePlace, wire: Wire): Promise<void> {
    const { scope } = place;
    if (this.#peer === undefined && scope !== undefined) {
      throw await this.#refuse(scope, bare, this.#ledger.refusal(scope, 42801, 'peer', 'a server nobody declared'));
    }
    const aboutPatient = methodClass(method) === 'context';
    if (!aboutPatient || (scope === undefined && !this.#isHmcp)) return this.#sendUnbound(id, method, bare, place, wire);
    if (scope === undefined) throw await this.#ledger.refusedOutside(this.#start(bare));
    return this.#sendBound(id, bare, scope, place.end, wire);
  }

  /** A client ends its session at the server beside every message, so the request gets its token here. */
  async #endSession(end: () => Promise<Response>): Promise<Response> {
    const place = await this.#placeOf(END_OF_SESSION);
    try {
      const { scope } = place;
      const token =
        this.#isHmcp && scope !== undefined ? await this.#token(scope, undefined, await this.#proof(scope)) : undefined;
      return await sending.run({ token, traceparent: undefined }, end);
    } finally {
      place.end();
    }
  }

  async #sendNotification(method: string, bare: JsonRpcMessage, send: Write): Promise<void> {
    if (!CLIENT_NOTIFICATIONS.has(method)) {
      this.#ledger.warn('a client notification outside the closed list was dropped');
      return;
    }
    if (method !== 'notifications/cancelled') {
      const place = await this.#placeOf(bare);
      try {
        return await this.#sendUnbound(undefined, method, bare, place, { send, options: {} });
      } finally {
        place.end();
      }
    }
    const requestId = bare.params?.requestId as Id;
    const request = this.#take(requestId);
    if (request === undefined && this.#takeUnbound(requestId) === undefined) return;
    request?.abandon();
    await this.#sendCancelled(bare, request, send);
  }

  async #sendCancelled(bare: JsonRpcMessage, request: BoundRequest | undefined, send: Write): Promise<void> {
    // The reason is text of whoever aborted; the keys of the SDK's own envelope stay.
    const { reason: _, ...params } = bare.params ?? {};
    const withToken = this.#withToken({ ...bare, params }, request?.token);
    await sending.run({ token: request?.token, traceparent: undefined }, () => send(withToken));
  }

  /** Handshake, catalogue, and whatever is sent outside every request: nothing of a context; to an `hmcp` peer an own token. */
  async #sendUnbound(
    id: Id | undefined,
    method: string,
    bare: JsonRpcMessage,
    { scope, end }: MessagePlace,
    { send, options: { requestSignal } }: Pick<Wire, 'send' | 'options'>,
  ): Promise<void> {
    let token: string | undefined;
    // On a pipe a handshake needs no token, and gets none: it may go to a child that is only asked for its version.
    const needsToken = this.#kind === 'http' || methodClass(method) === 'catalogue';
    if (this.#isHmcp && needsToken) {
      if (scope === undefined) throw await this.#ledger.refusedOutside(this.#start(bare));
      try {
        token = await this.#token(scope, callFrame.getStore(), await this.#proof(scope));
      } catch (error) {
        throw await this.#refuse(scope, bare, error);
      }
    }
    if (id !== undefined) {
      this.#unused(id);
      const over = new AbortController();
      // Nothing says on HTTP that its client gave it up, but this.
      requestSignal?.addEventListener('abort', () => this.#takeUnbound(id), { once: true, signal: over.signal });
      const done = () => {
        over.abort();
        end();
      };
      this.#unbound.set(id, { origin: currentScope(), method, end: done });
    }
    // A peer that refuses the token knows no more of the request than this.
    const traceparent =
      this.#isHmcp && scope !== undefined ? nextTraceparent(scope.facts.traceparent, this.#parts.random) : undefined;
    try {
      await sending.run({ token, traceparent }, () => send(this.#withToken(bare, token)));
    } catch (error) {
      if (id !== undefined) this.#takeUnbound(id);
      // Version negotiation reads the SDK's own errors; ours are recorded.
      if (error instanceof HmcpError && scope !== undefined) throw await this.#refuse(scope, bare, error, traceparent);
      throw error;
    }
  }

  /** A request about the patient of `scope`. */
  async #sendBound(id: Id, bare: JsonRpcMessage, scope: RequestScope, end: () => void, wire: Wire) {
    const frame = callFrame.getStore();
    const { traceparent: inbound } = scope.facts;
    const traceparent = this.#isHmcp ? nextTraceparent(inbound, this.#parts.random) : inbound;
    const bound = this.#isHmcp && frame?.aboutPatient !== false;
    const hop = await this.#ledger.open(scope, { ...this.#start(bare), traceparent, bound });
    const request = new BoundRequest(this.#ledger, hop, frame, { origin: currentScope(), done: end });
    request.progressToken = metaOf(bare).progressToken;
    let proof: SessionProof | undefined;
    try {
      await deliverable(scope);
      scope.assertOpen();
      if (this.#isHmcp) {
        proof = await this.#proof(scope);
        request.token = await this.#token(scope, frame, proof);
      }
      await this.#ledger.called(hop);
      scope.assertOpen();
      this.#unused(id);
    } catch (error) {
      throw await request.refuse(error);
    }
    this.#watch(id, request, wire);
    const { token } = request;
    const traced = this.#isHmcp ? withMeta(bare, { traceparent }) : bare;
    const message = bound ? withMeta(traced, { [META.context]: envelopeOf(scope, proof, frame) }) : traced;
    try {
      await sending.run({ token, traceparent, signal: request.cut }, () => wire.send(this.#withToken(message, token)));
    } catch (error) {
      if (this.#take(id) !== request) throw new Error('the request was settled before its sending failed');
      if (frame !== undefined && connectionIsStale(error)) frame.stale = true;
      throw await request.refuse(error);
    }
  }

  #watch(id: Id, request: BoundRequest, { send, deliver, options }: Wire): void {
    const { scope } = request.hop;
    this.#bound.set(id, request);
    options.requestSignal?.addEventListener('abort', () => this.#abandon(id), { once: true, signal: request.over });
    const ended = () => {
      if (isSuperseded(scope)) this.#moveOn(id, deliver);
      else if (request.frame === undefined) this.#cutShort(id, send, deliver);
    };
    scope.signal.addEventListener('abort', ended, { once: true, signal: request.over });
  }

  /** The request with this id, which from now on waits for nothing. */
  #take(id: Id): BoundRequest | undefined {
    const request = this.#bound.get(id);
    this.#bound.delete(id);
    request?.end();
    return request;
  }

  /** The same of one without a patient. */
  #takeUnbound(id: Id): UnboundRequest | undefined {
    const request = this.#unbound.get(id);
    this.#unbound.delete(id);
    request?.end();
    return request;
  }

  #abandon(id: Id): void {
    this.#take(id)?.abandon();
  }

  /** The session went on to another patient: the call is settled now, its answer dropped whenever it comes. */
  #moveOn(id: Id, deliver: Deliver): void {
    const request = this.#take(id);
    if (request === undefined) return;
    this.#late.set(id, request);
    request.cut.addEventListener('abort', () => this.#late.delete(id), { once: true });
    request.settle(async () => {
      const refusal = await request.supersede(LATE_MS);
      request.deliver(() => deliver(errorAnswer(id, refusal)));
    });
  }

  /** The scope ended and no call of this package waits, which would stop by itself: settled now, and the peer is told. */
  #cutShort(id: Id, send: Write, deliver: Deliver): void {
    const request = this.#take(id);
    if (request === undefined) return;
    const cancelled = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } } as const;
    request.settle(async () => {
      const refusal = await request.cutShort();
      request.deliver(() => deliver(errorAnswer(id, refusal)));
    });
    outsideScope(() => this.#sendCancelled(cancelled, request, send)).catch(() => undefined);
  }

  /** Inside a session: its live seal. */
  async #proof(scope: RequestScope): Promise<SessionProof | undefined> {
    if (!isSealed(scope.facts.envelope)) return undefined;
    const seal = await this.#parts.seals.current(scope);
    return { seal, sid: sealOf(scope)?.sid ?? '' };
  }

  /** On a pipe to a child of this process the token travels in the message; on HTTP only in `Authorization`. */
  #withToken(message: JsonRpcMessage, token: string | undefined): JsonRpcMessage {
    return this.#kind === 'stdio' && token !== undefined ? withMeta(message, { [META.authorization]: token }) : message;
  }

  async #token(scope: RequestScope, frame: CallFrame | undefined, proof: SessionProof | undefined): Promise<string> {
    const peer = this.#peer;
    if (peer === undefined) throw this.#ledger.refusal(scope, 42801, 'peer', 'a server nobody declared');
    const timeoutMs = frame?.timeoutMs ?? Math.max(1, defaultTimeoutMs(scope, this.#parts.now()));
    return this.#parts.tokens.tokenFor(scope, peer, frame?.scope, Math.ceil(timeoutMs / 1000), proof);
  }

  #receiveAnswer(id: Id, message: JsonRpcMessage, deliver: Deliver): void {
    const unbound = this.#takeUnbound(id);
    if (unbound !== undefined) {
      const { origin, method } = unbound;
      const handOver = () => deliver(withoutCaching(method, withoutOwnKeys(message)));
      if (origin === undefined) outsideScope(handOver);
      else origin.run(handOver);
      return;
    }
    const request = this.#take(id);
    if (request === undefined) {
      this.#receiveLate(id);
      return;
    }
    request.settle(async () => {
      const answer = await releaseAnswer(request, await judgeAnswer(request, message));
      request.deliver(() => deliver(answer));
    });
  }

  #receiveLate(id: Id): void {
    const request = this.#late.get(id);
    if (request === undefined) {
      this.#ledger.warn('an answer to no request was dropped');
      return;
    }
    this.#late.delete(id);
    void request.enqueue(() => request.tooLate());
  }

  #receiveNotification(method: string, message: JsonRpcMessage, deliver: Deliver): Promise<void> | undefined {
    if (SERVER_NOTIFICATIONS.has(method)) {
      outsideScope(() => deliver(withoutOwnKeys(message)));
      return undefined;
    }
    const request = this.#requestOf(method, message);
    if (request === undefined) {
      this.#ledger.warn('a notification that belongs to no request was dropped');
      return undefined;
    }
    return request.enqueue(async () => {
      const admitted = await admitNotification(request, message);
      if (admitted) request.deliver(() => deliver(withoutOwnKeys(message)));
    });
  }

  /** Progress names its request by token; a log message only by the binding, which only an `hmcp` peer writes. */
  #requestOf(method: string, message: JsonRpcMessage): BoundRequest | undefined {
    const requests = [...this.#bound.values()];
    const { progressToken } = message.params ?? {};
    if (method === 'notifications/progress' && progressToken !== undefined) {
      return requests.find((request) => request.progressToken === progressToken);
    }
    if (method !== 'notifications/message' || !this.#isHmcp) return undefined;
    const binding = metaOf(message)[META.context] as { intent?: { id?: unknown } } | null | undefined;
    return requests.find((request) => request.hop.event.intent === binding?.intent?.id);
  }

  /** Sampling, elicitation and roots would carry what is known here back to the server. */
  #refuseServerRequest(id: Id, method: string, reply: Write): void {
    const answer = method === 'ping' ? { result: {} } : { error: { code: -32601, message: 'requests of a server are refused' } };
    if (method !== 'ping') this.#ledger.warn('a request of a server was refused');
    const send = () => sending.run({ token: undefined, traceparent: undefined }, () => reply({ jsonrpc: '2.0', id, ...answer }));
    outsideScope(send).catch(() => undefined);
  }

  async #refuse(scope: RequestScope, message: JsonRpcMessage, error: unknown, traceparent?: string): Promise<HmcpError> {
    const hop = await this.#ledger.open(scope, { ...this.#start(message), traceparent });
    return new BoundRequest(this.#ledger, hop, callFrame.getStore()).refuse(error);
  }

  #start({ method = '', params }: JsonRpcMessage) {
    const name = method === 'tools/call' ? params?.name : undefined;
    return { peer: this.#peer, method, tool: typeof name === 'string' ? name : undefined };
  }
}

/** A session the server forgot, or a server that changed its revision: HTTP 400 or 404, in either SDK's error. */
function connectionIsStale(error: unknown): boolean {
  const { code, data } = (error ?? {}) as { code?: unknown; data?: { status?: unknown } };
  return [code, data?.status].some((status) => status === 400 || status === 404);
}
