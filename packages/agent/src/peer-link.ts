import { checkBinding, HmcpError, isSealed, META, patientKey } from '@hmcp/core';
import { currentScope, outsideScope, type RequestScope } from '@hmcp/core/request-scope';
import { type CallFrame, callFrame, sending } from './call-frame.js';
import type { Hop, HopLedger } from './hop-ledger.js';
import type { JsonRpcMessage, SendOptions, TransportFetch, TransportHooks } from './instrument.js';
import { CACHED_BY_SDK, CLIENT_NOTIFICATIONS, methodClass, SERVER_NOTIFICATIONS } from './methods.js';
import { peerFetch } from './peer-fetch.js';
import { authorityOf, type PeerTokens } from './peer-tokens.js';
import type { ResolvedPeer } from './peers.js';
import { checkResult } from './result-check.js';
import { nextTraceparent, type RandomBytes } from './traceparent.js';
import { withoutContext } from './without-context.js';

/** What a link needs of its agent. */
export interface LinkParts {
  readonly ledger: HopLedger;
  readonly tokens: PeerTokens;
  readonly now: () => number;
  readonly random: RandomBytes;
}

/** A request of one patient that waits for its answer. */
interface Waiting {
  readonly hop: Hop;
  readonly frame: CallFrame | undefined;
  readonly token: string | undefined;
  readonly progressToken: unknown;
  /** Progress and answer of one request are judged one after the other. */
  queue: Promise<void>;
}

type Id = string | number;
type Write = (message: JsonRpcMessage) => Promise<void>;

/** Milliseconds a call may take when nobody says. @see protocol section 5 */
export const DEFAULT_TIMEOUT_MS = 30_000;

/** Milliseconds a token must outlive the call it is used for. */
const MARGIN_MS = 1000;

/** The default time for a call in this scope: 30 s, less when the scope's own token ends before. */
export function defaultTimeoutMs(scope: RequestScope, now: number): number {
  const authority = authorityOf(scope);
  if (authority === undefined) return DEFAULT_TIMEOUT_MS;
  return Math.min(DEFAULT_TIMEOUT_MS, authority.expiresAt * 1000 - now - MARGIN_MS);
}

/**
 * The guard on one connection to one peer: everything that leaves gets what the current request may send there and nothing
 * else; everything that comes back is checked against the request it answers before the client sees it.
 * @see protocol sections 2.4, 3 and 4
 */
export class PeerLink implements TransportHooks {
  readonly #peer: ResolvedPeer | undefined;
  readonly #kind: 'http' | 'stdio';
  readonly #parts: LinkParts;
  readonly #ledger: HopLedger;
  readonly #waiting = new Map<Id, Waiting>();
  /** Requests without a patient: handshake, catalogue, or made outside every request. */
  readonly #unbound = new Map<Id, { readonly scope: RequestScope | undefined; readonly method: string }>();

  constructor(peer: ResolvedPeer | undefined, kind: 'http' | 'stdio', parts: LinkParts) {
    this.#peer = peer;
    this.#kind = kind;
    this.#parts = parts;
    this.#ledger = parts.ledger;
  }

