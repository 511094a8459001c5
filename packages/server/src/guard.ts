import { CLIENT_NOTIFICATIONS, HmcpError, methodClass, type Refusal, type SealClaims } from '@hmcp/core';
import { outsideScope } from '@hmcp/core/request-scope';
import type { JSONRPCMessage, MessageExtraInfo, Transport, TransportSendOptions } from '@modelcontextprotocol/server';
import { admit, type Inbound } from './admission.js';
import { type Admitted, atExpiry, handlerParams, intentOf, invalidArguments, publicAuthInfo } from './admitted.js';
import { comparedIn, describe, makeDurable, type RecordBase } from './audit.js';
import { forgetTools, lacksPatientArgument, lookForDeclared } from './catalogue.js';
import type { AgentEnv } from './define-agent.js';
import { type Exchange, exchangeOf, gatedExchange, HANDSHAKE } from './exchange.js';
import { fenceOf } from './fence.js';
import { decideListen } from './listen.js';
import { isJsonObject, type Json, type Message, metaOf } from './message.js';
import { isInRequest, noticeInRequest, noticeOutside } from './notifications.js';
import { open } from './opening.js';
import type { Declarations } from './operations.js';
import { OwnQuestions } from './own-questions.js';
import { release } from './release.js';
import { announced } from './server-of.js';
import { renderAnswer } from './structured-text.js';
import { answerManager, type SwitchAnswer } from './switch-messages.js';
import { Watching } from './watching.js';
import { refusalOnWire, scrub, type WireError, wireError } from './wire-error.js';

/** What a guard decides by. */
export interface GuardOptions {
  readonly env: AgentEnv;
  declarations(): Declarations;
  /** On a pipe: settles when the declarations are complete; requests wait for it. */
  readonly ready?: Promise<unknown> | undefined;
  /** On a pipe: the token that pins the whole process to one patient. */
  readonly accessToken?: string | undefined;
  /** Sees every request that passed the gate before it is decided; what it does not admit counts as not having passed. */
  admits?(exchange: Exchange): boolean;
  /** Called once the connection is gone. */
  closed?(): void;
  /** Announces the extension in the handshake, for a server that nobody could tell to. @default false */
  readonly announces?: boolean | undefined;
}

/** Present in every request of revision 2026-07-28 and later. */
const REVISION = 'io.modelcontextprotocol/protocolVersion';

type Id = string | number;
type Deliver = (message: unknown, extra?: MessageExtraInfo) => void;
type RequestMessage = Message & { readonly id: Id; readonly method: string };

/**
 * Instruments a server transport in place: every inbound message passes the ordered decision before any handler, every
 * outbound one the result check, binding and audit before it leaves. Nothing can be registered around it.
 * @see protocol section 3
 */
export function guardTransport<T extends Transport>(transport: T, options: GuardOptions): T {
  const guard = new TransportGuard(transport, options);
  // A transport that wraps another has setters on its prototype, which reach the one inside: it must be told too.
  const tellInside = { onmessage: setterOf(transport, 'onmessage'), onclose: setterOf(transport, 'onclose') };
  let receive: Transport['onmessage'];
  /** Being handed to a handler: one that was set before passes it on to those set after it. */
  let delivered: unknown;
  Object.defineProperty(transport, 'onmessage', {
    configurable: false,
    enumerable: true,
    get: () => receive,
    set(handler: Transport['onmessage']) {
      const deliver = (message: unknown, extra?: MessageExtraInfo): void => {
        delivered = message;
        try {
          (handler as Deliver)(message, extra);
        } finally {
          delivered = undefined;
        }
      };
      receive =
        handler &&
        ((message: JSONRPCMessage, extra?: MessageExtraInfo) => {
          if (message === delivered) handler(message, extra);
          else outsideScope(() => guard.receive(message as Message, extra, deliver));
        });
      tellInside.onmessage?.(receive);
    },
  });
  let closed = transport.onclose;
  Object.defineProperty(transport, 'onclose', {
    configurable: false,
    enumerable: true,
    get: () => closed,
    set(handler: Transport['onclose']) {
      closed = () => {
        guard.closed();
        handler?.();
      };
      tellInside.onclose?.(closed);
    },
  });
  return transport;
}

function setterOf(transport: Transport, name: string): ((value: unknown) => void) | undefined {
  for (let owner: object | null = transport; owner !== null; owner = Object.getPrototypeOf(owner) as object | null) {
    const property = Object.getOwnPropertyDescriptor(owner, name);
    if (property !== undefined) return property.set?.bind(transport);
  }
  return undefined;
}

