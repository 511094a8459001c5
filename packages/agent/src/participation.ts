import type { ClientCredentials, TrustedManager } from '@hmcp/auth';
import {
  type Check,
  type DecidedParams,
  Drained,
  type DrainParams,
  HmcpError,
  type HmcpErrorCode,
  MANAGER_METHODS,
  MANAGER_SCOPES,
  MAX_WAIT_MS,
  type ParticipantRole,
  type Participation,
  type PrepareParams,
  SessionFacts,
  type SessionWork,
  type SwitchKind,
  Vote,
} from '@hmcp/core';
import { outsideScope } from '@hmcp/core/request-scope';
import type * as z from 'zod';
import type { Agent } from './agent.js';
import { type AgentParts, partsOf } from './agent-parts.js';
import { AttendedSession } from './attended-session.js';
import type { ManagerClient } from './manager-client.js';

/** The switch a participant is asked about. It never hears to whom. */
export interface AskedSwitch {
  readonly sid: string;
  /** The epoch being left. */
  readonly epoch: number;
  readonly switchId: string;
  readonly kind: SwitchKind;
}

/** What an agent brings to the sessions it joins. Its callbacks run outside every request. */
export interface ParticipationOptions {
  readonly agent: Agent;
  /** Resource identifier of a manager that the agent's `seals` lists. */
  readonly manager: string;
  /** Tokens of the agent itself, for between requests. */
  readonly credentials: ClientCredentials;
  readonly role: ParticipantRole;
  /** `push`: the manager calls the server that is handed {@link SessionParticipation}; `pull`: asked here, in long polls. */
  readonly delivery: 'push' | 'pull';
  /** Votes on a switch; changes nothing. A rejection is silence, which is eviction. @default accept */
  readonly prepare?: ((asked: AskedSwitch) => z.input<typeof Vote> | Promise<z.input<typeof Vote>>) | undefined;
  /** Ends live work of the epoch, and saves the items in `save`. @default nothing to end */
  readonly drain?:
    | ((asked: AskedSwitch & { readonly save: readonly string[] }) => z.input<typeof Drained> | Promise<z.input<typeof Drained>>)
    | undefined;
  /**
   * Forgets everything of a session below an epoch: caches, threads, scratchpads. Called before anything of that epoch is served,
   * and must be done when it returns: one that returns a promise counts as failed, and nothing of the epoch is served.
   */
  readonly purge?: ((passed: { readonly sid: string; readonly below: number }) => void) | undefined;
}

/** An agent's part in sessions. */
export interface SessionParticipation extends Participation {
  /** Joins a session that named this agent. Joining again changes nothing. @throws {HmcpError} the manager's refusal, 40302, 50301 */
  join(sid: string): Promise<void>;
  /** Stops listening; sessions notice by silence. */
  close(): Promise<void>;
}

const LONGEST_PAUSE_MS = 5000;
/** An effect under way may finish in this time; the manager waits five seconds. */
const PATIENCE_MS = 4000;
const MAX_SESSIONS = 1024;

/**
 * Takes part in sessions of a manager: joins, votes, ends live work, and learns epochs from whatever tells them first.
 * Participants are never frozen: safety is the epoch on every request, not this.
 * @throws {TypeError} for a manager the agent does not trust
 * @see protocol section 6
 */
export function participate(options: ParticipationOptions): SessionParticipation {
  return new Participant(options, partsOf(options.agent));
}

class Participant implements SessionParticipation {
  readonly #options: ParticipationOptions;
  readonly #parts: AgentParts;
  readonly #manager: TrustedManager;
  readonly #client: ManagerClient;
  readonly #sessions = new Map<string, AttendedSession>();
  #work: SessionWork | undefined;
  readonly #ending = new AbortController();
  readonly #loops = new Set<Promise<void>>();

  constructor(options: ParticipationOptions, parts: AgentParts) {
    this.#options = options;
    this.#parts = parts;
    this.#manager = parts.managers.named(options.manager);
    this.#client = parts.managers.client(this.#manager);
  }

