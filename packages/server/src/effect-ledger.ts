import { MAX_PERMIT_MS } from '@hmcp/core';

/** For how long an effect is remembered: as long as a seal can be renewed for. */
const REMEMBER_MS = 15 * 60_000;
const MAX_EFFECTS = 10_000;

/**
 * The effects this process caused or tried, so that none is caused twice for one intent. Bounded: what is older than any permit
 * makes room for what is new.
 * @see protocol section 2.2, idempotency key
 */
export class EffectLedger {
  readonly #monotonic: () => number;
  readonly #most: number;
  /** When each was claimed, oldest first. */
  readonly #claimed = new Map<string, number>();

  constructor(monotonic: () => number, most: number = MAX_EFFECTS) {
    this.#monotonic = monotonic;
    this.#most = most;
  }

  /** Claims an effect for this caller alone; `known`: claimed before; `full`: none can be remembered, so none may be caused. */
  claim(effect: string): 'claimed' | 'known' | 'full' {
    const now = this.#monotonic();
    for (const [known, at] of this.#claimed) {
      const isOld = now - at > REMEMBER_MS || (this.#claimed.size >= this.#most && now - at > 2 * MAX_PERMIT_MS);
      if (!isOld) break;
      this.#claimed.delete(known);
    }
    if (this.#claimed.has(effect)) return 'known';
    if (this.#claimed.size >= this.#most) return 'full';
    this.#claimed.set(effect, now);
    return 'claimed';
  }

  /** Takes a claim back: nothing was caused. */
  forget(effect: string): void {
    this.#claimed.delete(effect);
  }
}
