import {
  AccessTokenClaims,
  checkChain,
  hasPatientLevel,
  parseScopes,
  parseStrictJson,
  unusable,
  type VerifiedToken,
} from '@hmcp/core';
import { base64url, compactVerify, decodeProtectedHeader, type JSONWebKeySet, type JWSHeaderParameters } from 'jose';
import type { Fetch } from './authority.js';
import { TokenError } from './bearer.js';
import { BoundedCache, fingerprint } from './bounded-cache.js';
import { discover } from './discovery.js';
import { fixedKeySet, type KeySet, remoteKeySet } from './jwks.js';
import { resourceIdentifier, secureUrl } from './secure-url.js';

/** An authorization server whose tokens are believed, and the one FHIR base its patients live in. @see protocol section 1 */
export interface TrustedIssuer {
  /** Compared with `iss` as a string: no slash, case or port is normalised. */
  readonly issuer: string;
  readonly fhirServer: string;
  /** When given, a token must name one of these; otherwise any tenant, or none, is accepted. */
  readonly tenants?: readonly string[] | undefined;
  /** Its keys; otherwise discovered from the issuer's metadata. */
  readonly jwks?: JSONWebKeySet | undefined;
}

/** Signature algorithms that may be allowed; never `none`, never a shared secret. */
export type AccessTokenAlgorithm = 'ES256' | 'RS256' | 'EdDSA' | 'PS256' | 'RS384' | 'ES384';

/** Options of {@link createTokenVerifier}. None of them turns a check off. */
export interface TokenVerifierOptions {
  /** This server's resource identifier: the one audience accepted. */
  readonly resource: string;
  readonly issuers: readonly TrustedIssuer[];
  /** @default ES256, RS256, EdDSA */
  readonly algorithms?: readonly AccessTokenAlgorithm[] | undefined;
  /** Clock difference tolerated, in seconds, 0 to 60. @default 30 */
  readonly leewaySeconds?: number | undefined;
  /** Oldest token accepted, in seconds since `iat`, at most 43200. @default 3600 */
  readonly maxTokenAgeSeconds?: number | undefined;
  readonly fetch?: Fetch | undefined;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
}

/** Checks access tokens of one resource. */
export interface TokenVerifier {
  readonly resource: string;
  /**
   * Everything there is to check of a token by itself: signature, issuer, audience, times, claims, patient rule, chain.
   * @throws {TokenError} 401 `invalid_token`
   * @throws {AuthorityUnavailable} 503: the issuer's keys cannot be had
   */
  verify(accessToken: string): Promise<VerifiedToken>;
}

const ALGORITHMS: readonly string[] = ['ES256', 'RS256', 'EdDSA', 'PS256', 'RS384', 'ES384'];
const MAX_TOKEN_BYTES = 8192;
const CACHE_MS = 60_000;
const CACHE_ENTRIES = 1024;

interface Verified {
  readonly token: VerifiedToken;
  readonly notBefore: number | undefined;
}

/** A verified token, and the keys that it was verified with. */
interface Remembered extends Verified {
  readonly keys: KeySet;
  readonly edition: number;
}

/**
 * A verifier of JWT access tokens (RFC 9068). Opaque tokens and tokens bound to a key (`cnf`) are refused.
 * A verified token is remembered by its SHA-256 for at most 60 s, never past `exp`, and only while the keys of its issuer are those it
 * was verified with; its times are checked on every use.
 * @throws {TypeError} naming the option that is not usable
 * @see protocol section 2.1
 */
