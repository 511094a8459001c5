import { SealError, type SealVerifier, type TrustedManager } from '@hmcp/auth';
import { type Check, HmcpError, type HmcpErrorCode, isSealed, type SealClaims } from '@hmcp/core';
import { outsideScope, type RequestScope } from '@hmcp/core/request-scope';
import { readSeal, sameStatement, sealOf } from './sealed-scope.js';

/** Gets a renewal of `seal` from its manager, by the authority of `scope`. @throws {HmcpError} the manager's refusal */
export type Renew = (manager: TrustedManager, seal: string, scope: RequestScope) => Promise<string>;

interface Held {
  readonly seal: string;
  readonly claims: SealClaims;
}

/** A seal is renewed from this many milliseconds before it expires. @see protocol section 2.3 */
const RENEW_BEFORE_MS = 10_000;
/** A manager that is away is told of once in this time, milliseconds. */
const SILENCE_MS = 60_000;
const MAX_HELD = 512;

/**
 * Keeps the seals of requests alive: whoever holds one renews it, at the same session, epoch and patient, or not at all. One
 * renewal at a time for a session and epoch, for every request in it.
 * @see protocol section 2.3
 */
export class SealKeeper {
  readonly #seals: SealVerifier | undefined;
  readonly #renew: Renew;
  readonly #now: () => number;
  readonly #warn: (message: string) => void;
  #toldAt = Number.NEGATIVE_INFINITY;
  readonly #newest = new Map<string, Held>();
  readonly #flights = new Map<string, Promise<Held>>();

  /** @param options.warn told, at most once a minute, that a manager could not be asked */
  constructor(options: {
    seals: SealVerifier | undefined;
    renew: Renew;
    now: () => number;
    warn: (message: string) => void;
  }) {
    this.#seals = options.seals;
    this.#renew = options.renew;
    this.#now = options.now;
    this.#warn = options.warn;
  }

  /**
   * The seal to send for a sealed scope now.
   * @throws {HmcpError} 42801 no such manager is listed; 40901 the intent is of another epoch, or the manager says the epoch passed;
   * 40903 the renewal states something else; 50301 it expired and the manager does not answer
   */
  async current(scope: RequestScope): Promise<string> {
    const { envelope } = scope.facts;
    const claims = sealOf(scope);
    if (this.#seals === undefined) throw refusal(scope, 42801, 'seal', 'no manager is configured');
    if (!isSealed(envelope) || claims === undefined) throw refusal(scope, 40903, 'seal', 'the seal cannot be read');
    const manager = this.#seals.managers.find(({ issuer }) => issuer === claims.iss);
    if (manager === undefined) throw refusal(scope, 42801, 'seal', 'the manager is not listed');
    if (envelope.intent.epoch !== claims.epoch) throw refusal(scope, 40901, 'epoch', 'the intent was made at another epoch');

    const key = JSON.stringify([claims.iss, claims.sid, claims.epoch]);
    const own: Held = { seal: envelope.seal, claims };
    const newest = this.#newest.get(key);
    const held = newest !== undefined && newest.claims.exp > claims.exp && sameStatement(newest.claims, claims) ? newest : own;
    if (this.#left(held) > RENEW_BEFORE_MS) return held.seal;
    try {
      return (await this.#renewed(key, manager, held, scope)).seal;
    } catch (error) {
      // Only where nobody answered, and what is held still lives: a refusal is final.
      if (error instanceof HmcpError && error.code === 50301 && this.#left(held) > 0) return held.seal;
      throw error;
    }
  }

  #silent(): void {
    const at = this.#now();
    if (at - this.#toldAt < SILENCE_MS) return;
    this.#toldAt = at;
    this.#warn('a context manager did not answer');
  }

  #left({ claims }: Held): number {
    return claims.exp * 1000 - this.#now();
  }

  #renewed(key: string, manager: TrustedManager, held: Held, scope: RequestScope): Promise<Held> {
    const begun = this.#flights.get(key);
    if (begun !== undefined) return begun;
    const flight = outsideScope(() => this.#ask(key, manager, held, scope)).finally(() => this.#flights.delete(key));
    this.#flights.set(key, flight);
    return flight;
  }

  async #ask(key: string, manager: TrustedManager, held: Held, scope: RequestScope): Promise<Held> {
    const seal = await this.#renew(manager, held.seal, scope).catch((error: unknown) => {
      // What the manager itself said is an answer, also 50301.
      if (error instanceof HmcpError && error.code === 50301 && error.data.by !== manager.resource) this.#silent();
      throw error;
    });
    const claims = await this.#verified(seal, scope);
    if (!sameStatement(claims, held.claims)) throw refusal(scope, 40903, 'seal', 'the renewed seal states something else');
    const fresh = { seal, claims };
    this.#newest.delete(key);
    this.#newest.set(key, fresh);
    const [oldest] = this.#newest.keys();
    if (this.#newest.size > MAX_HELD && oldest !== undefined) this.#newest.delete(oldest);
    return fresh;
  }

  async #verified(seal: string, scope: RequestScope): Promise<SealClaims> {
    try {
      const verified = await this.#seals?.verify(seal);
      if (verified !== undefined) return verified.claims;
    } catch (error) {
      if (!(error instanceof SealError)) throw refusal(scope, 50301, 'seal', 'the keys of the manager cannot be had');
    }
    throw refusal(scope, 40903, 'seal', 'the renewed seal is not valid');
  }
}

/** Whether a seal expired too long ago to be renewed. @see protocol section 2.3 */
export function isBeyondRenewal(seal: string, now: number): boolean {
  const exp = readSeal(seal)?.exp ?? 0;
  return now - exp * 1000 > 14 * 60_000;
}

function refusal(scope: RequestScope, code: HmcpErrorCode, check: Check, reason: string): HmcpError {
  const { by, hop, envelope } = scope.facts;
  return new HmcpError(code, { by, check, intent: envelope.intent.id, ...(hop > 0 ? { hop } : {}) }, { reason });
}