  get #isHmcp(): boolean {
    return this.#peer?.kind === 'hmcp';
  }

  async outgoing(message: JsonRpcMessage, send: Write, options: SendOptions): Promise<void> {
    // A client answers only what it was asked, and it was asked nothing: server requests are refused below.
    if (message.method === undefined) return;
    const bare = withoutContext(message);
    if (message.id === undefined) return this.#sendNotification(message.method, bare, send);
    const scope = currentScope();
    if (this.#peer === undefined && scope !== undefined) {
      throw await this.#refuse(scope, message, this.#ledger.refusal(scope, 42801, 'peer', 'a server nobody declared'));
    }
    if (methodClass(message.method) !== 'context' || (scope === undefined && !this.#isHmcp)) {
      return this.#sendUnbound(message.id, message.method, bare, scope, send);
    }
    if (scope === undefined)
      throw await this.#ledger.refusedOutside({ peer: this.#peer, method: message.method, tool: undefined });
    return this.#sendBound(message.id, bare, scope, send, options);
  }

  incoming(message: JsonRpcMessage, deliver: (message: JsonRpcMessage) => void, reply: Write): void {
    const { id, method } = message;
    if (method !== undefined && id !== undefined) return this.#refuseServerRequest(id, method, reply);
    if (method !== undefined) return this.#receiveNotification(method, message, deliver);
    if (id === undefined) return;
    const unbound = this.#unbound.get(id);
    if (unbound !== undefined) {
      this.#unbound.delete(id);
      const answer = CACHED_BY_SDK.has(unbound.method) ? uncached(unbound.method, message) : message;
      const handOver = () => deliver(answer);
      return unbound.scope === undefined ? outsideScope(handOver) : unbound.scope.run(handOver);
    }
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return this.#ledger.warn('an answer to no request was dropped');
    this.#waiting.delete(id);
    this.#enqueue(waiting, async () => {
      const answer = await this.#judge(waiting, message);
      waiting.hop.scope.run(() => deliver(answer));
    });
  }

  failure(error: Error): Error {
    return error instanceof HmcpError ? error : new Error('the connection to the peer failed');
  }

  fetch(base: TransportFetch): TransportFetch {
    return peerFetch(base, this.#peer, (code, reason) => this.#ledger.refusal(currentScope(), code, 'peer', reason));
  }

  // --- what leaves -----------------------------------------------------------------------------------------------------

  async #sendNotification(method: string, bare: JsonRpcMessage, send: Write): Promise<void> {
    if (!CLIENT_NOTIFICATIONS.has(method)) return this.#ledger.warn('a client notification outside the closed list was dropped');
    if (method !== 'notifications/cancelled') return this.#sendUnbound(undefined, method, bare, currentScope(), send);
    const requestId = bare.params?.['requestId'] as Id;
    const waiting = this.#waiting.get(requestId);
    if (waiting === undefined && !this.#unbound.delete(requestId)) return;
    if (waiting !== undefined) this.#abandon(requestId);
    // The reason is text of whoever aborted; the envelope's keys of SDK and protocol stay.
    const { reason: _, ...params } = bare.params ?? {};
    await sending.run({ token: waiting?.token, traceparent: undefined }, () => send({ ...bare, params }));
  }

  /** Handshake, catalogue, and whatever is sent outside every request: nothing of a context, on HTTP an own token. */
  async #sendUnbound(id: Id | undefined, method: string, bare: JsonRpcMessage, scope: RequestScope | undefined, send: Write) {
    let token: string | undefined;
    const withToken = this.#isHmcp && (this.#kind === 'http' || methodClass(method) === 'catalogue');
    if (withToken) {
      if (scope === undefined) throw await this.#ledger.refusedOutside({ peer: this.#peer, method, tool: undefined });
      try {
        token = await this.#token(scope, callFrame.getStore());
      } catch (error) {
        throw await this.#refuse(scope, bare, error);
      }
    }
    if (id !== undefined) this.#unbound.set(id, { scope, method });
    const message = this.#kind === 'stdio' && token !== undefined ? withMeta(bare, { [META.authorization]: token }) : bare;
    try {
      await sending.run({ token, traceparent: undefined }, () => send(message));
    } catch (error) {
      if (id !== undefined) this.#unbound.delete(id);
      if (error instanceof HmcpError && scope !== undefined) throw await this.#refuse(scope, bare, error);
      throw error;
    }
  }

  /** A request about the patient of `scope`. */
  async #sendBound(id: Id, bare: JsonRpcMessage, scope: RequestScope, send: Write, options: SendOptions): Promise<void> {
    const frame = callFrame.getStore();
    const traceparent = this.#isHmcp ? nextTraceparent(scope.facts.traceparent, this.#parts.random) : scope.facts.traceparent;
    const hop = await this.#ledger.open(scope, { ...this.#start(bare), traceparent });
    let token: string | undefined;
    try {
      scope.assertOpen();
      if (this.#isHmcp) {
        if (isSealed(scope.facts.envelope)) throw this.#ledger.refusal(scope, 42801, 'seal', 'no manager is configured');
        token = await this.#token(scope, frame);
      }
      await this.#ledger.called(hop);
      scope.assertOpen();
    } catch (error) {
      throw await this.#settleRefused(hop, frame, error);
    }
    const progressToken = metaOf(bare)['progressToken'];
    const waiting: Waiting = { hop, frame, token, progressToken, queue: Promise.resolve() };
    this.#waiting.set(id, waiting);
    options.requestSignal?.addEventListener('abort', () => this.#abandon(id), { once: true });
    try {
      await sending.run({ token, traceparent }, () => send(this.#inContext(bare, scope, token, traceparent)));
    } catch (error) {
      if (!this.#waiting.delete(id)) throw new Error('the request was abandoned or answered before its sending failed');
      if (frame !== undefined && connectionIsStale(error)) frame.stale = true;
      throw await this.#settleRefused(hop, frame, error);
    }
  }

  #inContext(bare: JsonRpcMessage, scope: RequestScope, token: string | undefined, traceparent: string | undefined) {
    if (!this.#isHmcp) return bare;
    const authorization = this.#kind === 'stdio' && token !== undefined ? { [META.authorization]: token } : {};
    return withMeta(bare, { traceparent, [META.context]: scope.facts.envelope, ...authorization });
  }

  #token(scope: RequestScope, frame: CallFrame | undefined): Promise<string> {
    const peer = this.#peer;
    if (peer === undefined) throw this.#ledger.refusal(scope, 42801, 'peer', 'a server nobody declared');
    const timeoutMs = frame?.timeoutMs ?? Math.max(1, defaultTimeoutMs(scope, this.#parts.now()));
    return this.#parts.tokens.tokenFor(scope, peer, frame?.scope, Math.ceil(timeoutMs / 1000));
  }

  /** The request will not be answered to anybody: its scope ended, its time passed, or its caller turned away. */
  #abandon(id: Id): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined || !this.#waiting.delete(id)) return;
    const { hop, frame } = waiting;
    this.#enqueue(waiting, async () => {
      if (hop.scope.closed) await this.#drop(waiting, 40901, 'the request ended before its answer came');
      else if (frame === undefined || frame.signal?.aborted === true) await this.#ledger.cancelled(hop);
      else await this.#settleRefused(hop, frame, this.#ledger.refusal(hop.scope, 50301, 'peer', 'no answer in time'));
    });
    if (frame !== undefined) frame.settled = waiting.queue;
  }

  // --- what comes back -------------------------------------------------------------------------------------------------

  /** One request's messages, in order; a fault in judging one leaves it undelivered. */
  #enqueue(waiting: Waiting, work: () => Promise<void>): void {
    waiting.queue = waiting.queue.then(work).catch(() => this.#ledger.warn('a message of a peer could not be handled'));
  }

  async #judge(waiting: Waiting, message: JsonRpcMessage): Promise<JsonRpcMessage> {
    try {
      if (message.error !== undefined) return await this.#judgeError(waiting, message, message.error);
      return await this.#judgeResult(waiting, message);
    } catch (error) {
      if (error instanceof HmcpError) return this.#answerError(waiting, message, error);
      return this.#answerError(waiting, message, await this.#drop(waiting, 40903, 'the answer could not be checked'));
    }
  }

  async #judgeError(waiting: Waiting, message: JsonRpcMessage, error: NonNullable<JsonRpcMessage['error']>) {
    const { hop, frame } = waiting;
    if (hop.scope.closed) throw await this.#drop(waiting, 40901, 'the request ended before its answer came');
    const relayed = HmcpError.from(error);
    if (relayed !== undefined) {
      // On a pipe a token or scope fault has no HTTP status: it is this process's token that was refused.
      const own = relayed.code === 40100 || relayed.code === 40300;
      const mapped = own ? this.#ledger.refusal(hop.scope, 40302, 'peer', 'the peer refused the token') : relayed;
      throw await this.#settleRefused(hop, frame, mapped);
    }
    const code = Number.isSafeInteger(error.code) ? error.code : -32603;
    await this.#ledger.failed(hop, code);
    return { jsonrpc: '2.0', id: message.id, error: { code, message: 'the peer answered with an error' } } as JsonRpcMessage;
  }

  async #judgeResult(waiting: Waiting, message: JsonRpcMessage): Promise<JsonRpcMessage> {
    const { hop, frame } = waiting;
    const { scope } = hop;
    const result = (message.result ?? {}) as Readonly<Record<string, unknown>>;
    if (scope.closed) throw await this.#drop(waiting, 40901, 'the request ended before its answer came');
    if (result['resultType'] === 'input_required') {
      throw await this.#drop(waiting, 40903, 'a request of the server stood in its answer');
    }
    const binding = await this.#bindingFault(hop, result['_meta']);
    if (binding !== undefined) throw await this.#drop(waiting, binding, 'the binding is missing or names another context');
    const verdict = checkResult(result, { patient: scope.facts.context, contract: frame !== undefined });
    if (!verdict.inside) throw await this.#drop(waiting, 40903, verdict.reason);
    await this.#ledger.answered(hop, verdict, result['isError'] === true);
    if (scope.closed) throw await this.#drop(waiting, 40901, 'the request ended before its answer came');
    return uncached(hop.event.method, { ...message, result: scope.tag(result) });
  }

  /** `undefined` when what came back is bound to this request, or nobody promised that it would be. */
  async #bindingFault(hop: Hop, meta: unknown): Promise<40901 | 40903 | undefined> {
    const peer = this.#peer;
    if (peer?.kind !== 'hmcp') return undefined;
    const { context, envelope } = hop.scope.facts;
    const intent = envelope.intent.id;
    const raw = typeof meta === 'object' && meta !== null ? (meta as Record<string, unknown>)[META.context] : undefined;
    return checkBinding(raw, { pk: await patientKey(intent, context), intent, by: peer.resource });
  }

  #receiveNotification(method: string, message: JsonRpcMessage, deliver: (message: JsonRpcMessage) => void): void {
    if (SERVER_NOTIFICATIONS.has(method)) return outsideScope(() => deliver(message));
    const waiting = this.#requestOf(method, message);
    if (waiting === undefined) return this.#ledger.warn('a notification that belongs to no request was dropped');
    const { hop } = waiting;
    this.#enqueue(waiting, async () => {
      const params = message.params ?? {};
      const fault = await this.#bindingFault(hop, params['_meta']);
      const verdict = checkResult(params, { patient: hop.scope.facts.context, contract: false });
      if (hop.scope.closed) return;
      if (fault === undefined && verdict.inside) return hop.scope.run(() => deliver(message));
      const reason = verdict.inside ? 'a notification without the binding of its request' : verdict.reason;
      await this.#ledger.dropped(hop, fault ?? 40903, reason);
    });
  }

  /** Progress names its request by token; a log message only by the binding, which only an `hmcp` peer writes. */
  #requestOf(method: string, message: JsonRpcMessage): Waiting | undefined {
    const { progressToken } = message.params ?? {};
    if (method === 'notifications/progress' && progressToken !== undefined) {
      return [...this.#waiting.values()].find((waiting) => waiting.progressToken === progressToken);
    }
    if (method !== 'notifications/message' || !this.#isHmcp) return undefined;
    const binding = metaOf(message)[META.context] as { intent?: { id?: unknown } } | undefined;
    return [...this.#waiting.values()].find((waiting) => waiting.hop.event.intent === binding?.intent?.id);
  }

  /** Sampling, elicitation and roots would carry what is known here back to the server. */
  #refuseServerRequest(id: Id, method: string, reply: Write): void {
    const answer = method === 'ping' ? { result: {} } : { error: { code: -32601, message: 'requests of a server are refused' } };
    if (method !== 'ping') this.#ledger.warn('a request of a server was refused');
    const send = () => reply({ jsonrpc: '2.0', id, ...answer });
    outsideScope(() => sending.run({ token: undefined, traceparent: undefined }, send)).catch(() => undefined);
  }

  // --- how a call is settled -------------------------------------------------------------------------------------------

  #start(message: JsonRpcMessage) {
    const name = message.method === 'tools/call' ? message.params?.['name'] : undefined;
    return { peer: this.#peer, method: message.method ?? '', tool: typeof name === 'string' ? name : undefined };
  }

  async #refuse(scope: RequestScope, message: JsonRpcMessage, error: unknown): Promise<Error> {
    return this.#settleRefused(await this.#ledger.open(scope, this.#start(message)), callFrame.getStore(), error);
  }

  /** Anything but a refusal becomes one: what an SDK throws holds bodies of responses. */
  async #settleRefused(hop: Hop, frame: CallFrame | undefined, error: unknown): Promise<HmcpError> {
    const refusal =
      error instanceof HmcpError
        ? error
        : this.#ledger.refusal(hop.scope, 50301, 'peer', 'the peer could not be reached or read');
    const settled = await this.#ledger.refused(hop, refusal);
    if (frame !== undefined) frame.failure = settled;
    return settled;
  }

  async #drop({ hop, frame }: Waiting, code: 40901 | 40903, reason: string): Promise<HmcpError> {
    const settled = await this.#ledger.dropped(hop, code, reason);
    if (frame !== undefined) frame.failure = settled;
    return settled;
  }

  #answerError({ frame }: Waiting, message: JsonRpcMessage, error: HmcpError): JsonRpcMessage {
    if (frame !== undefined) frame.failure = error;
    const { code, data } = error;
    return { jsonrpc: '2.0', id: message.id, error: { code, message: error.message, data } } as JsonRpcMessage;
  }
}

function metaOf(message: JsonRpcMessage): Readonly<Record<string, unknown>> {
  const meta = message.params?.['_meta'];
  return typeof meta === 'object' && meta !== null ? (meta as Readonly<Record<string, unknown>>) : {};
}

function withMeta(message: JsonRpcMessage, more: Readonly<Record<string, unknown>>): JsonRpcMessage {
  return { ...message, params: { ...message.params, _meta: { ...metaOf(message), ...more } } };
}

/** SDK clients key their cache by method and URI only, so one patient's resource would be served to the next. */
function uncached(method: string, message: JsonRpcMessage): JsonRpcMessage {
  const { result } = message;
  if (typeof result !== 'object' || result === null) return message;
  if (!CACHED_BY_SDK.has(method) && !('ttlMs' in result) && !('cacheScope' in result)) return message;
  return { ...message, result: { ...result, ttlMs: 0, cacheScope: 'private' } };
}

/** A session the server forgot, or a server that changed its revision: HTTP 400 or 404, in either SDK's error. */
function connectionIsStale(error: unknown): boolean {
  const { code, data } = (error ?? {}) as { code?: unknown; data?: { status?: unknown } };
  return [code, data?.status].some((status) => status === 400 || status === 404);
}
