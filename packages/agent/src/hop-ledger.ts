import {
  type AuditEventName,
  type AuditRecord,
  type AuditSink,
  type Check,
  comparedByKey,
  HmcpError,
  type HmcpErrorCode,
  keyedHash,
  type NamedPatient,
  patientKey,
  type ResultVerdict,
} from '@hmcp/core';
import type { RequestScope } from '@hmcp/core/request-scope';
import { type AgentEventEmitter, type AgentEvents, type HopEvent, observerOf } from './events.js';
import type { ResolvedPeer } from './peers.js';
import { sealOf } from './sealed-scope.js';

/** Where oddities of the program itself are told; a pino logger fits. Holds fixed words only. */
export interface AgentLog {
  warn(fields: Readonly<Record<string, string | number>>, message: string): void;
}

/** One outgoing request, as the ledger knows it. */
export interface Hop {
  readonly scope: RequestScope;
  readonly event: HopEvent;
  readonly binding: 'none' | 'checked';
  readonly disclosed: boolean;
  readonly record: Omit<AuditRecord, 'event' | 'outcome'>;
}

/** What is known of a request before it leaves. */
export interface HopStart {
  /** `undefined`: nobody declared this server. */
  readonly peer: ResolvedPeer | undefined;
  readonly method: string;
  readonly tool: string | undefined;
  readonly traceparent?: string | undefined;
  /** Whether the answer must be bound to the request. @default true for an `hmcp` peer */
  readonly bound?: boolean | undefined;
}

const NAME = /^[A-Za-z0-9_./-]{1,128}$/;

/**
 * Writes down what a caller does and decides: the audit record first, durable, then the event, then the refusal into the
 * scope, where the guard finds it even when a handler swallows the exception.
 * @see protocol sections 4 and 8
 */
export class HopLedger {
  readonly by: string;
  readonly #clientId: string;
  readonly #key: string;
  readonly #audit: AuditSink;
  readonly #events: AgentEventEmitter;
  readonly #log: AgentLog | undefined;

  constructor(options: {
    by: string;
    clientId: string;
    pseudonymKey: string;
    audit: AuditSink;
    events: AgentEventEmitter;
    log?: AgentLog | undefined;
  }) {
    this.by = options.by;
    this.#clientId = options.clientId;
    this.#key = options.pseudonymKey;
    this.#audit = options.audit;
    this.#events = options.events;
    this.#log = options.log;
  }

