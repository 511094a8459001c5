import { type CryptoKey, createLocalJWKSet, errors, type JSONWebKeySet, type JWSHeaderParameters } from 'jose';
import { AuthorityUnavailable, type Fetch, getJson } from './authority.js';
import { TokenError } from './bearer.js';

/** Keys older than this are fetched again before use. */
const MAX_AGE_MS = 10 * 60_000;
/** An unknown `kid` causes at most one fetch in this time, whether it succeeds or not. */
const COOLDOWN_MS = 30_000;
/** After a failed fetch nobody asks again for this long. */
const FAILURE_PAUSE_MS = 1000;

/** The public keys of one issuer. */
export interface KeySet {
  /** Rises whenever the keys were read anew: what an earlier set verified must be verified again. */
  readonly edition: number;
  /**
   * The one key the header's `kid` and `alg` select. `jwk`, `jku`, `x5c` and `x5u` of the header are never looked at.
   * @throws {TokenError} no such key, or several
   * @throws {AuthorityUnavailable} the keys cannot be had
   */
  find(header: JWSHeaderParameters): Promise<CryptoKey>;
}

/** Keys handed over by configuration. */
export function fixedKeySet(jwks: JSONWebKeySet): KeySet {
  const local = createLocalJWKSet(jwks);
  return { edition: 0, find: (header) => select(local, header) };
}

/**
 * Keys fetched from where `locate` says, with the semantics of jose's remote key set (maximum age 10 min, cooldown 30 s, timeout 5 s,
 * single flight), on an injected clock; besides, failed fetches count for the cooldown too, and stale keys are never used.
 * @see authorization study RS-06, RS-07, RS-08
 */
export function remoteKeySet(options: {
  readonly locate: () => Promise<string>;
  readonly fetch?: Fetch | undefined;
  readonly now: () => number;
}): KeySet {
  let local: ReturnType<typeof createLocalJWKSet> | undefined;
  let fetchedAt = Number.NEGATIVE_INFINITY;
  let attemptedAt = Number.NEGATIVE_INFINITY;
  let failedAt = Number.NEGATIVE_INFINITY;
  let pending: Promise<void> | undefined;
  let edition = 0;

  const load = (): Promise<void> => {
    if (pending !== undefined) return pending;
    const paused = failedAt + FAILURE_PAUSE_MS - options.now();
    if (paused > 0) return Promise.reject(new AuthorityUnavailable('keys unavailable'));
    attemptedAt = options.now();
    pending = (async () => {
      try {
        const answer = await getJson(await options.locate(), { fetch: options.fetch });
        if (answer.status !== 200) throw new AuthorityUnavailable('keys unavailable');
        local = createLocalJWKSet(answer.body as JSONWebKeySet);
        fetchedAt = options.now();
        edition += 1;
      } catch (error) {
        failedAt = options.now();
        throw error instanceof AuthorityUnavailable ? error : new AuthorityUnavailable('keys or metadata not usable');
      } finally {
        pending = undefined;
      }
    })();
    return pending;
  };

  const fresh = async () => {
    if (local === undefined || options.now() - fetchedAt >= MAX_AGE_MS) await load();
    if (local === undefined) throw new AuthorityUnavailable('keys unavailable');
    return local;
  };

  return {
    get edition() {
      return edition;
    },
    find: async (header) => {
      try {
        return await select(await fresh(), header);
      } catch (error) {
        if (!(error instanceof TokenError) || options.now() - attemptedAt < COOLDOWN_MS) throw error;
        await load();
        return select(await fresh(), header);
      }
    },
  };
}

async function select(local: ReturnType<typeof createLocalJWKSet>, header: JWSHeaderParameters): Promise<CryptoKey> {
  const { alg, kid } = header;
  if (alg === undefined || kid === undefined) throw new TokenError('invalid_token', 'header without alg or kid');
  try {
    return await local({ alg, kid });
  } catch (error) {
    const several = error instanceof errors.JWKSMultipleMatchingKeys;
    throw new TokenError('invalid_token', several ? 'ambiguous key' : 'unknown key');
  }
}
