import { coversAll, HmcpClaim, parseScopes } from '@hmcp/core';
import { decodeJwt } from 'jose';
import * as z from 'zod';
import { AuthorityUnavailable, type Fetch, postForm } from './authority.js';
import { BoundedCache, fingerprint } from './bounded-cache.js';
import { type ClientKey, checkClient, clientAssertion, type Random, secureRandom } from './client-assertion.js';
import { DiscoveryError, discover } from './discovery.js';
import { resourceIdentifier, secureUrl } from './secure-url.js';

/** Options of {@link createTokenExchanger}. */
export interface TokenExchangerOptions {
  /** The authorization server; its token endpoint is discovered. */
  readonly issuer: string;
  readonly client: ClientKey;
  readonly fetch?: Fetch | undefined;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
  readonly random?: Random | undefined;
}

/** One hop's wish: the token it holds, and what the next hop should be able to do with its successor. */
export interface ExchangeRequest {
  readonly subjectToken: string;
  /** Resource identifier of the next hop. */
  readonly resource: string;
  /** Space-separated; must be covered by the subject token. */
  readonly scope: string;
  /** Session the token is for: the answer must carry it. Part of the cache key. */
  readonly sid?: string | undefined;
  /** Live seal of that session, sent as `hmcp_seal` so that the server copies its `sid` into the token. @see protocol section 2.6 */
  readonly seal?: string | undefined;
  /** Seconds the token must outlive: the call's timeout, capped at 110. @default 30 */
  readonly lifeSeconds?: number | undefined;
}

/** A token for the next hop. */
export interface ExchangedToken {
  readonly accessToken: string;
  readonly scope: string;
  /** Seconds since the epoch. */
  readonly expiresAt: number;
}

/** Gets tokens for the next hop. */
export interface TokenExchanger {
  /**
   * @throws {ExchangeRefused} refused by the authorization server, or by the rules here (relayed as 40302 with its `check`)
   * @throws {AuthorityUnavailable} no answer (50301)
   */
  exchange(request: ExchangeRequest): Promise<ExchangedToken>;
}

/**
 * No token for the next hop. `error` is the OAuth error code of the server, or a word of this client:
 * `subject_expiring` (the token in hand does not outlive the call, nothing was sent), `life_too_short`,
 * `scope_widened`, `context_changed` (the answer is not of the same patient, tenant, encounter, person, session or audience), `invalid_answer`.
 */
export class ExchangeRefused extends Error {
  readonly error: string;

  constructor(error: string) {
    super(`token exchange refused: ${error}`);
    this.name = 'ExchangeRefused';
    this.error = error;
  }

  /** `token` when the token in hand, or the one given, ends before the call could; else `exchange`. */
  get check(): 'exchange' | 'token' {
    return this.error === 'subject_expiring' || this.error === 'life_too_short' ? 'token' : 'exchange';
  }

  /** Why, in fixed words, for the local audit. */
  get reason(): string {
    if (this.check === 'token') return 'the token of this request ends before the call could';
    return WHY.get(this.error) ?? 'the exchange of the token was refused';
  }
}

/** What a word of {@link ExchangeRefused} comes to at an authorization server of protocol section 4. */
const WHY: ReadonlyMap<string, string> = new Map([
  [
    'invalid_target',
    'the exchange of the token was refused: the caller is not registered for the peer, or nobody is known there',
  ],
  ['invalid_scope', 'the exchange of the token was refused: its scope goes beyond the token or a registration'],
  ['invalid_grant', 'the exchange of the token was refused: the token or its seal does not count there'],
  ['invalid_client', 'the exchange of the token was refused: the caller is not known there'],
  ['unauthorized_client', 'the exchange of the token was refused: the caller may not exchange'],
  ['unsupported_grant_type', 'the authorization server exchanges no tokens'],
  ['scope_widened', 'the exchanged token has more scopes than were asked for'],
  ['context_changed', 'the exchanged token is of another patient, person, session or audience'],
]);

const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const GRANT_TYPE = 'urn:ietf:params:oauth:grant-type:token-exchange';
/** The longest exchange life, 120 s, less 10 s for clocks and transport: no wish can ask for more. */
const MAX_LIFE_SECONDS = 110;
const CACHE_ENTRIES = 1024;

const Answer = z.object({
  access_token: z.string().min(1),
  issued_token_type: z.literal(ACCESS_TOKEN).optional(),
  token_type: z.string().regex(/^bearer$/i),
  expires_in: z.number().positive(),
  scope: z.string().optional(),
});
const Refusal = z.object({ error: z.string().regex(/^[a-z_]{1,40}$/) });

/**
 * A client of RFC 8693 token exchange, authenticated with `private_key_jwt`. One token per (subject token, resource, scope, `sid`),
 * where the token's SHA-256 stands for its `jti`; single-flight; a remembered one is used only while it outlives the call.
 * @throws {TypeError} naming the option that is not usable
 * @see protocol section 5
 */
