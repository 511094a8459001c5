import {
  type AuditRecord,
  CLIENT_NOTIFICATIONS,
  type Envelope,
  HmcpError,
  isSealed,
  META,
  type Operation,
  type PatientContext,
  PROTOCOL_VERSION,
  patientKey,
  type Refusal,
} from '@hmcp/core';
import { RequestScope } from '@hmcp/core/request-scope';
import type { AuthInfo, JSONRPCMessage, MessageExtraInfo, Transport, TransportSendOptions } from '@modelcontextprotocol/server';
import { admit, describe, type Inbound, refusalError } from './admission.js';
import type { AgentEnv } from './define-agent.js';
import type { Declarations } from './operations.js';
import { bindResult, examineResult } from './result.js';

/** What the layer in front of the transport knows of one request: its verified token and the headers that count. */
export interface Exchange extends Pick<Inbound, 'token' | 'accessToken' | 'header' | 'traceparent'> {
  /** Aborts when the caller goes away. */
  readonly signal?: AbortSignal | undefined;
  /** Set by the guard: the scopes to name in a 403, decided before the first byte is sent. */
  challenge?: string | undefined;
  /** Decisions under way; the gate waits for them before it lets a response begin. */
  readonly deciding: Promise<unknown>[];
}

/** How a guard finds the exchange of a message, what is declared, and how a scope refusal is carried. */
export interface GuardOptions {
  readonly env: AgentEnv;
  declarations(): Declarations;
  /** The exchange a message belongs to; a refusal when its token does not verify (stdio); `undefined` refuses everything. */
  exchange(message: Message, extra: MessageExtraInfo | undefined): Promise<Exchange | HmcpError | undefined>;
  /** `http`: the gate answers 403. `stdio`: JSON-RPC 40300. */
  readonly carrier: 'http' | 'stdio';
}

/** A JSON-RPC message, loosely: the guard looks at it before any schema does. */
export type Message = Record<string, unknown> & {
  id?: string | number | null;
  method?: string;
  params?: Record<string, unknown>;
};

interface Pending {
  readonly inbound: Inbound;
  readonly scope: RequestScope | undefined;
  readonly context: PatientContext | undefined;
  readonly envelope: Envelope | undefined;
  readonly record: Omit<AuditRecord, 'event' | 'outcome'>;
  readonly progressToken: unknown;
  readonly expiry: NodeJS.Timeout | undefined;
}

type WireError = { code: number; message: string; data?: unknown };

const environments = new WeakMap<RequestScope, AgentEnv>();

/** The deployment that serves a scope; how `patientTool` reaches it without a parameter in every handler. */
export function environmentOf(scope: RequestScope): AgentEnv | undefined {
  return environments.get(scope);
}

/**
 * Instruments a server transport in place: every inbound message passes the ordered decision before any handler, every
 * outbound one the result check, binding and audit before it leaves. Nothing can be registered around it.
 * @see protocol section 3
 */
export function guardTransport<T extends Transport>(transport: T, options: GuardOptions): T {
  const guard = new TransportGuard(transport, options);
  let inner: Transport['onmessage'];
  Object.defineProperty(transport, 'onmessage', {
    configurable: true,
    enumerable: true,
    get: () => inner,
    set(handler: Transport['onmessage']) {
      inner =
        handler &&
        ((message: JSONRPCMessage, extra?: MessageExtraInfo) => guard.receive(message as Message, extra, handler as Deliver));
    },
  });
  return transport;
}

type Deliver = (message: unknown, extra?: MessageExtraInfo) => void;

class TransportGuard {
  readonly #send: Transport['send'];
  readonly #options: GuardOptions;
  readonly #pending = new Map<string | number, Pending>();

  constructor(transport: Transport, options: GuardOptions) {
    this.#options = options;
    this.#send = transport.send.bind(transport);
    Object.defineProperty(transport, 'send', {
      configurable: true,
      writable: true,
      value: (message: JSONRPCMessage, sendOptions?: TransportSendOptions) => this.send(message as Message, sendOptions),
    });
  }

  /** Inbound: requests are decided, notifications filtered, answers to questions we never asked dropped. */
  receive(message: Message, extra: MessageExtraInfo | undefined, deliver: Deliver): void {
    if (typeof message.method !== 'string') return;
    if (message.id === undefined) {
      void this.#notified(message, extra, deliver);
      return;
    }
    void this.#requested({ ...message, id: message.id ?? null, method: message.method }, extra, deliver);
  }