  /** Prepares the record of one request. Caller's text enters only when it has the form of a name. */
  async open(scope: RequestScope, start: HopStart): Promise<Hop> {
    const { token, envelope, hop, txn } = scope.facts;
    const { peer, traceparent } = start;
    const method = NAME.test(start.method) ? start.method : 'other';
    const tool = start.tool !== undefined && NAME.test(start.tool) ? start.tool : undefined;
    const binding = (start.bound ?? peer?.kind === 'hmcp') ? 'checked' : 'none';
    return {
      scope,
      binding,
      disclosed: peer?.kind === 'external',
      event: { peer: peer?.name ?? 'undeclared', method, tool, intent: envelope.intent.id, hop, traceparent },
      record: {
        by: this.by,
        hop,
        issuer: token?.issuer,
        subject: token && (await keyedHash(this.#key, token.subject)),
        clientId: this.#clientId,
        actors: token?.actors,
        jti: token?.jti,
        txn,
        traceparent,
        intent: envelope.intent.id,
        ...(await this.#patient(scope)),
        method,
        tool,
        peer: peer?.resource ?? 'undeclared',
        binding,
      },
    };
  }

  /** Inside a session the manager's key, with session and epoch; outside this process's own. @see protocol section 8 */
  async #patient(scope: RequestScope): Promise<Pick<AuditRecord, 'sid' | 'epoch' | 'pk' | 'pkScope'>> {
    const seal = sealOf(scope);
    if (seal !== undefined) return { sid: seal.sid, epoch: seal.epoch, pk: seal.pk };
    return { pk: await patientKey(this.#key, scope.facts.context), pkScope: 'local' };
  }

  /** A refusal by this process. */
  refusal(scope: RequestScope | undefined, code: HmcpErrorCode, check: Check, reason: string): HmcpError {
    const facts = scope?.facts;
    const hop = facts !== undefined && facts.hop > 0 ? { hop: facts.hop } : {};
    const intent = facts === undefined ? {} : { intent: facts.envelope.intent.id };
    return new HmcpError(code, { by: this.by, check, ...hop, ...intent }, { reason });
  }

  /** The request is about to leave. @throws {HmcpError} 50302 when its record could not be made durable */
  async called(hop: Hop): Promise<void> {
    await this.#append(hop, { event: hop.disclosed ? 'hop.disclosure' : 'hop.call', outcome: 0 });
    this.#emit(hop, 'call', { binding: hop.binding, disclosed: hop.disclosed });
  }

  /** The answer passed every check. @throws {HmcpError} 50302 when its record could not be made durable */
  async answered(hop: Hop, verdict: Extract<ResultVerdict, { inside: true }>, isError: boolean): Promise<void> {
    const { types, unverifiable } = verdict;
    const failed = isError ? { reason: 'the peer reported an error of its own' } : {};
    await this.#append(hop, { event: 'hop.result', outcome: isError ? 4 : 0, types, unverifiable, ...failed });
    this.#emit(hop, 'result', { binding: hop.binding, types, unverifiable, isError });
  }

  /** The call was refused, here or further on. Gives the refusal to answer with: 50302 when it could not be recorded. */
  async refused(hop: Hop, error: HmcpError): Promise<HmcpError> {
    const { code, check, data, reason } = error;
    const settled = await this.#settle(hop, error, { event: 'hop.refused', outcome: 4, code, check, reason });
    this.#emit(hop, 'refused', { code, check, by: data.by, refusal: error });
    return settled;
  }

  /** The peer answered with an error that is no refusal of ours. @throws {HmcpError} 50302 */
  async failed(hop: Hop, code: number): Promise<void> {
    await this.#append(hop, { event: 'hop.refused', outcome: 4, code, reason: 'the peer answered with an error' });
    this.#emit(hop, 'refused', { code, check: undefined, by: hop.record.peer ?? 'undeclared', refusal: undefined });
  }

  /** Something came back, or would, that must not be delivered. Gives the refusal that settles the call. @param named whom it was compared by */
  async dropped(hop: Hop, code: 40901 | 40903, reason: string, named: readonly NamedPatient[] = []): Promise<HmcpError> {
    const error = this.refusal(hop.scope, code, 'result', reason);
    const compared = named.length === 0 ? {} : { compared: await comparedByKey(this.#key, named) };
    const settled = await this.#settle(hop, error, {
      event: 'hop.dropped',
      outcome: 8,
      code,
      check: 'result',
      reason,
      ...compared,
    });
    this.#emit(hop, 'result-dropped', { code, reason, refusal: error });
    return settled;
  }

  /** The caller stopped waiting: its own decision, no refusal. */
  async cancelled(hop: Hop): Promise<void> {
    await this.#append(hop, { event: 'hop.dropped', outcome: 0, reason: 'the caller stopped waiting' });
  }

  /** A request for a patient-context server made outside every request: there is no patient to send. */
  async refusedOutside(start: HopStart): Promise<HmcpError> {
    const error = this.refusal(undefined, 42801, 'envelope', 'outside any request');
    const { code, check, reason } = error;
    const peer = start.peer?.resource ?? 'undeclared';
    const record = {
      event: 'hop.refused',
      outcome: 4,
      by: this.by,
      clientId: this.#clientId,
      code,
      check,
      reason,
      peer,
    } as const;
    const method = NAME.test(start.method) ? start.method : 'other';
    try {
      await this.#audit.append({ ...record, method });
      return error;
    } catch {
      return this.refusal(undefined, 50302, 'audit', 'the record could not be made durable');
    }
  }

  /** Tells the log; fixed words only. */
  warn(message: string, fields: Readonly<Record<string, string | number>> = {}): void {
    this.#log?.warn({ by: this.by, ...fields }, message);
  }

  async #settle(hop: Hop, error: HmcpError, record: Pick<AuditRecord, 'event' | 'outcome'> & Partial<AuditRecord>) {
    try {
      await this.#append(hop, record);
    } catch (failure) {
      if (failure instanceof HmcpError) return failure;
      throw failure;
    }
    this.#remember(hop.scope, error);
    return error;
  }

  async #append(hop: Hop, record: { event: AuditEventName; outcome: AuditRecord['outcome'] } & Partial<AuditRecord>) {
    try {
      await this.#audit.append({ ...hop.record, ...record });
    } catch {
      this.warn('an audit record could not be made durable', { event: record.event });
      const error = this.refusal(hop.scope, 50302, 'audit', 'the record could not be made durable');
      this.#remember(hop.scope, error);
      throw error;
    }
  }

  #remember(scope: RequestScope, error: HmcpError): void {
    if (!scope.refusals.includes(error)) scope.refusals.push(error);
  }

  #emit<E extends keyof AgentEvents>(hop: Hop, name: E, more: Omit<AgentEvents[E][0], keyof HopEvent>): void {
    const event = { ...hop.event, ...more } as AgentEvents[E][0];
    for (const emitter of [this.#events, observerOf(hop.scope)]) {
      try {
        (emitter as { emit(name: string, event: object): boolean } | undefined)?.emit(name, event);
      } catch {
        this.warn('a listener failed', { event: name });
      }
    }
  }
}
