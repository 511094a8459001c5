import { ExchangeRefused, secureUrl, type TokenExchanger } from '@hmcp/auth';
import { type Check, covers, coversAll, HmcpError, MANAGER_SCOPES, parseScopes } from '@hmcp/core';
import { outsideScope, type RequestScope } from '@hmcp/core/request-scope';
import * as z from 'zod';
import type { ResolvedPeer } from './peers.js';

/** What the access token of a scope allows, and until when (seconds since the epoch). */
export interface Authority {
  readonly scope: string;
  readonly expiresAt: number;
}

const grants = new WeakMap<RequestScope, Authority>();

/** Says what the grant behind an orchestrator's scope allows; a server's scope has its verified token instead. */
export function grantAuthority(scope: RequestScope, authority: Authority): void {
  grants.set(scope, authority);
}

/** What the access token of this scope allows. */
export function authorityOf(scope: RequestScope): Authority | undefined {
  return scope.facts.token ?? grants.get(scope);
}

/** Milliseconds a call may take when nobody says. @see protocol section 5 */
const DEFAULT_TIMEOUT_MS = 30_000;

/** Milliseconds the scope's own token must outlive a call. */
const MARGIN_MS = 1000;

/** The default time for a call in this scope: 30 s, less when the scope's own token ends before. */
export function defaultTimeoutMs(scope: RequestScope, now: number): number {
  const authority = authorityOf(scope);
  if (authority === undefined) return DEFAULT_TIMEOUT_MS;
  return Math.min(DEFAULT_TIMEOUT_MS, authority.expiresAt * 1000 - now - MARGIN_MS);
}

/** Gives the token of one call: exchanged from the scope's own, for one peer, never the scope's own. */
export interface PeerTokens {
  /**
   * @param needed scopes of the contract; without one, {@link Peer.scopes} or the peer's metadata decide
   * @param lifeSeconds the token must outlive the call
   * @param session inside one: its live seal, so that the token is of that session and can renew the seal further on
   * @throws {HmcpError} 40302 `check: "scope"` when the token in hand does not cover `needed`, `"token"` when it ends before the call
   * could, `"exchange"` when the authorization server refused; 50301 `check: "peer"` when nobody answered
   */
  tokenFor(
    scope: RequestScope,
    peer: ResolvedPeer,
    needed: string | undefined,
    lifeSeconds: number,
    session?: SessionProof,
  ): Promise<string>;
}

/** What makes a token one of a session. @see protocol section 2.6 */
export interface SessionProof {
  readonly sid: string;
  readonly seal: string;
}

/** Of an agent whose authorization server exchanges no tokens: nothing is sent, and nobody gets one. */
export const noTokenExchange: TokenExchanger = {
  exchange: () => Promise.reject(new ExchangeRefused('unsupported_grant_type')),
};

const METADATA_LIFE_MS = 300_000;
const METADATA_TIMEOUT_MS = 5000;
const MAX_METADATA_LENGTH = 65_536;
const Metadata = z.looseObject({ resource: z.string(), scopes_supported: z.array(z.string()).optional() });

/**
 * Tokens for peers through an authorization server's token exchange.
 * @see protocol section 5
 */
export function peerTokens(options: { tokens: TokenExchanger; now: () => number; fetch: typeof globalThis.fetch }): PeerTokens {
  const { tokens, now, fetch } = options;
  const supported = new Map<string, { readonly scopes: readonly string[]; readonly until: number }>();

  async function scopesSupported(peer: ResolvedPeer): Promise<readonly string[]> {
    const known = supported.get(peer.name);
    if (known !== undefined && known.until > now()) return known.scopes;
    const address = new URL(peer.url);
    address.pathname = `/.well-known/oauth-protected-resource${address.pathname === '/' ? '' : address.pathname}`;
    const signal = AbortSignal.timeout(METADATA_TIMEOUT_MS);
    const response = await fetch(secureUrl(address.href, `metadata of peer ${peer.name}`), { redirect: 'error', signal });
    const text = await response.text();
    if (!response.ok || text.length > MAX_METADATA_LENGTH) throw new Error('no metadata');
    const metadata = Metadata.parse(JSON.parse(text));
    if (metadata.resource !== peer.resource) throw new Error('metadata of another resource');
    const scopes = metadata.scopes_supported ?? [];
    supported.set(peer.name, { scopes, until: now() + METADATA_LIFE_MS });
    return scopes;
  }

  async function scopeWithoutContract(scope: RequestScope, peer: ResolvedPeer): Promise<string> {
    if (peer.scopes !== undefined) return peer.scopes;
    const granted = parseScopes(authorityOf(scope)?.scope ?? '');
    let offered: readonly string[];
    try {
      offered = await outsideScope(() => scopesSupported(peer));
    } catch {
      throw refusal(scope, 50301, 'peer', 'the metadata of the peer could not be read');
    }
    const within = parseScopes(offered.join(' ')).filter((one) => granted.some((held) => covers(held, one)));
    return within.map((one) => one.raw).join(' ');
  }

  return {
    async tokenFor(scope, peer, needed, lifeSeconds, session) {
      scope.assertOpen();
      // No scope and no longer life would help.
      if (tokens === noTokenExchange) throw refusal(scope, 40302, 'exchange', 'the authorization server exchanges no tokens');
      const authority = authorityOf(scope);
      if (authority !== undefined && authority.expiresAt - now() / 1000 < lifeSeconds) {
        throw refusal(scope, 40302, 'token', 'the token of this request ends before the call could');
      }
      const asked = needed ?? (await scopeWithoutContract(scope, peer));
      if (asked === '') throw refusal(scope, 40302, 'scope', 'the token of this request covers no scope of the peer');
      if (authority !== undefined && !withinGrant(authority.scope, asked)) {
        throw refusal(scope, 40302, 'scope', 'the token of this request does not cover the scope of the call');
      }
      const wanted = session === undefined ? asked : `${asked} ${MANAGER_SCOPES.participate}`;
      const subjectToken = scope.facts.accessToken;
      const request = { subjectToken, resource: peer.resource, scope: wanted, lifeSeconds, ...session };
      try {
        const { accessToken } = await outsideScope(() => tokens.exchange(request));
        return accessToken;
      } catch (error) {
        if (error instanceof ExchangeRefused) throw refusal(scope, 40302, error.check, error.reason);
        throw refusal(scope, 50301, 'peer', 'the authorization server did not answer');
      }
    },
  };
}

/** `scope` and `onward` of a contract as one scope string, each member once. @see protocol section 5 */
export function contractScope(contract: { readonly scope: string; readonly onward?: string | undefined }): string {
  const members = `${contract.scope} ${contract.onward ?? ''}`.split(' ').filter((member) => member !== '');
  return [...new Set(members)].join(' ');
}

/**
 * Whether an exchange can be granted at all. Told before anything is sent, because an authorization server says little more than no; what
 * only it can read (a scope of neither FHIR nor this protocol) is left to it.
 */
function withinGrant(granted: string, asked: string): boolean {
  const known = parseScopes(asked).filter(({ kind }) => kind !== 'extension' && kind !== 'unknown');
  return coversAll(parseScopes(granted), known);
}

/** A refusal of this process about a peer. */
function refusal(scope: RequestScope, code: 40302 | 50301, check: Check, reason: string): HmcpError {
  const { by, hop, envelope } = scope.facts;
  return new HmcpError(code, { by, check, intent: envelope.intent.id, ...(hop > 0 ? { hop } : {}) }, { reason });
}