  async #notified(message: Message, extra: MessageExtraInfo | undefined, deliver: Deliver): Promise<void> {
    const { method = '' } = message;
    if (CLIENT_NOTIFICATIONS.includes(method)) {
      if (method === 'notifications/cancelled') this.#cancelled(message.params?.requestId);
      deliver(message, withoutAuth(extra));
      return;
    }
    const { env } = this.#options;
    const reason = 'client notification outside the closed list';
    await this.#audit({ event: 'notification.dropped', outcome: 4, by: env.resource, reason }).catch(() => undefined);
  }

  /** A cancelled request gets no answer: its scope ends here. */
  #cancelled(requestId: unknown): void {
    const pending = this.#pending.get(requestId as string | number);
    if (!pending) return;
    this.#pending.delete(requestId as string | number);
    clearTimeout(pending.expiry);
    pending.scope?.close();
    void this.#audit({ ...pending.record, event: 'request.refused', outcome: 4, reason: 'cancelled by the caller' }).catch(
      () => undefined,
    );
  }

  async #requested(
    message: Message & { method: string; id: string | number | null },
    extra: MessageExtraInfo | undefined,
    deliver: Deliver,
  ): Promise<void> {
    const id = message.id ?? '';
    const { env } = this.#options;
    let exchange: Exchange | undefined;
    let decided = (): void => {};
    try {
      const found = await this.#options.exchange(message, extra);
      if (found === undefined) throw new HmcpError(40100, { by: env.resource, check: 'token' });
      if (found instanceof HmcpError) throw found;
      exchange = found;
      exchange.deciding.push(
        new Promise<void>((resolve) => {
          decided = resolve;
        }),
      );
      await this.#serve(message, id, exchange, extra, deliver);
    } catch (error) {
      const refusal = error instanceof HmcpError ? error : undefined;
      if (!refusal) env.log?.error({ err: error }, 'a request could not be decided');
      await this.#answerError(id, refusal ? wireError(refusal) : { code: -32603, message: 'Internal error' });
    } finally {
      decided();
    }
  }

  async #serve(
    message: Message & { method: string },
    id: string | number,
    exchange: Exchange,
    extra: MessageExtraInfo | undefined,
    deliver: Deliver,
  ): Promise<void> {
    const { env } = this.#options;
    const params = message.params ?? {};
    const operation = this.#options.declarations().forRequest(message.method, params);
    const inbound: Inbound = { ...pick(exchange), method: message.method, params, operation };
    const decision = await admit(inbound, env);
    const context = decision.verdict === 'serve' ? decision.context : undefined;
    const received = intentOf(params);
    const record = { ...(await describe(inbound, env, context)), intent: received };

    if (decision.verdict === 'refuse') {
      const { refusal } = decision;
      const code =
        refusal.kind === 'context'
          ? refusal.code
          : refusal.kind === 'malformed'
            ? -32602
            : this.#options.carrier === 'http'
              ? 403
              : 40300;
      await this.#audit({ ...record, event: 'request.refused', outcome: 4, code, check: refusal.check, reason: refusal.reason });
      if (refusal.kind === 'scope') exchange.challenge = refusal.scope;
      await this.#answerError(id, refusalOnWire(refusal, inbound, env, received));
      return;
    }
    if (this.#pending.has(id)) {
      await this.#answerError(id, { code: -32600, message: 'Invalid Request' });
      return;
    }

    const invalid = invalidArguments(operation, message.method, params);
    if (context !== undefined && invalid !== undefined) {
      await this.#audit({
        ...record,
        event: 'request.refused',
        outcome: 4,
        code: -32602,
        check: 'argument',
        reason: 'arguments do not satisfy the declared input',
      });
      await this.#answerError(id, { code: -32602, message: invalid });
      return;
    }

    const scope =
      decision.context === undefined ? undefined : openScope(inbound, exchange, decision.context, decision.envelope, env);
    this.#pending.set(id, {
      inbound,
      scope,
      context,
      envelope: decision.context === undefined ? undefined : decision.envelope,
      record: {
        ...record,
        intent: scope?.facts.envelope.intent.id ?? received,
        ...(decision.context === undefined
          ? {}
          : { contextMethod: decision.contextMethod, ...(decision.effect ? { fence: 'none' as const } : {}) }),
      },
      progressToken: (params._meta as Record<string, unknown> | undefined)?.progressToken,
      expiry: scope && expire(scope, inbound.token.expiresAt, env),
    });
    const forHandler = { ...message, params: handlerParams(params, operation, context) };
    const handlerExtra: MessageExtraInfo = { ...extra, authInfo: publicAuthInfo(inbound) };
    if (scope) scope.run(() => deliver(forHandler, handlerExtra));
    else deliver(forHandler, handlerExtra);
  }

  /** Outbound: results are checked and bound, errors scrubbed, server requests refused. */
  async send(message: Message, options?: TransportSendOptions): Promise<void> {
    if (typeof message.method === 'string') {
      if (message.id !== undefined) throw new Error('an HMCP server sends no requests to its client');
      return this.#notify(message, options);
    }
    const id = message.id ?? '';
    const pending = this.#pending.get(id);
    if (!pending) {
      // An answer to no admitted request: the SDK's own protocol errors. Results are never released here.
      return 'error' in message
        ? this.#write({ jsonrpc: '2.0', id: message.id ?? null, error: scrub(message.error as WireError) }, options)
        : undefined;
    }
    this.#pending.delete(id);
    const answer = await this.#settle(message, pending);
    clearTimeout(pending.expiry);
    pending.scope?.close();
    await this.#write({ jsonrpc: '2.0', id: message.id, ...answer }, options);
  }

  async #settle(message: Message, pending: Pending): Promise<{ result: unknown } | { error: WireError }> {
    const { env } = this.#options;
    const { inbound, scope, context, record } = pending;
    try {
      const downstream = scope?.refusals[0];
      const result = message.result as Record<string, unknown> | undefined;
      if (downstream && (result === undefined || result.isError === true)) {
        await this.#audit({
          ...record,
          event: 'request.refused',
          outcome: 4,
          code: downstream.code,
          check: downstream.check,
          reason: 'a hop behind this one refused',
          peer: downstream.data.by,
        });
        return { error: wireError(downstream) };
      }
      if (result === undefined) {
        const error = scrub(message.error as WireError);
        await this.#audit({ ...record, event: 'request.refused', outcome: 8, code: error.code, reason: 'the handler failed' });
        return { error };
      }
      if (scope === undefined || context === undefined) {
        await this.#audit({ ...record, event: 'request.served', outcome: 0 });
        return { result: this.#hidePatientArguments(inbound.method, result) };
      }
      return await this.#release(result, pending, scope, context);
    } catch (error) {
      if (error instanceof HmcpError) return { error: wireError(error) };
      env.log?.error({ err: error }, 'an answer could not be settled');
      return { error: { code: -32603, message: 'Internal error' } };
    }
  }

  async #release(
    result: Record<string, unknown>,
    pending: Pending,
    scope: RequestScope,
    context: PatientContext,
  ): Promise<{ result: unknown } | { error: WireError }> {
    const { env } = this.#options;
    const { inbound, envelope, record } = pending;
    const withhold = async (reason: string): Promise<{ error: WireError }> => {
      await this.#audit({ ...record, event: 'result.withheld', outcome: 8, code: 40903, check: 'result', reason });
      return {
        error: wireError(refusalError({ kind: 'context', code: 40903, check: 'result', reason }, inbound, env, record.intent)),
      };
    };
    if (scope.closed) {
      await this.#audit({
        ...record,
        event: 'result.withheld',
        outcome: 8,
        code: 40901,
        check: 'epoch',
        reason: 'the scope of the request has ended',
      });
      return {
        error: wireError(
          refusalError({ kind: 'context', code: 40901, check: 'epoch', reason: 'closed scope' }, inbound, env, record.intent),
        ),
      };
    }
    if (scope.holdsForeign(result)) return withhold('the result holds an object of another request');
    const cleaned =
      result.isError === true
        ? { ...result, content: [{ type: 'text', text: 'The tool failed.' }], structuredContent: undefined }
        : result;
    const examined = examineResult(inbound.method, cleaned, context, cleaned === result ? inbound.operation : undefined);
    if (!examined.inside) return withhold(examined.reason);
    if (examined.unverifiable > 0 && cleaned === result && env.unverifiable === 'withhold')
      return withhold('a part of the result cannot be verified');
    await this.#audit({
      ...record,
      event: 'request.served',
      outcome: result.isError === true ? 4 : 0,
      types: examined.types,
      ...(examined.unverifiable > 0 ? { unverifiable: examined.unverifiable } : {}),
    });
    const meta = { ...(result._meta as Record<string, unknown> | undefined) };
    for (const key of Object.keys(meta)) if (key.startsWith('dev.hmcp/')) delete meta[key];
    if (envelope !== undefined && !isSealed(envelope)) {
      const pk = await patientKey(envelope.intent.id, context);
      meta[META.context] = bindResult(pk, envelope.intent.id, env.resource, examined.resources);
    }
    return { result: this.#uncached({ ...cleaned, _meta: meta }) };
  }

  /** Nothing about a patient is cached anywhere: the hints say so whatever the handler set. @see protocol section 3 */
  #uncached(result: Record<string, unknown>): Record<string, unknown> {
    return { ...result, ttlMs: 0, cacheScope: 'private' };
  }

  #hidePatientArguments(method: string, result: Record<string, unknown>): Record<string, unknown> {
    if (method !== 'tools/list' || !Array.isArray(result.tools)) return result;
    const declarations = this.#options.declarations();
    const tools = result.tools.map(
      (tool: { name: string; inputSchema?: { properties?: Record<string, unknown>; required?: string[] } }) => {
        const hidden = declarations.patientArgument(tool.name);
        if (hidden === undefined || !tool.inputSchema) return tool;
        const { [hidden]: _, ...properties } = tool.inputSchema.properties ?? {};
        const required = (tool.inputSchema.required ?? []).filter((name) => name !== hidden);
        return { ...tool, inputSchema: { ...tool.inputSchema, properties, required } };
      },
    );
    return { ...result, tools };
  }

  async #notify(message: Message, options: TransportSendOptions | undefined): Promise<void> {
    const { method } = message;
    if (method === 'notifications/cancelled') return this.#write(message, options);
    const related = options?.relatedRequestId;
    const pending = related === undefined ? undefined : this.#pending.get(related as string | number);
    if (method === 'notifications/progress' || method === 'notifications/message') {
      if (!pending || pending.scope?.closed) return;
      return this.#notifyInRequest(message, pending, options);
    }
    const announces =
      method === 'notifications/resources/updated' ||
      method === 'notifications/subscriptions/acknowledged' ||
      method?.endsWith('/list_changed');
    if (!announces || pending) return;
    return this.#write(message, options);
  }

  async #notifyInRequest(message: Message, pending: Pending, options: TransportSendOptions | undefined): Promise<void> {
    const { context, envelope, scope } = pending;
    if (!context || !scope) return this.#write(message, options);
    const params = message.params ?? {};
    const said =
      typeof params.message === 'string'
        ? { content: [{ type: 'text', text: params.message }] }
        : { structuredContent: params.data };
    const examined = examineResult('tools/call', said, context, undefined);
    const unverifiable = examined.inside && examined.unverifiable > 0 && this.#options.env.unverifiable === 'withhold';
    if (!examined.inside || unverifiable || scope.holdsForeign(params)) {
      await this.#audit({
        ...pending.record,
        event: 'result.withheld',
        outcome: 8,
        code: 40903,
        check: 'result',
        reason: 'a notification during the request was withheld',
      });
      return;
    }
    const meta = { ...(params._meta as Record<string, unknown> | undefined) };
    if (message.method === 'notifications/progress' && envelope !== undefined && !isSealed(envelope)) {
      meta[META.context] = bindResult(
        await patientKey(envelope.intent.id, context),
        envelope.intent.id,
        this.#options.env.resource,
        examined.resources,
      );
    }
    return this.#write({ ...message, params: { ...params, _meta: meta } }, options);
  }

  /** Makes a record durable. @throws {HmcpError} 50302 when the sink cannot: nothing is released then */
  async #audit(record: AuditRecord): Promise<void> {
    const { env } = this.#options;
    try {
      await env.audit.append(record);
    } catch (cause) {
      env.log?.error({ err: cause }, 'an audit record could not be made durable');
      throw new HmcpError(50302, { by: env.resource, check: 'audit', ...(record.hop === undefined ? {} : { hop: record.hop }) });
    }
  }

  async #answerError(id: string | number, error: WireError): Promise<void> {
    await this.#write({ jsonrpc: '2.0', id, error });
  }

  async #write(message: Record<string, unknown>, options?: TransportSendOptions): Promise<void> {
    await this.#send(message as unknown as JSONRPCMessage, options);
  }
}