export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const resource = resourceIdentifier(options.resource, 'resource');
  const now = options.now ?? Date.now;
  const algorithms = options.algorithms ?? ['ES256', 'RS256', 'EdDSA'];
  if (algorithms.length === 0 || !algorithms.every((alg) => ALGORITHMS.includes(alg))) {
    throw new TypeError(`"algorithms" may hold only ${ALGORITHMS.join(', ')}`);
  }
  const leeway = seconds(options.leewaySeconds ?? 30, 0, 60, 'leewaySeconds');
  const maxAge = seconds(options.maxTokenAgeSeconds ?? 3600, 1, 43_200, 'maxTokenAgeSeconds');
  const issuers = readIssuers(options, now);
  const cache = new BoundedCache<Remembered>(CACHE_ENTRIES);

  const checkTimes = ({ token, notBefore }: Verified): VerifiedToken => {
    const at = Math.floor(now() / 1000);
    if (at >= token.expiresAt + leeway) refuse('expired');
    if (notBefore !== undefined && at < notBefore - leeway) refuse('not valid yet');
    if (at < token.issuedAt - leeway) refuse('issued in the future');
    if (at > token.issuedAt + maxAge + leeway) refuse('too old');
    return token;
  };

  const verify = async (accessToken: string): Promise<VerifiedToken> => {
    if (typeof accessToken !== 'string' || accessToken.length > MAX_TOKEN_BYTES) refuse('size');
    const key = await fingerprint(accessToken);
    const known = cache.get(key, now());
    if (known !== undefined && known.edition === known.keys.edition) return checkTimes(known);

    const header = readHeader(accessToken, algorithms);
    const trusted = issuers.get(unverifiedIssuer(accessToken)) ?? refuse('unknown issuer');
    const { keys } = trusted;
    const signer = await keys.find(header);
    const { edition } = keys;
    const payload = await compactVerify(accessToken, signer, { algorithms: [...algorithms] }).then(
      (result) => result.payload,
      () => refuse('signature'),
    );
    const verified = readClaims(payload, resource, trusted.entries);
    checkTimes(verified);
    cache.set(key, { ...verified, keys, edition }, Math.min(verified.token.expiresAt * 1000, now() + CACHE_MS));
    return verified.token;
  };
  return { resource, verify };
}

function refuse(reason: string): never {
  throw new TokenError('invalid_token', reason);
}

function seconds(value: number, least: number, most: number, option: string): number {
  if (!Number.isFinite(value) || value < least || value > most) throw new TypeError(`"${option}" must be ${least} to ${most}`);
  return value;
}

interface Trusted {
  readonly entries: readonly TrustedIssuer[];
  readonly keys: KeySet;
}

/** Several entries may share an issuer when each names other tenants: every (issuer, tenant) has exactly one FHIR base. */
function readIssuers(options: TokenVerifierOptions, now: () => number): Map<string, Trusted> {
  if (options.issuers.length === 0) throw unusable('"issuers" must name at least one', 401);
  const byIssuer = new Map<string, TrustedIssuer[]>();
  for (const [index, entry] of options.issuers.entries()) {
    secureUrl(entry.issuer, `issuers[${index}].issuer`);
    secureUrl(entry.fhirServer, `issuers[${index}].fhirServer`);
    if (entry.tenants?.length === 0) throw new TypeError(`"issuers[${index}].tenants" must not be empty`);
    const others = byIssuer.get(entry.issuer) ?? [];
    const clash = others.some(
      (other) => !other.tenants || !entry.tenants || entry.tenants.some((tenant) => other.tenants?.includes(tenant)),
    );
    if (clash) throw new TypeError(`"issuers[${index}]" repeats an issuer and tenant: each has one FHIR server`);
    byIssuer.set(entry.issuer, [...others, entry]);
  }
  const trusted = new Map<string, Trusted>();
  for (const [issuer, entries] of byIssuer) {
    const jwks = entries.find((entry) => entry.jwks !== undefined)?.jwks;
    const keys = jwks === undefined ? discoveredKeys(issuer, options.fetch, now) : fixedKeySet(jwks);
    trusted.set(issuer, { entries, keys });
  }
  return trusted;
}