class TransportGuard {
  readonly #send: Transport['send'];
  readonly #options: GuardOptions;
  readonly #env: AgentEnv;
  /** Requests whose decision is under way; true once their caller cancelled them. */
  readonly #deciding = new Map<Id, boolean>();
  readonly #admitted = new Map<Id, Admitted>();
  readonly #questions = new OwnQuestions();
  readonly #watching: Watching;

  constructor(transport: Transport, options: GuardOptions) {
    this.#options = options;
    this.#env = options.env;
    this.#watching = new Watching(options.env);
    this.#send = transport.send.bind(transport);
    Object.defineProperty(transport, 'send', {
      configurable: false,
      writable: false,
      value: (message: JSONRPCMessage, sendOptions?: TransportSendOptions) => this.send(message as Message, sendOptions),
    });
  }

  /** Inbound: requests are decided, notifications filtered, answers to questions we never asked dropped. */
  receive(message: Message, extra: MessageExtraInfo | undefined, deliver: Deliver): void {
    const { id, method } = message;
    if (typeof method !== 'string') return;
    if (id === undefined) {
      const noted = this.#notified({ ...message, method }, extra, deliver);
      gatedExchange(extra)?.deciding.push(noted);
    } else if (typeof id === 'string' || typeof id === 'number') void this.#requested({ ...message, id, method }, extra, deliver);
    else void this.#write({ jsonrpc: '2.0', id: null, error: { code: -32600, message: 'Invalid Request' } }).catch(ignore);
  }

