import { type HmcpErrorCode, parseStrictJson, SEAL_TYPE, SealClaims } from '@hmcp/core';
import { base64url, compactVerify, decodeProtectedHeader, type JWSHeaderParameters } from 'jose';
import type { Fetch } from './authority.js';
import { TokenError } from './bearer.js';
import { BoundedCache, fingerprint } from './bounded-cache.js';
import { fixedKeySet, type KeySet, remoteKeySet } from './jwks.js';
import { SEAL_ALGORITHMS } from './seal-keys.js';
import { checkManagers, type TrustedManager } from './trusted-manager.js';

/**
 * Why a seal is not believed: 42801 no manager is trusted here, 40101 expired (renew it), 40903 anything else about it.
 * Unreachable keys are `AuthorityUnavailable` (50301).
 * @see protocol sections 2.3 and 4
 */
export class SealError extends Error {
  readonly code: Extract<HmcpErrorCode, 40101 | 40903 | 42801>;
  /** Fixed words, for the local audit only. */
  readonly reason: string;

  constructor(code: SealError['code'], reason: string) {
    super('the seal is not valid here');
    this.name = 'SealError';
    this.code = code;
    this.reason = reason;
  }
}

/** Options of {@link createSealVerifier}. None of them turns a check off. */
export interface SealVerifierOptions {
  /** Empty: every sealed envelope is refused (42801). */
  readonly managers: readonly TrustedManager[];
  /** Clock difference tolerated, in seconds, 0 to 10. @default 2 */
  readonly leewaySeconds?: number | undefined;
  readonly fetch?: Fetch | undefined;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
}

/** A seal that was signed by a listed manager and holds at this moment. Whose token came with it is not compared here. */
export interface VerifiedSeal {
  readonly claims: SealClaims;
  readonly manager: TrustedManager;
}

/** Checks seals. */
export interface SealVerifier {
  readonly managers: readonly TrustedManager[];
  /**
   * @param options.expiredForSeconds accept a seal that expired at most this long ago, for renewal. Default 0
   * @throws {SealError} not believed
   * @throws {AuthorityUnavailable} the manager's keys cannot be had
   */
  verify(seal: string, options?: { readonly expiredForSeconds?: number | undefined }): Promise<VerifiedSeal>;
}

const MAX_SEAL_BYTES = 6144;
const CACHE_ENTRIES = 4096;

/**
 * A verifier of seals. A verified one is remembered by its SHA-256 until it expires; `typ` is pinned, so that an access token is
 * never a seal, nor a seal an access token.
 * @throws {TypeError} naming the option that is not usable
 * @see protocol section 2.3
 */
export function createSealVerifier(options: SealVerifierOptions): SealVerifier {
  const { managers, leewaySeconds: leeway = 2, now = Date.now } = options;
  if (!(leeway >= 0 && leeway <= 10)) throw new TypeError('"leewaySeconds" must be 0 to 10');
  checkManagers(managers);
  const trusted = new Map(managers.map((manager) => [manager.issuer, { manager, keys: keysOf(manager, options.fetch, now) }]));
  const cache = new BoundedCache<VerifiedSeal>(CACHE_ENTRIES);

  const checkTimes = (seal: VerifiedSeal, expiredFor: number): VerifiedSeal => {
    const at = now() / 1000;
    if (at < seal.claims.iat - leeway) refuse(40903, 'issued in the future');
    if (at >= seal.claims.exp + leeway + expiredFor) refuse(40101, 'expired');
    return seal;
  };

  const check = async (seal: string): Promise<VerifiedSeal> => {
    const header = readHeader(seal);
    const found = trusted.get(unverifiedIssuer(seal)) ?? refuse(40903, 'unlisted manager');
    const signer = await found.keys.find(header).catch((error: unknown) => {
      throw error instanceof TokenError ? new SealError(40903, error.reason) : error;
    });
    const payload = await compactVerify(seal, signer, { algorithms: [...SEAL_ALGORITHMS] }).then(
      (result) => result.payload,
      () => refuse(40903, 'signature'),
    );
    return { claims: readClaims(payload, found.manager), manager: found.manager };
  };

  return {
    managers,
    verify: async (seal, { expiredForSeconds = 0 } = {}) => {
      if (managers.length === 0) refuse(42801, 'no context manager is trusted here');
      if (typeof seal !== 'string' || seal.length > MAX_SEAL_BYTES) refuse(40903, 'size');
      const key = await fingerprint(seal);
      const known = cache.get(key, now());
      if (known !== undefined) return checkTimes(known, expiredForSeconds);
      const verified = checkTimes(await check(seal), expiredForSeconds);
      cache.set(key, verified, (verified.claims.exp + leeway) * 1000);
      return verified;
    },
  };
}

function refuse(code: SealError['code'], reason: string): never {
  throw new SealError(code, reason);
}

function keysOf({ jwksUri, keys }: TrustedManager, fetch: Fetch | undefined, now: () => number): KeySet {
  if (keys !== undefined) return fixedKeySet(keys);
  return remoteKeySet({ locate: async () => jwksUri ?? '', fetch, now });
}

function readHeader(seal: string): JWSHeaderParameters {
  if (!/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(seal)) refuse(40903, 'not a signed seal');
  let header: JWSHeaderParameters;
  try {
    header = decodeProtectedHeader(seal);
  } catch {
    return refuse(40903, 'not a signed seal');
  }
  if (header.typ !== SEAL_TYPE) refuse(40903, 'type');
  if (typeof header.alg !== 'string' || !SEAL_ALGORITHMS.includes(header.alg)) refuse(40903, 'algorithm');
  if (typeof header.kid !== 'string' || header.kid === '') refuse(40903, 'no key id');
  if (header.crit !== undefined) refuse(40903, 'critical header');
  return header;
}

/** Selects whose keys to try, nothing else: the same claim is read again from the verified bytes. */
function unverifiedIssuer(seal: string): string {
  let payload: Uint8Array;
  try {
    payload = base64url.decode(seal.split('.')[1] ?? '');
  } catch {
    return refuse(40903, 'not a signed seal');
  }
  const { iss } = (parseClaims(payload) ?? {}) as { iss?: unknown };
  return typeof iss === 'string' ? iss : '';
}

function parseClaims(payload: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(payload);
  } catch {
    return refuse(40903, 'claims');
  }
  const parsed = parseStrictJson(text);
  return parsed.ok ? parsed.value : refuse(40903, 'claims');
}

function readClaims(payload: Uint8Array, manager: TrustedManager): SealClaims {
  const parsed = SealClaims.safeParse(parseClaims(payload));
  if (!parsed.success) return refuse(40903, 'claims');
  const claims = parsed.data;
  if (claims.iss !== manager.issuer) refuse(40903, 'unlisted manager');
  if (claims.aud !== manager.trustDomain) refuse(40903, 'trust domain');
  if (!manager.tokenIssuers.includes(claims.sub_iss)) refuse(40903, 'the manager may not speak of people of this issuer');
  if (!manager.fhirServers.includes(claims.fhirServer)) refuse(40903, 'the manager may not speak of this FHIR server');
  if (manager.tenants && !(claims.tenant !== undefined && manager.tenants.includes(claims.tenant))) refuse(40903, 'tenant');
  return Object.freeze(claims);
}