/** The place of the keys is believed once read: an issuer that moves them is configured anew or restarted. */
function discoveredKeys(issuer: string, fetch: Fetch | undefined, now: () => number): KeySet {
  let place: string | undefined;
  const locate = async () => {
    place ??= (await discover({ issuer }, { fetch })).jwks_uri;
    if (place === undefined) throw new TypeError('no jwks_uri');
    return place;
  };
  return remoteKeySet({ locate, fetch, now });
}

function readHeader(accessToken: string, algorithms: readonly string[]): JWSHeaderParameters {
  if (!/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(accessToken)) refuse('not a signed JWT');
  let header: JWSHeaderParameters;
  try {
    header = decodeProtectedHeader(accessToken);
  } catch {
    refuse('not a signed JWT');
  }
  if (typeof header.alg !== 'string' || !algorithms.includes(header.alg)) refuse('algorithm');
  const typ = typeof header.typ === 'string' ? header.typ.toLowerCase() : '';
  if (typ !== 'at+jwt' && typ !== 'application/at+jwt') refuse('type');
  if (typeof header.kid !== 'string' || header.kid === '') refuse('no key id');
  if (header.crit !== undefined) refuse('critical header');
  return header;
}

/** Selects whose keys to try, nothing else: the same claim is read again from the verified bytes. */
function unverifiedIssuer(accessToken: string): string {
  const claims = parseClaims(base64url.decode(accessToken.split('.')[1] ?? ''));
  return typeof claims === 'object' && claims !== null && 'iss' in claims && typeof claims.iss === 'string' ? claims.iss : '';
}

/** A claim named twice is refused: another reader of this signed token might pick the other value (RFC 7519 section 4). */
function parseClaims(payload: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(payload);
  } catch {
    return refuse('claims');
  }
  const parsed = parseStrictJson(text);
  if (parsed.ok) return parsed.value;
  return refuse(parsed.reason === 'duplicate key' ? 'repeated claim' : 'claims');
}

function readClaims(payload: Uint8Array, resource: string, entries: readonly TrustedIssuer[]): Verified {
  const parsed = AccessTokenClaims.safeParse(parseClaims(payload));
  if (!parsed.success) return refuse('claims');
  const claims = parsed.data;
  if (claims.iss !== entries[0]?.issuer) refuse('unknown issuer');
  const audiences = typeof claims.aud === 'string' ? [claims.aud] : claims.aud;
  if (audiences.length === 0 || !audiences.every((audience) => audience === resource)) refuse('audience');
  if ('cnf' in claims) refuse('bound to a key');
  const scope = claims.scope ?? '';
  if (!/^[\x20\x21\x23-\x5b\x5d-\x7e]*$/.test(scope)) refuse('claims');
  const scopes = parseScopes(scope);
  if (claims.patient === undefined && hasPatientLevel(scopes)) refuse('patient missing');
  const entry = entries.find(({ tenants }) => !tenants || (claims.tenant !== undefined && tenants.includes(claims.tenant)));
  if (entry === undefined) return refuse('tenant');
  const chain = checkChain(claims);
  if (!chain.ok) return refuse('chain');
  const token: VerifiedToken = {
    issuer: claims.iss,
    subject: claims.sub,
    clientId: claims.client_id,
    audience: resource,
    scope,
    scopes: Object.freeze(scopes),
    jti: claims.jti,
    issuedAt: claims.iat,
    expiresAt: claims.exp,
    fhirServer: entry.fhirServer,
    patient: claims.patient,
    encounter: claims.encounter,
    tenant: claims.tenant,
    fhirUser: claims.fhirUser,
    actors: Object.freeze([...chain.actors]),
    chain: Object.freeze([...(claims.__hmcp?.chain ?? [])]),
    hop: chain.hop,
    firstClient: chain.firstClient,
    txn: claims.txn,
    sid: claims.__hmcp?.sid,
  };
  return { token: Object.freeze(token), notBefore: claims.nbf };
}
