import type { SealClaims } from '@hmcp/core';

/** A session, by the manager that holds it. */
export type SessionKey = Pick<SealClaims, 'iss' | 'sid'>;

/** A request or a listen stream being served inside a session. */
export interface LiveWork {
  readonly epoch: number;
  /** The epoch passed. */
  end(): void;
  /** Absent for a listen stream, which goes on until its epoch passes. */
  readonly request?: LiveRequest | undefined;
}

/** A request that a switch may end before its epoch passes. @see protocol section 6, "drain" */
export interface LiveRequest {
  readonly intent: string;
  /** True while it is causing an effect. */
  readonly busy: () => boolean;
  /** Ends it, unless it is causing an effect: then it may finish that, and no other. Its permit is given back either way. */
  drain(): Promise<'cancelled' | 'completed'>;
}

interface Remembered {
  highest: number;
  usedAt: number;
  readonly live: Set<LiveWork>;
}

/** An epoch is forgotten this long after last use, not before: no seal of a lower one lives that long. @see protocol section 3 */
const FORGET_AFTER_MS = 60_000;
const MAX_SESSIONS = 100_000;

/**
 * The highest epoch this process verified of each session, and what it is serving in it. A higher epoch ends the work of all
 * lower ones at once.
 * @see protocol section 3, "epoch fence"
 */
export class EpochMemory {
  readonly #monotonic: () => number;
  readonly #most: number;
  /** In the order of use. */
  readonly #sessions = new Map<string, Remembered>();

  /** @param monotonic milliseconds of a clock that is never set back: a jump of the wall clock forgets nothing */
  constructor(monotonic: () => number, most: number = MAX_SESSIONS) {
    this.#monotonic = monotonic;
    this.#most = most;
  }

  /** Takes in a verified epoch. Returns the highest known, or `undefined` when nothing more can be remembered: then nothing is known. */
  learn(session: SessionKey, epoch: number): number | undefined {
    this.#forget();
    const known = this.#use(session);
    if (known === undefined) {
      if (this.#sessions.size >= this.#most) return undefined;
      this.#sessions.set(keyOf(session), { highest: epoch, usedAt: this.#monotonic(), live: new Set() });
      return epoch;
    }
    if (epoch > known.highest) {
      known.highest = epoch;
      for (const work of [...known.live]) if (work.epoch < epoch && known.live.delete(work)) work.end();
    }
    return known.highest;
  }

  /** True when a higher epoch of the session than the seal's was verified here. */
  passed(seal: Pick<SealClaims, 'iss' | 'sid' | 'epoch'>): boolean {
    return seal.epoch < this.highest(seal);
  }

  /** The highest epoch known; 0 when none is. */
  highest(session: SessionKey): number {
    return this.#use(session)?.highest ?? 0;
  }

  /** Registers live work; ends it at once when its epoch has passed. The result takes it off. */
  enter(session: SessionKey, work: LiveWork): () => void {
    const known = this.#use(session);
    if (known === undefined || known.highest > work.epoch) {
      work.end();
      return () => {};
    }
    known.live.add(work);
    return () => {
      known.live.delete(work);
      known.usedAt = this.#monotonic();
    };
  }

  /** The requests being served in a session at this epoch or below. */
  requests(session: SessionKey, epoch: number): readonly LiveRequest[] {
    const live = [...(this.#sessions.get(keyOf(session))?.live ?? [])];
    return live.flatMap((work) => (work.epoch <= epoch && work.request !== undefined ? [work.request] : []));
  }

  #use(session: SessionKey): Remembered | undefined {
    const key = keyOf(session);
    const known = this.#sessions.get(key);
    if (known === undefined) return undefined;
    known.usedAt = this.#monotonic();
    this.#sessions.delete(key);
    this.#sessions.set(key, known);
    return known;
  }

  #forget(): void {
    const before = this.#monotonic() - FORGET_AFTER_MS;
    for (const [key, known] of this.#sessions) {
      if (known.usedAt > before) return;
      this.#sessions.delete(key);
      if (known.live.size === 0) continue;
      // Work that is still going on is use.
      known.usedAt = this.#monotonic();
      this.#sessions.set(key, known);
    }
  }
}

function keyOf({ iss, sid }: SessionKey): string {
  return JSON.stringify([iss, sid]);
}