function openScope(
  inbound: Inbound,
  exchange: Exchange,
  context: PatientContext,
  received: Envelope | undefined,
  env: AgentEnv,
): RequestScope {
  const envelope: Envelope = received ?? {
    version: PROTOCOL_VERSION,
    patient: context.patient,
    intent: { id: crypto.randomUUID() },
    ...(context.tenant === undefined ? {} : { tenant: context.tenant }),
    ...(context.encounter === undefined ? {} : { encounter: context.encounter }),
  };
  const scope = new RequestScope({
    context,
    token: inbound.token,
    accessToken: inbound.accessToken,
    envelope,
    by: env.resource,
    hop: inbound.token.hop,
    txn: inbound.token.txn,
    traceparent: inbound.traceparent,
    signal: exchange.signal,
  });
  environments.set(scope, env);
  exchange.signal?.addEventListener('abort', () => scope.close(), { once: true, signal: scope.signal });
  return scope;
}

/** Ends a scope when the token it runs on expires: longer work is not this request's. @see protocol section 5 */
function expire(scope: RequestScope, expiresAt: number, env: AgentEnv): NodeJS.Timeout {
  const timer = setTimeout(() => scope.close(), Math.min(Math.max(expiresAt * 1000 - (env.now ?? Date.now)(), 0), 2 ** 31 - 1));
  timer.unref();
  return timer;
}

