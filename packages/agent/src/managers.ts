import type { Grant, SealVerifier, TokenExchanger, TrustedManager } from '@hmcp/auth';
import { coversAll, HmcpError, MANAGER_METHODS, MANAGER_SCOPES, parseScopes, RenewResult, unusable } from '@hmcp/core';
import type { RequestScope } from '@hmcp/core/request-scope';
import { ManagerClient } from './manager-client.js';

/** Seconds a token for a manager must outlive a request there. */
const LIFE_SECONDS = 30;

/** Scopes of the portal's own requests. @see protocol section 6 */
export const OWNER_SCOPE = `${MANAGER_SCOPES.switch} patient/Patient.r`;

/** What a grant must cover for its session to be held by a manager: the portal's own requests, and the seals of its calls. */
const SESSION_SCOPE = `${OWNER_SCOPE} ${MANAGER_SCOPES.participate}`;

/**
 * The refusal of a grant that lacks a scope of a session: told before anything is sent, because an authorization server says no
 * more than that it exchanges no such token.
 * @param by who refuses
 * @see protocol section 10
 */
export function lacksSessionScope({ scope }: Pick<Grant, 'scope'>, by: string): HmcpError | undefined {
  if (coversAll(parseScopes(scope), parseScopes(SESSION_SCOPE))) return undefined;
  return new HmcpError(40301, { by, check: 'scope' }, { reason: 'the grant lacks a scope of a session' });
}

/** A seal renewed otherwise than by exchanging the token of its scope. */
type Renewal = (seal: string) => Promise<string>;
const renewals = new WeakMap<RequestScope, Renewal>();

/** Says how seals of this scope are renewed: a portal asks with its grant. */
export function renewWith(scope: RequestScope, renewal: Renewal): void {
  renewals.set(scope, renewal);
}

/** The context managers an agent trusts, and its connections to them: one for each, made by the first request. */
export class Managers {
  readonly seals: SealVerifier | undefined;
  readonly #by: string;
  readonly #tokens: TokenExchanger;
  readonly #fetch: typeof globalThis.fetch;
  readonly #clients = new Map<string, ManagerClient>();

  constructor(options: { seals: SealVerifier | undefined; by: string; tokens: TokenExchanger; fetch: typeof globalThis.fetch }) {
    this.seals = options.seals;
    this.#by = options.by;
    this.#tokens = options.tokens;
    this.#fetch = options.fetch;
  }

  /** The listed manager with this resource identifier or issuer. @throws {TypeError} when none is */
  named(name: string): TrustedManager {
    const found = this.seals?.managers.find(({ resource, issuer }) => resource === name || issuer === name);
    if (found === undefined) throw unusable('"manager" is not among the managers this agent trusts', 40903, 'seal');
    return found;
  }

  client({ resource }: Pick<TrustedManager, 'resource'>): ManagerClient {
    const known = this.#clients.get(resource);
    if (known !== undefined) return known;
    const client = new ManagerClient({ resource, by: this.#by, fetch: this.#fetch });
    this.#clients.set(resource, client);
    return client;
  }

  /** A token for a manager, exchanged. @throws what {@link TokenExchanger.exchange} throws */
  async token(manager: TrustedManager, subjectToken: string, scope: string, session: Session = {}): Promise<string> {
    const request = { subjectToken, resource: manager.resource, scope, lifeSeconds: LIFE_SECONDS, ...session };
    return (await this.#tokens.exchange(request)).accessToken;
  }

  /** A renewal of `seal`, by the authority of `scope`. @throws {HmcpError} */
  async renew(manager: TrustedManager, seal: string, scope: RequestScope): Promise<string> {
    const own = renewals.get(scope);
    if (own !== undefined) return own(seal);
    // The seal may have expired, so it is not sent to the authorization server; the token in hand has its `sid` already.
    const sid = scope.facts.token?.sid;
    const token = () => this.token(manager, scope.facts.accessToken, MANAGER_SCOPES.participate, { sid });
    return this.renewed(manager, seal, token);
  }

  /** Asks for a renewal with a token already chosen. @throws {HmcpError} */
  async renewed(manager: TrustedManager, seal: string, token: () => Promise<string>): Promise<string> {
    const client = this.client(manager);
    return client.read(RenewResult, await client.method(MANAGER_METHODS.renew, { seal }, { token })).seal;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#clients.values()].map((client) => client.close()));
  }
}

interface Session {
  readonly sid?: string | undefined;
  readonly seal?: string | undefined;
}