  /** The connection is gone: nothing it asked for may go on. */
  closed(): void {
    for (const id of [...this.#deciding.keys()]) this.#deciding.set(id, true);
    for (const id of [...this.#admitted.keys()]) this.#cancelled(id);
    this.#questions.end();
    this.#watching.clear();
    this.#options.closed?.();
  }

  async #notified(message: Message & { method: string }, extra: MessageExtraInfo | undefined, deliver: Deliver): Promise<void> {
    const { method } = message;
    const params = isJsonObject(message.params) ? message.params : {};
    if (!CLIENT_NOTIFICATIONS.includes(method)) {
      const reason = 'client notification outside the closed list';
      const exchange = gatedExchange(extra);
      const inbound = exchange && { ...exchange, method: 'notification', params: {}, operation: undefined };
      const record = inbound
        ? { ...(await describe(inbound, this.#env, undefined)), method: undefined }
        : { by: this.#env.resource };
      await makeDurable(this.#env, { ...record, event: 'notification.dropped', outcome: 4, reason }).catch(ignore);
      return;
    }
    if (method === 'notifications/cancelled') this.#cancelled(params.requestId as Id);
    const shown = message.params === undefined ? message : { ...message, params: handlerParams(params) };
    deliver(shown, withoutAuth(extra));
  }

  /** A cancelled request gets no answer: its scope ends here. */
  #cancelled(id: Id): void {
    if (this.#deciding.has(id)) this.#deciding.set(id, true);
    this.#watching.unlisten(id);
    const admitted = this.#admitted.get(id);
    if (!admitted) return;
    this.#admitted.delete(id);
    admitted.end();
    const reason = 'cancelled by the caller';
    void makeDurable(this.#env, { ...admitted.record, event: 'request.refused', outcome: 4, reason }).catch(ignore);
  }

  /** The gate finds the decision of an HTTP request under way at once. */
  async #requested(message: RequestMessage, extra: MessageExtraInfo | undefined, deliver: Deliver): Promise<void> {
    const { id } = message;
    let decided = (): void => {};
    gatedExchange(extra)?.deciding.push(
      new Promise<void>((resolve) => {
        decided = resolve;
      }),
    );
    try {
      if (this.#deciding.has(id) || this.#admitted.has(id) || this.#watching.listens(id)) {
        await this.#refuseSyntax('the id of a request is in use');
        await this.#answer(id, { code: -32600, message: 'Invalid Request' });
        return;
      }
      this.#deciding.set(id, false);
      const found = exchangeOf(message, extra, this.#env, this.#options.accessToken);
      const exchange = found instanceof Promise ? await found : found;
      if (found instanceof Promise) await this.#options.ready;
      if (exchange === HANDSHAKE) this.#shake(message, extra, deliver);
      else if (exchange === undefined || this.#options.admits?.(exchange) === false) await this.#unknown();
      else await this.#decide(message, exchange, extra, deliver);
    } catch (error) {
      const refusal = error instanceof HmcpError ? error : undefined;
      if (!refusal) this.#env.log?.error({ err: error }, 'a request could not be decided');
      await this.#answer(id, refusal ? wireError(refusal) : scrub(undefined)).catch(ignore);
    } finally {
      this.#deciding.delete(id);
      decided();
    }
  }

  async #unknown(): Promise<never> {
    const reason = 'the request did not pass the gate';
    await makeDurable(this.#env, {
      event: 'request.refused',
      outcome: 4,
      code: 40100,
      check: 'token',
      reason,
      by: this.#env.resource,
    });
    throw new HmcpError(40100, { by: this.#env.resource, check: 'token' }, { reason });
  }

  async #refuseSyntax(reason: string): Promise<void> {
    await makeDurable(this.#env, {
      event: 'request.refused',
      outcome: 4,
      code: -32600,
      check: 'size',
      reason,
      by: this.#env.resource,
    });
  }

  /** A handshake on a pipe: no token, no context. */
  #shake(message: RequestMessage, extra: MessageExtraInfo | undefined, deliver: Deliver): void {
    const record = { by: this.#env.resource, method: message.method };
    const inbound = { method: message.method, params: {}, token: undefined, operation: undefined };
    this.#admit(message, inbound, undefined, record, ignore);
    deliver(message, withoutAuth(extra));
  }

  async #decide(
    message: RequestMessage,
    exchange: Exchange,
    extra: MessageExtraInfo | undefined,
    deliver: Deliver,
  ): Promise<void> {
    const { method } = message;
    const { token, accessToken, header, traceparent } = exchange;
    const params = message.params ?? {};
    const asked = {
      token,
      accessToken,
      header,
      traceparent,
      method,
      params: isJsonObject(params) ? params : {},
      operation: undefined,
    };
    const intent = intentOf(asked.params);
    if (!isJsonObject(params)) {
      const record = { ...(await describe(asked, this.#env, undefined)), intent };
      const refusal = { kind: 'malformed', check: 'argument', reason: 'params is no object' } as const;
      return this.#refuse(message.id, refusal, record, asked, exchange);
    }
    if (method === 'subscriptions/listen') return this.#listen(message, asked, exchange, extra, deliver);
    const inbound: Inbound = { ...asked, ...this.#options.declarations().forRequest(method, params) };
    const { decision, seal } = await admit(inbound, this.#env);
    const context = decision.verdict === 'serve' ? decision.context : undefined;
    const record = { ...(await describe(inbound, this.#env, context, seal)), intent };
    const ask = (cursor: string | undefined) =>
      this.#questions.tools(cursor, params, { ...extra, authInfo: publicAuthInfo(token) }, deliver);
    const declarations = this.#options.declarations();
    if (decision.verdict === 'refuse') {
      await this.#refuse(message.id, decision.refusal, record, inbound, exchange, seal);
      const undeclared = method === 'tools/call' && decision.refusal.check === 'operation';
      if (undeclared) void lookForDeclared(declarations, this.#env, ask).catch(ignore); // its caller has been answered
      return;
    }
    if (methodClass(method) === 'switch') return this.#answerManager(message.id, inbound, record, exchange);
    const invalid = invalidArguments(inbound.operation, method, params);
    if (invalid !== undefined) {
      const reason = 'arguments do not satisfy the declared input';
      await makeDurable(this.#env, { ...record, event: 'request.refused', outcome: 4, code: -32602, check: 'argument', reason });
      return this.#answer(message.id, { code: -32602, message: invalid });
    }
    if (
      method === 'tools/call' &&
      context !== undefined &&
      (await lacksPatientArgument(params.name, declarations, this.#env, ask))
    ) {
      const reason = 'the declared patientArgument is no property of the input schema of the tool';
      const refusal = { kind: 'context', code: 40303, check: 'argument', reason } as const;
      return this.#refuse(message.id, refusal, record, inbound, exchange, seal);
    }
    const opened = await open(inbound, decision, record, this.#env, exchange.signal);
    if (this.#deciding.get(message.id) === true) {
      opened.end();
      const reason = 'cancelled by the caller';
      return makeDurable(this.#env, { ...opened.record, event: 'request.refused', outcome: 4, reason });
    }
    if (opened.refused !== undefined) return this.#relay(message.id, opened.refused, opened.record, 'no permit was had');
    const { bound } = opened;
    // An answer in revision 2026-07-28 is one JSON body, unless something was sent ahead of it.
    const takesWhole = REVISION in metaOf(params) ? exchange.takesWhole : undefined;
    this.#admit(message, inbound, bound, opened.record, () => opened.end(), takesWhole);
    const shown = { ...message, params: handlerParams(params, inbound.operation, context, method) };
    const handlerExtra: MessageExtraInfo = { ...extra, authInfo: publicAuthInfo(token) };
    if (bound) bound.scope.run(() => deliver(shown, handlerExtra));
    else deliver(shown, handlerExtra);
  }

  /** A refusal that another party made, or that was made for it: as it came. */
  async #relay(id: Id, refusal: HmcpError, record: RecordBase, reason: string): Promise<void> {
    const { code, check, data } = refusal;
    const own = data.by === this.#env.resource;
    const said = own ? { reason: refusal.reason ?? reason } : { peer: data.by, reason };
    await makeDurable(this.#env, { ...record, ...said, event: 'request.refused', outcome: 4, code, check });
    await this.#answer(id, wireError(refusal));
  }

  /** Messages of a manager are answered here; no handler of the factory's ever sees one. @see protocol section 6 */
  async #answerManager(id: Id, inbound: Inbound, record: RecordBase, exchange: Exchange): Promise<void> {
    let answer: SwitchAnswer;
    try {
      answer = await answerManager(inbound, this.#env);
    } catch (error) {
      if (error instanceof HmcpError) return this.#relay(id, error, record, 'the participation refused');
      throw error;
    }
    const described = { ...record, ...answer.said };
    if ('refusal' in answer) return this.#refuse(id, answer.refusal, described, inbound, exchange);
    await makeDurable(this.#env, { ...described, event: 'request.served', outcome: 0 });
    // Revision 2026-07-28 says of every result what kind it is.
    const kind = REVISION in metaOf(inbound.params) ? { resultType: 'complete' } : {};
    await this.#write({ jsonrpc: '2.0', id, result: { ...answer.result, ...kind } });
  }

  #admit(
    message: RequestMessage,
    inbound: Admitted['inbound'],
    bound: Admitted['bound'],
    record: RecordBase,
    end: () => void,
    takesWhole?: Admitted['takesWhole'],
  ): void {
    const { progressToken } = metaOf(isJsonObject(message.params) ? message.params : {});
    this.#admitted.set(message.id, { inbound, bound, record, progressToken, announced: false, takesWhole, end });
  }

  /** The SDK answers a listen of a pipe itself, and goes on sending: it is let through once every URI of it is. */
  async #listen(
    message: RequestMessage,
    asked: Inbound,
    exchange: Exchange,
    extra: MessageExtraInfo | undefined,
    deliver: Deliver,
  ): Promise<void> {
    const decision = await decideListen(asked, this.#env, this.#options.declarations());
    const { seal } = decision;
    const context = decision.verdict === 'serve' ? decision.context : undefined;
    const record = { ...(await describe(asked, this.#env, context, seal)), intent: intentOf(asked.params) };
    if (decision.verdict === 'refuse')
      return this.#refuse(message.id, decision.refusal, record, decision.asked ?? asked, exchange, seal);
    await makeDurable(this.#env, { ...record, event: 'request.served', outcome: 0 });
    const stop = (): void => {
      if (!this.#watching.unlisten(message.id)) return;
      deliver({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: message.id } });
    };
    const forget = atExpiry(asked.token.expiresAt, this.#env, stop);
    const leave = seal === undefined ? ignore : fenceOf(this.#env).epochs.enter(seal, { epoch: seal.epoch, end: stop });
    this.#watching.listen(message.id, decision.uris, () => {
      forget();
      leave();
    });
    deliver({ ...message, params: handlerParams(asked.params) }, withoutAuth(extra));
    // It passed while this was decided.
    if (seal !== undefined && fenceOf(this.#env).epochs.passed(seal)) stop();
  }

  async #refuse(
    id: Id,
    refusal: Refusal,
    described: RecordBase,
    inbound: Inbound,
    exchange: Exchange,
    seal?: SealClaims,
  ): Promise<void> {
    const answer = refusalOnWire(refusal, inbound, this.#env, described.intent);
    const code = refusal.kind === 'scope' && exchange.carrier === 'http' ? 403 : answer.code;
    const { check, reason } = refusal;
    // A declaration or a missing seal is at fault: nobody was compared.
    const compares = refusal.kind === 'context' && refusal.code !== 40303 && refusal.code !== 42802;
    const compared = compares ? await comparedIn(inbound, check, this.#env, seal) : {};
    const record = { ...described, ...compared };
    await makeDurable(this.#env, { ...record, event: 'request.refused', outcome: 4, code, check, reason });
    if (refusal.kind === 'scope') exchange.challenge = refusal.scope;
    await this.#answer(id, answer);
  }

  /** Outbound: results are checked and bound, errors scrubbed, server requests refused. */
  async send(message: Message, options?: TransportSendOptions): Promise<void> {
    if (typeof message.method === 'string') {
      if (message.id !== undefined) throw new Error('an HMCP server sends no requests to its client');
      return this.#notify(message.method, isJsonObject(message.params) ? message.params : {}, options);
    }
    const id = message.id as Id;
    if (this.#questions.takes(message)) return;
    const admitted = this.#admitted.get(id);
    if (!admitted) return this.#answerUnadmitted(id, message, options);
    this.#admitted.delete(id);
    const answer = await release(message, admitted, this.#env, this.#options.declarations());
    admitted.end();
    if (!('result' in answer)) return this.#write({ jsonrpc: '2.0', id, ...answer }, options);
    this.#remember(admitted);
    const announces = this.#options.announces === true && admitted.inbound.method === 'initialize';
    const result = announces ? announced(answer.result, this.#env) : answer.result;
    if (answer.structured === undefined || admitted.takesWhole === undefined)
      return this.#write({ jsonrpc: '2.0', id, result }, options);
    admitted.takesWhole(renderAnswer(id, result, answer.structured));
    await this.#write({ jsonrpc: '2.0', id, result: {} }, options);
  }

  /** An answer to no admitted request: the end of a listen, or the SDK's own protocol errors. Results are never released here. */
  async #answerUnadmitted(id: Id, message: Message, options: TransportSendOptions | undefined): Promise<void> {
    const listening = this.#watching.unlisten(id);
    if (message.error !== undefined) {
      return this.#write({ jsonrpc: '2.0', id: message.id ?? null, error: scrub(message.error) }, options);
    }
    if (listening && isJsonObject(message.result)) {
      const own = Object.entries(metaOf(message.result)).filter(([key]) => key.startsWith('io.modelcontextprotocol/'));
      await this.#write({ jsonrpc: '2.0', id, result: { resultType: 'complete', _meta: Object.fromEntries(own) } }, options);
    }
  }

  /** What a 2025-era client subscribed to may be announced to it while its token lives and its epoch stands. */
  #remember({ inbound, bound }: Admitted): void {
    const { uri } = inbound.params;
    if (typeof uri !== 'string' || inbound.token === undefined) return;
    if (inbound.method === 'resources/subscribe') {
      this.#watching.subscribe(uri, inbound.token.expiresAt * 1000, bound?.seal);
    }
    if (inbound.method === 'resources/unsubscribe') this.#watching.unsubscribe(uri);
  }

  async #notify(method: string, params: Json, options: TransportSendOptions | undefined): Promise<void> {
    if (method === 'notifications/cancelled') return; // of a request of ours, and there is none
    if (method === 'notifications/tools/list_changed') forgetTools(this.#env);
    const related = options?.relatedRequestId;
    const admitted = related === undefined ? undefined : this.#admitted.get(related);
    const notice = isInRequest(method)
      ? admitted && (await noticeInRequest(method, params, admitted, this.#env))
      : admitted === undefined
        ? noticeOutside(method, params, (uri) => this.#watching.isWatched(uri))
        : undefined;
    if (!notice) return;
    if (admitted) admitted.takesWhole = undefined;
    await this.#write({ ...notice }, options);
  }

  async #answer(id: Id, error: WireError): Promise<void> {
    await this.#write({ jsonrpc: '2.0', id, error });
  }

  async #write(message: Record<string, unknown>, options?: TransportSendOptions): Promise<void> {
    await this.#send(message as unknown as JSONRPCMessage, options);
  }
}

function ignore(): void {}

function withoutAuth(extra: MessageExtraInfo | undefined): MessageExtraInfo {
  const { authInfo: _, ...rest } = extra ?? {};
  return rest;
}