function handlerParams(
  params: Readonly<Record<string, unknown>>,
  operation: Operation | undefined,
  context: PatientContext | undefined,
): Record<string, unknown> {
  const { [META.authorization]: _, ...meta } = (params._meta ?? {}) as Record<string, unknown>;
  const shown = params._meta === undefined ? { ...params } : { ...params, _meta: meta };
  if (operation?.patientArgument === undefined || context === undefined) return shown;
  return {
    ...shown,
    arguments: { ...(params.arguments as Record<string, unknown> | undefined), [operation.patientArgument]: context.patient },
  };
}

/** Which fields of the arguments a contract's input refuses; names of fields only, never values. */
function invalidArguments(
  operation: Operation | undefined,
  method: string,
  params: Readonly<Record<string, unknown>>,
): string | undefined {
  if (method !== 'tools/call' || operation === undefined || !('input' in operation)) return undefined;
  const { input } = operation as {
    input: { safeParse(value: unknown): { success: boolean; error?: { issues: { path: PropertyKey[]; code: string }[] } } };
  };
  const parsed = input.safeParse(params.arguments ?? {});
  if (parsed.success) return undefined;
  const fields = [
    ...new Set(parsed.error?.issues.map(({ path, code }) => (path.length === 0 ? code : path.map(String).join('.')))),
  ];
  return `Invalid params: ${fields.slice(0, 8).join(', ')}`.slice(0, 200);
}

