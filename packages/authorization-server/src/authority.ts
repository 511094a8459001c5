import type { SealVerifier } from '@hmcp/auth';
import type { OIDCProviderError } from 'oidc-provider';
import type { AuthorizationServerConfig, ClientRegistration } from './config.js';
import type { Directory } from './directory.js';
import type { SigningKeys } from './keys.js';
import type { OAuthRefusal } from './launch.js';
import type { Ledger } from './ledger.js';
import type { ContextClaims, LaunchContext } from './mint.js';

/** The library, loaded once and quietly. */
export type OidcLibrary = typeof import('oidc-provider');

/** Everything the hooks and endpoints of one server share. */
export interface Authority {
  readonly library: OidcLibrary;
  readonly config: AuthorizationServerConfig;
  readonly keys: SigningKeys;
  readonly directory: Directory;
  readonly clients: ReadonlyMap<string, ClientRegistration>;
  /** Known resources, the FHIR base among them. */
  readonly resources: ReadonlySet<string>;
  readonly ledger: Ledger;
  /** Believes the seals of the configured managers, and no others. */
  readonly seals: SealVerifier;
  /** Launch contexts by grant. */
  readonly contexts: Map<string, LaunchContext>;
  /**
   * Claims of tokens about to be minted by an exchange. The library asks its `extraTokenClaims` hook for the claims of every
   * token and overwrites whatever a grant handler put there, so the hook finds them here.
   */
  readonly exchanged: WeakMap<object, ContextClaims>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** The client's registration; a client the library knows is always registered. */
export function registrationOf(authority: Authority, clientId: string | undefined): ClientRegistration {
  const registration = clientId === undefined ? undefined : authority.clients.get(clientId);
  if (registration === undefined) throw new TypeError('client without registration');
  return registration;
}

/** What this server has to ask somebody else before it can decide, and cannot: try again. */
export function unavailable(authority: Pick<Authority, 'library'>, reason: string): OIDCProviderError {
  return Object.assign(oauthError(authority, { error: 'temporarily_unavailable', reason }), { status: 503, statusCode: 503 });
}

const reasons = new WeakMap<object, string>();

/** A refusal as the library's error; its fixed words are remembered for the audit. */
export function oauthError(
  { library }: Pick<Authority, 'library'>,
  refusal: Pick<OAuthRefusal, 'reason'> & { readonly error: string },
): OIDCProviderError {
  const error = new library.errors.CustomOIDCProviderError(refusal.error, refusal.reason);
  reasons.set(error, refusal.reason);
  return error;
}

/** The fixed words of an error made by {@link oauthError}. */
export function reasonOf(error: object): string | undefined {
  return reasons.get(error);
}

let loading: Promise<OidcLibrary> | undefined;

/**
 * Imports the library. On Node 20 it warns on the console about its runtime while it loads; that one line is kept back, because
 * the output of a process that serves this belongs to whoever started it.
 */
export function loadLibrary(): Promise<OidcLibrary> {
  loading ??= (async () => {
    const { warn } = console;
    console.warn = (...words: unknown[]) => {
      if (!String(words[0]).includes('oidc-provider WARNING')) warn(...words);
    };
    try {
      return await import('oidc-provider');
    } finally {
      console.warn = warn;
    }
  })();
  return loading;
}