export function createTokenExchanger(options: TokenExchangerOptions): TokenExchanger {
  secureUrl(options.issuer, 'issuer');
  checkClient(options.client);
  const now = options.now ?? Date.now;
  const random = options.random ?? secureRandom;
  const cache = new BoundedCache<ExchangedToken>(CACHE_ENTRIES);
  const flights = new Map<string, Promise<ExchangedToken>>();
  let endpoint: string | undefined;

  const tokenEndpoint = async (): Promise<string> => {
    endpoint ??= (await discover({ issuer: options.issuer }, options)).token_endpoint;
    return endpoint ?? Promise.reject(new AuthorityUnavailable('no token endpoint'));
  };

  const send = async (request: ExchangeRequest, subject: Facts): Promise<ExchangedToken> => {
    const startedAt = now();
    const url = await tokenEndpoint().catch((error: unknown) => {
      throw error instanceof DiscoveryError ? new AuthorityUnavailable('metadata not usable') : error;
    });
    const form = new URLSearchParams({
      grant_type: GRANT_TYPE,
      subject_token: request.subjectToken,
      subject_token_type: ACCESS_TOKEN,
      requested_token_type: ACCESS_TOKEN,
      resource: request.resource,
      scope: request.scope,
      ...(request.seal === undefined ? {} : { hmcp_seal: request.seal }),
      ...(await clientAssertion(options.client, url, { now, random })),
    });
    const { status, body } = await postForm(url, form, options);
    if (status !== 200) {
      const refusal = Refusal.safeParse(body);
      throw new ExchangeRefused(refusal.success ? refusal.data.error : 'invalid_answer');
    }
    return readAnswer(body, request, subject, startedAt / 1000);
  };

  return {
    exchange: async (request) => {
      resourceIdentifier(request.resource, 'resource');
      if (request.scope.trim() === '') throw new ExchangeRefused('invalid_scope');
      const life = Math.min(request.lifeSeconds ?? 30, MAX_LIFE_SECONDS);
      const outlives = (expiresAt: number) => expiresAt - now() / 1000 >= life;
      const subject = readFacts(request.subjectToken);
      if (subject.exp !== undefined && !outlives(subject.exp)) throw new ExchangeRefused('subject_expiring');

      const subjectKey = await fingerprint(request.subjectToken);
      const key = JSON.stringify([subjectKey, request.resource, request.scope, request.sid ?? null]);
      const known = cache.get(key, now());
      if (known !== undefined && outlives(known.expiresAt)) return known;

      let flight = flights.get(key);
      if (flight === undefined) {
        flight = send(request, subject).finally(() => flights.delete(key));
        flights.set(key, flight);
      }
      const token = await flight;
      if (!outlives(token.expiresAt)) throw new ExchangeRefused('life_too_short');
      cache.set(key, token, token.expiresAt * 1000);
      return token;
    },
  };
}

/** What a JWT says of itself; empty for an opaque token. Never a decision to trust it: the issuer and the next hop check. */
interface Facts {
  readonly exp?: number | undefined;
  readonly claims?: Readonly<Record<string, unknown>> | undefined;
}

function readFacts(token: string): Facts {
  try {
    const claims = decodeJwt(token);
    return { claims, exp: typeof claims.exp === 'number' ? claims.exp : undefined };
  } catch {
    return {};
  }
}

/** The same patient, same or narrower scope, same or shorter life: an answer that says otherwise is not used. */
function readAnswer(body: unknown, request: ExchangeRequest, subject: Facts, startedAt: number): ExchangedToken {
  const parsed = Answer.safeParse(body);
  if (!parsed.success) throw new ExchangeRefused('invalid_answer');
  const { access_token: accessToken, expires_in: expiresIn, scope = request.scope } = parsed.data;

  const asked = parseScopes(request.scope);
  const verbatim = new Set(asked.map(({ raw }) => raw));
  const more = parseScopes(scope).filter(({ raw }) => !verbatim.has(raw));
  if (!coversAll(asked, more)) throw new ExchangeRefused('scope_widened');

  const issued = readFacts(accessToken);
  if (issued.claims !== undefined && subject.claims !== undefined) {
    for (const name of ['iss', 'sub', 'patient', 'tenant', 'encounter']) {
      if (issued.claims[name] !== subject.claims[name]) throw new ExchangeRefused('context_changed');
    }
    if (request.sid !== undefined && sessionOf(issued.claims) !== request.sid) throw new ExchangeRefused('context_changed');
    const { aud } = issued.claims;
    if (aud !== request.resource && !(Array.isArray(aud) && aud.length === 1 && aud[0] === request.resource)) {
      throw new ExchangeRefused('context_changed');
    }
  }
  const ends = [startedAt + expiresIn, issued.exp, subject.exp].filter((end) => end !== undefined);
  return { accessToken, scope, expiresAt: Math.floor(Math.min(...ends)) };
}

/** `__hmcp.sid`: the session a token was minted for. @see protocol section 2.6 */
function sessionOf(claims: Readonly<Record<string, unknown>>): string | undefined {
  const parsed = HmcpClaim.safeParse(claims.__hmcp);
  return parsed.success ? parsed.data.sid : undefined;
}