  async join(sid: string): Promise<void> {
    const session = this.#attend(sid);
    session.joining ??= outsideScope(() => this.#join(session)).finally(() => {
      session.joining = undefined;
    });
    await session.joining;
  }

  learned({ iss, sid, epoch }: Parameters<Participation['learned']>[0]): void {
    if (iss !== this.#manager.issuer || this.#ending.signal.aborted) return;
    const known = this.#sessions.get(sid);
    if (known !== undefined && epoch <= known.epoch && !known.left) return;
    const session = this.#attend(sid);
    session.left = false;
    this.#advance(session, epoch);
    this.#joinAgain(session);
  }

  serving(work: SessionWork): void {
    this.#work = work;
  }

  async prepare(message: PrepareParams, manager: string): Promise<Vote> {
    const session = this.#current(message, manager);
    return session.vote(message.switchId, () => this.#vote(session, message));
  }

  async drain(message: DrainParams, manager: string): Promise<Drained> {
    const session = this.#current(message, manager);
    return session.drain(message.switchId, () => this.#drain(message));
  }

  async decided({ sid, rev, epoch, kind, result }: DecidedParams, manager: string): Promise<void> {
    const session = manager === this.#manager.issuer ? this.#sessions.get(sid) : undefined;
    if (session === undefined || rev < session.rev) return;
    session.rev = rev;
    this.#advance(session, epoch);
    if (result !== 'committed') return;
    if (kind === 'close') this.#sessions.delete(sid);
    else this.#joinAgain(session);
  }

  async close(): Promise<void> {
    this.#ending.abort();
    this.#sessions.clear();
    await Promise.allSettled(this.#loops);
  }

  #attend(sid: string): AttendedSession {
    const known = this.#sessions.get(sid);
    if (known !== undefined) return known;
    const session = new AttendedSession(sid);
    this.#sessions.set(sid, session);
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size > MAX_SESSIONS && oldest !== undefined) this.#sessions.delete(oldest);
    return session;
  }

  async #join(session: AttendedSession): Promise<void> {
    const { sid } = session;
    const { role, delivery } = this.#options;
    try {
      this.#see(session, await this.#ask(MANAGER_METHODS.join, { sid, role, delivery }));
    } catch (error) {
      if (error instanceof HmcpError && (error.code === 41001 || error.code === 40301)) this.#sessions.delete(sid);
      throw error;
    }
    if (delivery === 'pull' && !session.following) {
      session.following = true;
      const loop = this.#follow(session).finally(() => this.#loops.delete(loop));
      this.#loops.add(loop);
    }
  }

  /** A commit may have put this agent out; joining again is harmless where it did not. */
  #joinAgain(session: AttendedSession): void {
    if (session.left) return;
    this.join(session.sid).catch(() => this.#warn('a session could not be joined'));
  }

  /** Long polls until the session is over. What is missed shows in the next answer. */
  async #follow(session: AttendedSession): Promise<void> {
    let rev: number | undefined;
    for (let failures = 0; this.#follows(session); ) {
      try {
        const wait = rev === undefined ? {} : { rev, waitMs: MAX_WAIT_MS };
        const facts = await this.#ask(MANAGER_METHODS.get, { sid: session.sid, ...wait });
        rev = undefined;
        await this.#answer(session, facts);
        rev = facts.rev;
        failures = 0;
      } catch (error) {
        if (!this.#follows(session)) return;
        if (error instanceof HmcpError && (error.code === 41001 || error.code === 40301)) {
          this.#sessions.delete(session.sid);
          return;
        }
        failures += 1;
        await this.#pause(Math.min(250 * 2 ** (failures - 1), LONGEST_PAUSE_MS));
      }
    }
  }

  async #pause(ms: number): Promise<void> {
    const { signal } = this.#ending;
    let stop: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      stop = resolve;
      signal.addEventListener('abort', stop, { once: true });
    });
    await Promise.race([this.#parts.wait(ms), ended]);
    signal.removeEventListener('abort', stop);
  }

  #follows(session: AttendedSession): boolean {
    return !this.#ending.signal.aborted && this.#sessions.get(session.sid) === session;
  }

  /** Does what the facts ask of this agent. */
  async #answer(session: AttendedSession, facts: SessionFacts): Promise<void> {
    const before = session.epoch;
    if (!this.#see(session, facts)) return;
    if (session.epoch > before && before > 0) this.#joinAgain(session);
    const { sid, epoch, pending } = facts;
    if (pending === undefined) return;
    const { switchId, kind, expects, save } = pending;
    const asked = { sid, epoch, switchId, kind };
    if (expects === 'vote') {
      const said = await session.vote(switchId, () => this.#vote(session, asked));
      const vote = { ...said, inflight: said.inflight + (this.#work?.inflight({ iss: this.#manager.issuer, sid }, epoch) ?? 0) };
      this.#see(session, await this.#ask(MANAGER_METHODS.vote, { sid, switchId, ...vote }));
    } else if (expects === 'drained') {
      const drained = await session.drain(switchId, () => this.#endWork({ ...asked, save }));
      this.#see(session, await this.#ask(MANAGER_METHODS.drained, { sid, switchId, ...drained }));
    }
  }

  /** Takes in what the manager says; false when it is of the past. */
  #see(session: AttendedSession, { rev, epoch, state }: SessionFacts): boolean {
    if (rev < session.rev) return false;
    session.rev = rev;
    this.#advance(session, epoch);
    if (state === 'closed') this.#sessions.delete(session.sid);
    return state !== 'closed';
  }

  #advance(session: AttendedSession, epoch: number): void {
    if (epoch <= session.epoch) return;
    const { sid } = session;
    this.#work?.learned({ iss: this.#manager.issuer, sid }, epoch);
    // First, so that one that fails is tried again before anything of the epoch is served.
    const forgotten: unknown = outsideScope(() => this.#options.purge?.({ sid, below: epoch }));
    if (forgotten instanceof Promise) {
      forgotten.catch(() => this.#warn('"purge" failed after its time'));
      throw new TypeError('"purge" must forget at once: it returned a promise');
    }
    session.advance(epoch);
  }

  /** The session a message of the manager is about, when the message is not of the past. */
  #current({ sid, rev, epoch, deadline }: PrepareParams, manager: string): AttendedSession {
    const session = manager === this.#manager.issuer ? this.#sessions.get(sid) : undefined;
    if (session === undefined) throw this.#refusal(40301, 'session', 'no such session here');
    if (epoch < session.epoch) throw this.#refusal(40901, 'epoch', 'the epoch has passed');
    if (rev < session.rev || deadline < this.#parts.now()) throw this.#refusal(40901, 'session', 'a message of the past');
    session.rev = rev;
    this.#advance(session, epoch);
    return session;
  }

  async #vote(session: AttendedSession, { sid, epoch, switchId, kind }: AskedSwitch): Promise<Vote> {
    const asked = { sid, epoch, switchId, kind };
    const said = await outsideScope(async () => this.#options.prepare?.(asked));
    const vote = Vote.parse(said ?? { vote: 'accept' });
    session.left = vote.vote === 'cannot_follow';
    return vote;
  }

  async #drain({ sid, epoch, switchId, kind, save }: AskedSwitch & { readonly save: readonly string[] }): Promise<Drained> {
    const asked = { sid, epoch, switchId, kind, save };
    return Drained.parse((await outsideScope(async () => this.#options.drain?.(asked))) ?? {});
  }

  /** Where nobody pushes, nobody else ends what this process is serving: the agent saves first, then its requests end. */
  async #endWork(asked: AskedSwitch & { readonly save: readonly string[] }): Promise<Drained> {
    const drained = await this.#drain(asked);
    const ended = await this.#work?.drain({ iss: this.#manager.issuer, sid: asked.sid }, asked.epoch, PATIENCE_MS);
    if (ended === undefined) return drained;
    return {
      ...drained,
      cancelled: drained.cancelled + ended.cancelled,
      completed: drained.completed + ended.completed,
      indeterminate: [...drained.indeterminate, ...ended.indeterminate].slice(0, 32),
    };
  }

  async #ask(method: string, params: object): Promise<SessionFacts> {
    const { credentials } = this.#options;
    const request = { resource: this.#manager.resource, scope: MANAGER_SCOPES.participate };
    const token = async () => (await credentials.token(request)).accessToken;
    const call = { token, signal: this.#ending.signal, timeoutMs: MAX_WAIT_MS + 10_000 };
    return this.#client.read(SessionFacts, await this.#client.method(method, params, call));
  }

  #warn(message: string): void {
    if (!this.#ending.signal.aborted) this.#parts.log?.warn({ by: this.#options.agent.by }, message);
  }

  #refusal(code: HmcpErrorCode, check: Check, reason: string): HmcpError {
    return new HmcpError(code, { by: this.#options.agent.by, check }, { reason });
  }
}
