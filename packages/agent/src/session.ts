import type { Grant } from '@hmcp/auth';
import { HmcpError, type HmcpErrorCode, PatientContext, type PatientTool, samePatient } from '@hmcp/core';
import { currentScope, outsideScope, type RequestScope } from '@hmcp/core/request-scope';
import type * as z from 'zod';
import type { Agent, CallOptions } from './agent.js';
import { partsOf } from './agent-parts.js';
import { deliverable } from './delivery.js';
import { type AgentEventEmitter, agentEvents } from './events.js';
import type { ClientTransport } from './instrument.js';
import { ManagedStay } from './managed-stay.js';
import { type ManagerAuthority, managerAuthority } from './manager-authority.js';
import { lacksSessionScope, renewWith } from './managers.js';
import type { MessagePlace, PlaceMessage } from './message-place.js';
import type { SwitchDecision, SwitchReport, SwitchRequest } from './patient-switch.js';
import { processAuthority } from './process-authority.js';
import { SessionActs, type Stay } from './session-acts.js';
import { sessionFetch } from './session-fetch.js';
import { peerOf, protectTransport, type TransportOptions } from './session-transport.js';
import { unlessAborted } from './unless-aborted.js';

/** One patient at a time, from launch to close, at the process where the person acts. */
export interface Session {
  /** Who answers for the session's safety: `process` is this one alone, `manager` a context manager. */
  readonly assurance: 'process' | 'manager';
  /** The manager's name of the session. */
  readonly sid: string | undefined;
  /** Counts patients (and encounters): one more with every committed switch. */
  readonly epoch: number;
  /** Events of this session's own calls. */
  readonly events: AgentEventEmitter;
  /**
   * Calls a tool of a declared peer about the session's patient: inside {@link act} with that act's intent, else one of its own.
   * @throws {HmcpError} 41001 `check: "session"` after {@link close}; 40901 when the session went on to another patient meanwhile;
   * 50301 `check: "session"` while nobody can say which patient it is on; otherwise as {@link Agent.call}
   */
  call<I extends z.ZodObject, O extends z.ZodType>(
    peer: string,
    contract: PatientTool<I, O>,
    args: z.input<I>,
    options?: CallOptions,
  ): Promise<z.output<O>>;
  /**
   * One act of the person: everything `fn` calls, through the session, the agent or an instrumented client, has one intent and one
   * epoch. A switch ends it: it rejects with 40901 `check: "result"`, and what it still calls is refused.
   * @param fn gets a signal that aborts when the act ends
   */
  act<T>(fn: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /**
   * Protects a client transport of MCP SDK v1 or v2, HTTP or stdio, in place, for a client one did not write. Inside {@link act} its
   * requests belong to that act; outside every act each is one of its own, about the patient of that moment: that is so also when a
   * framework lost the async context of an act. Handshake and catalogue need no act. After a switch the same client goes on about
   * the next patient: what was under way ends with 40901, and so does what an act that is over still sends. Inside a request or an
   * act that is not of this session it is refused: 42801 `check: "session"`. What the client rejects with is read by `HmcpError.from`;
   * where a framework keeps only its text, {@link AgentEvents.refused} has it. What a framework remembers is its own: a conversation
   * about one patient is not continued about the next.
   * @throws {TypeError} when it was done before, its kind cannot be told, or it does not lead to exactly one declared peer
   * @see protocol section 7
   */
  transport<T extends ClientTransport>(transport: T, options?: TransportOptions): T;
  /**
   * The same for MCP clients that take only a `fetch`: reaches declared peers at their address, everything else is 42801. A refused
   * request is answered with a JSON-RPC error; GET streams are not offered (405). Bound: it can be handed on as it is.
   * @see protocol section 7
   */
  readonly fetch: typeof globalThis.fetch;
  /**
   * Goes to the next patient: a new grant, the person's confirmation, one commit. Calls under way are settled with 40901, their
   * late answers dropped; no intent is ever sent again. Whatever else happens, the session stays where it was.
   * @throws {HmcpError} 40301 inside a request or an act: no agent or model switches; 40902 while a switch is under way; 41001
   * @see protocol section 6
   */
  switchPatient(request: SwitchRequest): Promise<SwitchReport>;
  /**
   * Goes on with a renewed grant of the same person, client and patient, in the same session and epoch. Calls under way keep theirs.
   * @throws {HmcpError} 40903 `check: "session"` for any other grant; 40902 while a switch is under way; 41001
   */
  renew(grant: Grant): void;
  /** Ends the session: calls under way are settled with 40901, later ones refused with 41001. The grant is not revoked. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Options of {@link openSession}. */
export interface SessionOptions {
  readonly agent: Agent;
  readonly grant: Grant;
  /**
   * Resource identifier of a manager that the agent's `seals` lists. The grant must cover `hmcp:context.switch`,
   * `hmcp:context.participate` and `patient/Patient.r`. @default none: a process session
   */
  readonly manager?: string | undefined;
  /** Client identifiers of agents that may join, with a manager. @default [] */
  readonly participants?: readonly string[] | undefined;
  /** Makes ids of intents and switches. @default a random UUID */
  readonly id?: (() => string) | undefined;
}

/**
 * Opens a session on the patient of a grant.
 * @throws {HmcpError} 42801 `check: "session"` when the grant names no patient, or not one by a bare FHIR id; with a manager
 * 40301 `check: "scope"` when the grant lacks `hmcp:context.switch`, `hmcp:context.participate` or `patient/Patient.r`, its refusal, 40302 or 50301 when it could not be asked, 40903 `check: "seal"` when its seal does not fit the grant
 * @throws {TypeError} for a manager the agent does not trust
 * @see protocol sections 1, 2.2 and 6
 */
export async function openSession(options: SessionOptions): Promise<Session> {
  const { agent, grant, participants = [], id = () => crypto.randomUUID() } = options;
  const context = contextOf(grant);
  if (context === undefined) throw refusal(agent, 42801, 'the grant names no patient');
  if (options.manager === undefined) return new PatientSession({ agent, id, stay: { grant, context, epoch: 1 } });
  const parts = partsOf(agent);
  const manager = parts.managers.named(options.manager);
  const lacks = lacksSessionScope(grant, agent.by);
  if (lacks !== undefined) throw lacks;
  const where = { parts, manager, by: agent.by };
  const { managed, stay } = await ManagedStay.open({ ...where, grant, context, participants, idempotencyKey: id() });
  return new PatientSession({ agent, id, stay, managed, authority: managerAuthority(parts, manager, managed.sid, agent.by) });
}

class PatientSession implements Session {
  readonly events = agentEvents();
  readonly fetch: typeof globalThis.fetch = (input, init) => this.#clientFetch()(input, init);
  readonly #agent: Agent;
  /** Made when a client first asks. */
  #fetch: typeof globalThis.fetch | undefined;
  readonly #id: () => string;
  readonly #managed: ManagedStay | undefined;
  readonly #authority: ManagerAuthority | undefined;
  readonly #acts: SessionActs;
  #stay: Stay;
  #switching: AbortController | undefined;
  /** A switch that is being decided and carried out; not yet while the person signs in for it. */
  #deciding: Promise<SwitchReport> | undefined;
  /** A switch nobody could say the end of; until somebody does, nothing is delivered. */
  #unknown: { readonly switchId: string; readonly next: Stay } | undefined;
  #asking: Promise<void> | undefined;
  #closed = false;

  constructor(options: {
    agent: Agent;
    id: () => string;
    stay: Stay;
    managed?: ManagedStay;
    authority?: ManagerAuthority;
  }) {
    this.#agent = options.agent;
    this.#id = options.id;
    this.#stay = options.stay;
    this.#managed = options.managed;
    this.#authority = options.authority;
    this.#acts = new SessionActs({ by: options.agent.by, events: this.events, id: options.id });
  }

  get assurance(): Session['assurance'] {
    return this.#managed === undefined ? 'process' : 'manager';
  }

  get sid(): string | undefined {
    return this.#managed?.sid;
  }

  get epoch(): number {
    return this.#stay.epoch;
  }

  async call<I extends z.ZodObject, O extends z.ZodType>(
    peer: string,
    contract: PatientTool<I, O>,
    args: z.input<I>,
    options?: CallOptions,
  ): Promise<z.output<O>> {
    const inside = currentScope();
    if (inside !== undefined && this.#acts.owns(inside)) return this.#agent.call(peer, contract, args, options);
    const scope = await this.#begin();
    try {
      return await scope.run(() => this.#agent.call(peer, contract, args, options));
    } finally {
      this.#acts.end(scope);
    }
  }

  async act<T>(fn: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const inside = currentScope();
    if (inside !== undefined && this.#acts.owns(inside)) {
      inside.assertOpen();
      return fn(inside.signal);
    }
    const scope = await this.#begin();
    try {
      const value = await unlessAborted(
        scope.run(async () => fn(scope.signal)),
        scope.signal,
      );
      await deliverable(scope);
      if (scope.closed) throw this.#overtaken(scope);
      if (scope.holdsForeign(value)) throw this.#refuse(40903, 'result', 'an object of another act was returned', scope);
      return value;
    } catch (error) {
      throw scope.closed ? this.#overtaken(scope) : error;
    } finally {
      this.#acts.end(scope);
    }
  }

  #clientFetch(): typeof globalThis.fetch {
    const { link, peers, fetch } = partsOf(this.#agent);
    this.#fetch ??= sessionFetch({ parts: link, peers, placeNow: () => this.#placeNow(), base: fetch });
    return this.#fetch;
  }

  transport<T extends ClientTransport>(transport: T, { peer, kind }: TransportOptions = {}): T {
    const { link, peers } = partsOf(this.#agent);
    return protectTransport(transport, { parts: link, peer: peerOf(peers, transport, peer), kind, place: () => this.#place() });
  }

  async switchPatient(request: SwitchRequest): Promise<SwitchReport> {
    if (currentScope() !== undefined) throw this.#refuse(40301, 'session', 'asked for inside a request or an act');
    if (this.#closed) throw this.#refuse(41001, 'session', 'the session is closed');
    if (this.#switching !== undefined) throw this.#refuse(40902, 'session', 'a switch is under way');
    const switching = new AbortController();
    this.#switching = switching;
    const signal = request.signal === undefined ? switching.signal : AbortSignal.any([switching.signal, request.signal]);
    try {
      await this.#known();
      return await this.#switchTo({ ...request, signal });
    } finally {
      this.#switching = undefined;
    }
  }

  renew(grant: Grant): void {
    if (this.#closed) throw this.#refuse(41001, 'session', 'the session is closed');
    if (this.#switching !== undefined) throw this.#refuse(40902, 'session', 'a switch is under way');
    const { context, grant: before } = this.#stay;
    const named = contextOf(grant);
    const same = named !== undefined && samePatient(named, context) && named.encounter === context.encounter;
    if (!same || !this.#sameOwner(grant, before))
      throw this.#refuse(40903, 'session', 'the grant is of another person, client, server or patient');
    this.#stay = { ...this.#stay, grant };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#switching?.abort();
    this.#acts.close();
    // It closes on the patient and at the epoch it is on once that is known.
    await this.#deciding?.catch(() => undefined);
    try {
      await outsideScope(() => this.#managed?.close(this.#stay, this.#id()));
    } catch {
      partsOf(this.#agent).log?.warn({ by: this.#agent.by }, 'a session could not be closed at its manager');
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Where a message of a client belongs: to the act it is written in, else to one of its own. Never to an act that merely is under
   * way: whether it was meant for that one cannot be known.
   */
  async #place(stay = this.#stay): Promise<MessagePlace> {
    const inside = currentScope();
    if (inside === undefined) {
      const scope = await this.#begin(stay);
      return { scope, end: () => this.#acts.end(scope) };
    }
    if (this.#acts.owns(inside)) {
      inside.assertOpen();
      return { scope: inside, end: () => undefined };
    }
    throw this.#refuse(42801, 'session', 'inside a request or an act that is not of this session', inside);
  }

  /** For what is asked now and read later: never about a patient the session goes to in between. */
  #placeNow(): PlaceMessage {
    const stay = this.#stay;
    return () => this.#place(stay);
  }

  /** Begins an act on the patient of this very moment, or of the one it was `meant` in. */
  async #begin(meant = this.#stay): Promise<RequestScope> {
    if (this.#closed) throw this.#refuse(41001, 'session', 'the session is closed');
    await this.#known();
    const { seal: held, epoch } = this.#stay;
    if (this.#managed !== undefined && held === undefined && epoch === meant.epoch) {
      const seal = await this.#managed.seal(this.#stay);
      if (this.#stay.epoch === epoch) this.#stay = { ...this.#stay, seal };
    }
    // What was meant for the patient before is not done for the next.
    if (this.#stay.epoch !== meant.epoch) throw this.#refuse(40901, 'epoch', 'the session went on before the call began');
    if (this.#closed) throw this.#refuse(41001, 'session', 'the session is closed');
    const scope = this.#acts.begin(this.#stay);
    const { seal } = this.#stay;
    if (this.#managed !== undefined && seal !== undefined) {
      const [managed, current] = [this.#managed, this.#stay];
      renewWith(scope, (held) => managed.seal(current, held));
    }
    return scope;
  }

  async #switchTo(request: SwitchRequest & { signal: AbortSignal }): Promise<SwitchReport> {
    const stay = this.#stay;
    const switchId = this.#id();
    let grant: Grant;
    try {
      grant = await outsideScope(() => request.authorize());
    } catch (error) {
      return this.#report(switchId, { result: 'aborted', reason: 'authorization', error }, false);
    }
    const target = this.#sameOwner(grant, stay.grant) ? contextOf(grant) : undefined;
    if (target === undefined) {
      const error = this.#refuse(40903, 'session', 'the new grant is of another person, client or server, or names no patient');
      return this.#report(switchId, { result: 'aborted', reason: 'authorization', error }, await this.#revoke(grant, stay.grant));
    }
    if (request.signal.aborted || this.#closed) {
      return this.#report(switchId, { result: 'aborted', reason: 'aborted' }, await this.#revoke(grant, stay.grant));
    }
    const authority = this.#authority ?? processAuthority(() => stay.context);
    const proposal = {
      switchId,
      expectedEpoch: stay.epoch,
      target,
      grant,
      current: stay.grant,
      signal: request.signal,
      confirm: request.confirm,
      hold: () => this.#acts.hold(),
      release: () => this.#acts.release(),
    };
    const next = { grant, context: target, epoch: stay.epoch };
    this.#deciding = outsideScope(async () => this.#settle(switchId, await authority.decide(proposal), next));
    try {
      return await this.#deciding;
    } finally {
      this.#deciding = undefined;
    }
  }

  /** Carries out what was decided: the session moves in one turn, or stays. */
  async #settle(switchId: string, decision: SwitchDecision, next: Stay): Promise<SwitchReport> {
    const before = this.#stay;
    if (decision.result === 'pending') {
      this.#unknown = { switchId, next };
      return this.#report(switchId, decision, false);
    }
    this.#unknown = undefined;
    if (decision.result !== 'committed') {
      this.#acts.release();
      return this.#report(switchId, decision, await this.#revoke(next.grant, before.grant));
    }
    this.#stay = { ...next, epoch: decision.epoch };
    this.#acts.moveOn();
    await this.#useSeal(decision.seal);
    return this.#report(switchId, decision, await this.#revoke(before.grant, next.grant));
  }

  /** A seal that does not fit is not used: the next call asks for another, and is refused when that does not fit either. */
  async #useSeal(seal: string | undefined): Promise<void> {
    const stay = this.#stay;
    if (this.#managed === undefined || seal === undefined) return;
    const checked = await this.#managed.checked(seal, stay).catch(() => undefined);
    if (this.#stay.epoch === stay.epoch) this.#stay = { ...this.#stay, seal: checked };
  }

  /** Asks once more how a switch ended. @throws {HmcpError} 50301 while nobody can say */
  async #known(): Promise<void> {
    if (this.#unknown === undefined) return;
    this.#asking ??= this.#ask(this.#unknown).finally(() => {
      this.#asking = undefined;
    });
    await this.#asking;
    if (this.#unknown !== undefined) throw this.#refuse(50301, 'session', 'nobody can say which patient the session is on');
  }

  async #ask({ switchId, next }: { readonly switchId: string; readonly next: Stay }): Promise<void> {
    const grants = [next.grant, this.#stay.grant];
    const decision = await outsideScope(() => this.#authority?.outcomeOf(switchId, grants));
    if (decision !== undefined) await this.#settle(switchId, decision, next);
  }

  #sameOwner(next: Grant, before: Grant): boolean {
    return (
      next.fhirServer === before.fhirServer &&
      next.issuer === before.issuer &&
      next.clientId === before.clientId &&
      next.subject === before.subject
    );
  }

  /** Revokes a grant that is of no more use, unless the other one is the same. */
  async #revoke(grant: Grant, kept: Grant): Promise<boolean> {
    const same = grant === kept || grant.accessToken === kept.accessToken;
    if (same || (grant.refreshToken !== undefined && grant.refreshToken === kept.refreshToken)) return false;
    try {
      await outsideScope(() => grant.revoke());
      return true;
    } catch {
      partsOf(this.#agent).log?.warn({ by: this.#agent.by }, 'a grant could not be revoked');
      return false;
    }
  }

  #report(switchId: string, decision: SwitchDecision, revoked: boolean): SwitchReport {
    const { saved = 0, lost = 0, indeterminate = [], evicted = [] } = ('outcome' in decision && decision.outcome) || {};
    return {
      result: decision.result,
      ...('reason' in decision ? { reason: decision.reason } : {}),
      switchId,
      epoch: this.#stay.epoch,
      saved,
      lost,
      indeterminate,
      evicted,
      revoked,
      ...('error' in decision && decision.error !== undefined ? { error: decision.error } : {}),
    };
  }

  #overtaken(scope: RequestScope): HmcpError {
    return this.#refuse(40901, 'result', 'the act ended before its answer', scope);
  }

  #refuse(code: HmcpErrorCode, check: 'session' | 'epoch' | 'result', reason: string, scope?: RequestScope): HmcpError {
    const intent = scope === undefined ? {} : { intent: scope.facts.envelope.intent.id };
    return new HmcpError(code, { by: this.#agent.by, check, ...intent }, { reason });
  }
}

function contextOf({ fhirServer, tenant, patient, encounter }: Grant): PatientContext | undefined {
  return PatientContext.safeParse({
    fhirServer,
    patient,
    ...(tenant === undefined ? {} : { tenant }),
    ...(encounter === undefined ? {} : { encounter }),
  }).data;
}

function refusal(agent: Agent, code: HmcpErrorCode, reason: string): HmcpError {
  return new HmcpError(code, { by: agent.by, check: 'session' }, { reason });
}
