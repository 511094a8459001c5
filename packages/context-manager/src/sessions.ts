import { isDeepStrictEqual } from 'node:util';
import type { AuditRecord } from '@hmcp/core';
import type { Clock } from './clock.js';
import { type Actor, type At, expire, type Refused, type Step } from './machine.js';
import { type Message, messages } from './messages.js';
import type { Session } from './session-row.js';
import { type ContextStore, StoreUnavailable } from './store.js';
import type { Timing } from './timing.js';

/** What a decision came to: the row as it is now, or the refusal. */
export type Applied = { readonly is: 'row'; readonly session: Session; readonly moved: boolean } | Refused;

/** Tries before a row that others keep writing is given up. */
const MAX_TRIES = 64;

/**
 * The machine over a store: reads a row, decides, writes it with its record by compare-and-set, and tells participants what follows.
 * A switch that is over time is aborted by whoever looks. Decisions are idempotent, so an unknown outcome of a write is settled by
 * reading the row again.
 * @see protocol section 6
 */
export class Sessions {
  readonly #store: ContextStore;
  readonly #clock: Clock;
  readonly #timing: Timing;
  readonly #self: Actor;
  readonly #tell: (message: Message) => void;

  constructor(parts: {
    readonly store: ContextStore;
    readonly clock: Clock;
    readonly timing: Timing;
    /** In whose name the manager acts when nobody asked. */
    readonly self: Actor;
    readonly tell: (message: Message) => void;
  }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#timing = parts.timing;
    this.#self = parts.self;
    this.#tell = parts.tell;
  }

  /** What a decision is given at this moment. */
  at(by: Actor = this.#self): At {
    return { now: this.#clock.now(), timing: this.#timing, by };
  }

  /** Adds a session, or gives the one opened with the same key before. */
  async create(session: Session, openKey: string, record: AuditRecord): Promise<Session> {
    const before = await this.#store.readOpened(openKey);
    if (before) return before;
    const added = await this.#store.create(session, openKey, record).catch((error: unknown) => {
      if (error instanceof StoreUnavailable) return 'exists';
      throw error;
    });
    if (added === 'done') return session;
    const found = await this.#store.readOpened(openKey);
    if (!found) throw new StoreUnavailable();
    return found;
  }

  /** The row now, after anything over time was aborted. @throws {StoreUnavailable} */
  async read(sid: string): Promise<Session | undefined> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const session = await this.#store.read(sid);
      const over = session && expire(session, this.at());
      if (session === undefined || over?.is !== 'moved') return session;
      await this.#write(session, over.next, over.record);
    }
    throw new StoreUnavailable();
  }

  /** Decides on the row as it is and writes the result. @throws {StoreUnavailable} when it cannot be settled */
  async apply(sid: string, by: Actor, decide: (session: Session, at: At) => Step): Promise<Applied | undefined> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const session = await this.read(sid);
      if (session === undefined) return undefined;
      const step = decide(session, this.at(by));
      if (step.is === 'refused') return step;
      if (step.is === 'same') return { is: 'row', session: step.session, moved: false };
      if (await this.#write(session, step.next, step.record)) return { is: 'row', session: step.next, moved: true };
    }
    throw new StoreUnavailable();
  }

  /**
   * Looks at a row each time it changes, and at the moments `look` names, until `look` gives a value.
   * @returns `undefined` when there is no such session, or `signal` aborted
   */
  async until<T extends object>(
    sid: string,
    look: (session: Session, now: number) => T | { readonly lookAt: number },
    signal?: AbortSignal,
  ): Promise<T | undefined> {
    for (;;) {
      const woken = new AbortController();
      const unwatch = this.#store.watch(sid, () => woken.abort());
      const end = (): void => woken.abort();
      signal?.addEventListener('abort', end, { once: true });
      try {
        if (signal?.aborted) return undefined;
        const session = await this.read(sid);
        if (session === undefined || signal?.aborted) return undefined;
        const seen = look(session, this.#clock.now());
        if (!('lookAt' in seen)) return seen;
        await this.#clock.wait(Math.max(seen.lookAt - this.#clock.now(), 0), woken.signal);
      } finally {
        unwatch();
        signal?.removeEventListener('abort', end);
        woken.abort();
      }
    }
  }

  /** True when the row is `next` now. A reply that got lost is told from a write that never was by reading. */
  async #write(before: Session, next: Session, record: AuditRecord): Promise<boolean> {
    let result: 'done' | 'conflict';
    try {
      result = await this.#store.compareAndSet(next, record);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      const now = await this.#store.read(before.sid);
      result = now !== undefined && isDeepStrictEqual(now, JSON.parse(JSON.stringify(next))) ? 'done' : 'conflict';
      if (result === 'conflict' && now?.version === before.version) throw error;
    }
    if (result === 'conflict') return false;
    for (const message of messages(before, next)) this.#tell(message);
    return true;
  }
}