function publicAuthInfo({ token }: Inbound): AuthInfo {
  return { token: '', clientId: token.clientId, scopes: token.scope.split(' '), expiresAt: token.expiresAt };
}

function withoutAuth(extra: MessageExtraInfo | undefined): MessageExtraInfo {
  const { authInfo: _, ...rest } = extra ?? {};
  return rest;
}

function pick({
  token,
  accessToken,
  header,
  traceparent,
}: Exchange): Pick<Inbound, 'token' | 'accessToken' | 'header' | 'traceparent'> {
  return { token, accessToken, header, traceparent };
}

function intentOf(params: Readonly<Record<string, unknown>>): string | undefined {
  const envelope = (params._meta as Record<string, unknown> | undefined)?.[META.context] as
    | { intent?: { id?: unknown } }
    | undefined;
  const id = envelope?.intent?.id;
  return typeof id === 'string' && /^[A-Za-z0-9\-_.]{1,128}$/.test(id) ? id : undefined;
}

function refusalOnWire(refusal: Refusal, inbound: Inbound, env: AgentEnv, intent: string | undefined): WireError {
  if (refusal.kind === 'malformed') return { code: -32602, message: `Invalid params: _meta["${META.context}"]` };
  if (refusal.kind === 'scope')
    return wireError(new HmcpError(40300, { by: env.resource, hop: inbound.token.hop, check: 'scope' }));
  return wireError(refusalError(refusal, inbound, env, intent));
}

/** A refusal as JSON-RPC: the fixed sentence of its code, and its data. */
export function wireError(error: HmcpError): WireError {
  return { code: error.code, message: error.message, data: error.data };
}

const PROTOCOL_ERRORS: Readonly<Record<number, string>> = {
  [-32700]: 'Parse error',
  [-32600]: 'Invalid Request',
  [-32601]: 'Method not found',
  [-32602]: 'Invalid params',
  [-32603]: 'Internal error',
  [-32022]: 'Unsupported protocol version',
  [-32021]: 'Missing required client capability',
  [-32020]: 'Header mismatch',
};

/** What is left of a handler's or SDK's error: its code and a fixed sentence. Its text may hold anything. */
function scrub(error: WireError): WireError {
  const code = Object.hasOwn(PROTOCOL_ERRORS, error.code) ? error.code : -32603;
  const versions = code === -32022 && isVersionData(error.data) ? { data: error.data } : {};
  return { code, message: PROTOCOL_ERRORS[code] ?? 'Internal error', ...versions };
}

function isVersionData(data: unknown): boolean {
  return (
    typeof data === 'object' && data !== null && Object.keys(data).every((key) => key === 'supported' || key === 'requested')
  );
}
