import * as z from 'zod';
import { AuthorityUnavailable, type Fetch, postForm } from './authority.js';
import { type ClientKey, checkClient, clientAssertion, type Random, secureRandom } from './client-assertion.js';
import { DiscoveryError, discover } from './discovery.js';
import { resourceIdentifier, secureUrl } from './secure-url.js';
import { type ExchangedToken, ExchangeRefused } from './token-exchange.js';

/** Tokens of a client that acts for itself: no person, no patient. @see protocol section 6, SMART Backend Services */
export interface ClientCredentials {
  /**
   * @throws {ExchangeRefused} refused by the authorization server
   * @throws {AuthorityUnavailable} no answer
   */
  token(request: { readonly resource: string; readonly scope: string }): Promise<ExchangedToken>;
}

const Answer = z.object({
  access_token: z.string().min(1),
  token_type: z.string().regex(/^bearer$/i),
  expires_in: z.number().positive(),
  scope: z.string().optional(),
});
const Refusal = z.object({ error: z.string().regex(/^[a-z_]{1,40}$/) });
/** A remembered token is used only while it outlives this. */
const SPARE_SECONDS = 30;

/**
 * A client of the client-credentials grant, authenticated with `private_key_jwt`. One token per (resource, scope), single-flight,
 * used while it lives for another 30 s.
 * @throws {TypeError} naming the option that is not usable
 */
export function createClientCredentials(options: {
  readonly issuer: string;
  readonly client: ClientKey;
  readonly fetch?: Fetch | undefined;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
  readonly random?: Random | undefined;
}): ClientCredentials {
  secureUrl(options.issuer, 'issuer');
  checkClient(options.client);
  const { now = Date.now, random = secureRandom } = options;
  const known = new Map<string, ExchangedToken>();
  const flights = new Map<string, Promise<ExchangedToken>>();
  let endpoint: string | undefined;

  const tokenEndpoint = async (): Promise<string> => {
    try {
      endpoint ??= (await discover({ issuer: options.issuer }, options)).token_endpoint;
    } catch (error) {
      throw error instanceof DiscoveryError ? new AuthorityUnavailable('metadata not usable') : error;
    }
    if (endpoint === undefined) throw new AuthorityUnavailable('no token endpoint');
    return endpoint;
  };

  const send = async (resource: string, scope: string): Promise<ExchangedToken> => {
    const startedAt = now() / 1000;
    const url = await tokenEndpoint();
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      resource,
      scope,
      ...(await clientAssertion(options.client, url, { now, random })),
    });
    const { status, body } = await postForm(url, form, options);
    if (status !== 200) {
      const refusal = Refusal.safeParse(body);
      throw new ExchangeRefused(refusal.success ? refusal.data.error : 'invalid_answer');
    }
    const parsed = Answer.safeParse(body);
    if (!parsed.success) throw new ExchangeRefused('invalid_answer');
    const { access_token: accessToken, expires_in: life, scope: granted = scope } = parsed.data;
    return { accessToken, scope: granted, expiresAt: Math.floor(startedAt + life) };
  };

  return {
    token: async ({ resource, scope }) => {
      resourceIdentifier(resource, 'resource');
      const key = JSON.stringify([resource, scope]);
      const held = known.get(key);
      if (held !== undefined && held.expiresAt - now() / 1000 > SPARE_SECONDS) return held;
      let flight = flights.get(key);
      if (flight === undefined) {
        flight = send(resource, scope).finally(() => flights.delete(key));
        flights.set(key, flight);
      }
      const fresh = await flight;
      known.set(key, fresh);
      return fresh;
    },
  };
}
