import { randomBytes } from 'node:crypto';
import type { Context, Provider, Token } from 'oidc-provider';
import { type Authority, oauthError, registrationOf } from './authority.js';
import { BACKEND_TOKEN_SECONDS } from './client-credentials.js';
import { type ClientRegistration, TOKEN_EXCHANGE } from './config.js';
import { ACCESS_TOKEN_ALG, ID_TOKEN_ALG } from './keys.js';
import { planLaunch, refuse } from './launch.js';
import type { Issuance } from './ledger.js';
import { createMemoryStore } from './memory-store.js';
import { backendClaims, type ContextClaims, fhirUserUrl, launchClaims } from './mint.js';
import { assertPinned } from './mint-guard.js';
import { pageHeaders, renderPage } from './page.js';
import { errorPage } from './picker.js';
import { supportedScopes } from './smart-configuration.js';

const HOUR = 3600;
const DAY = 24 * HOUR;
/** Longest life of a client assertion in seconds. @see SMART App Launch, client authentication: asymmetric */
const ASSERTION_SECONDS = 300;

/** `oidc-provider`, told what this server decides: everything it does not need is off, and every hook asks a function of this package. */
export function createProvider(authority: Authority): Provider {
  const { config, library, keys } = authority;
  return new library.Provider(config.publicUrl, {
    adapter: createMemoryStore(),
    clients: config.clients.map(clientMetadata),
    jwks: keys,
    cookies: { keys: [randomBytes(32).toString('base64url')], long: { sameSite: 'lax' }, short: { sameSite: 'lax' } },
    responseTypes: ['code'],
    clientAuthMethods: ['private_key_jwt', 'none'],
    clientDefaults: {
      id_token_signed_response_alg: ID_TOKEN_ALG,
      token_endpoint_auth_method: 'private_key_jwt',
      grant_types: [],
      response_types: [],
    },
    enabledJWA: { clientAuthSigningAlgValues: ['ES384', 'RS384', 'ES256'], idTokenSigningAlgValues: [ID_TOKEN_ALG] },
    scopes: supportedScopes(config),
    claims: { openid: ['sub'], fhirUser: ['fhirUser'], profile: ['name'], acr: null, auth_time: null, iss: null, sid: null },
    allowOmittingSingleRegisteredRedirectUri: false,
    pkce: { required: () => true },
    rotateRefreshToken: true,
    // A grant stands until it is revoked: signing out of the browser, or a launch for somebody else, does not end it.
    expiresWithSession: async () => false,
    ttl: {
      AccessToken: config.accessTokenSeconds,
      AuthorizationCode: 60,
      ClientCredentials: BACKEND_TOKEN_SECONDS,
      Grant: 14 * DAY,
      IdToken: HOUR,
      Interaction: HOUR / 2,
      RefreshToken: 14 * DAY,
      Session: 8 * HOUR,
    },
    features: {
      clientCredentials: { enabled: true },
      revocation: {
        enabled: true,
        allowedPolicy: async (_ctx: Context, client: { clientId: string }, token: { clientId?: string }) =>
          token.clientId === client.clientId,
      },
      devInteractions: { enabled: false },
      dPoP: { enabled: false },
      pushedAuthorizationRequests: { enabled: false },
      rpInitiatedLogout: { enabled: false },
      userinfo: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: async (_ctx: Context, _client: unknown, oneOf?: string | string[]) => oneOf ?? config.fhirServer,
        // Otherwise a token request with `openid` and no `resource` gets an opaque token without any patient scope.
        useGrantedResource: async () => true,
        getResourceServerInfo: async (ctx: Context, resource: string) => resourceServerInfo(authority, ctx, resource),
      },
    },
    interactions: {
      policy: interactionPolicy(authority),
      url: async (_ctx: Context, { uid }: { uid: string }) => `/interaction/${uid}`,
    },
    // Every launch makes a new grant. The library would reuse the grant of the browser session, and with it the patient before.
    loadExistingGrant: async (ctx: Context) => {
      const grantId = ctx.oidc.result?.consent?.grantId;
      return grantId === undefined ? undefined : ctx.oidc.provider.Grant.find(grantId);
    },
    extraParams: { aud: (ctx: Context) => checkLaunch(authority, ctx), launch: undefined },
    findAccount: async (_ctx: Context, username: string) => {
      const account = authority.directory.find(username);
      if (account === undefined) return undefined;
      const claims = { sub: username, name: account.name, fhirUser: fhirUserUrl(account, config.fhirServer) };
      return { accountId: username, claims: async () => claims };
    },
    extraTokenClaims: async (_ctx: Context, token: Token) => contextClaims(authority, token),
    formats: {
      customizers: {
        jwt: async (_ctx: Context, token: Token, jwt: { payload: Record<string, unknown> }) =>
          remember(authority, token, jwt.payload),
      },
    },
    assertJwtClientAuthClaimsAndHeader: async (_ctx: Context, claims: Record<string, unknown>, header: Record<string, unknown>) =>
      checkAssertion(authority, claims, header),
    clientBasedCORS: (_ctx: Context, origin: string, client: { clientAuthMethod: string; redirectUris: readonly string[] }) =>
      client.clientAuthMethod === 'none' &&
      client.redirectUris.some((uri) => URL.canParse(uri) && new URL(uri).origin === origin),
    renderError: async (ctx: Context, out: { error: string }) => {
      ctx.set(pageHeaders());
      ctx.body = renderPage(errorPage(out.error));
    },
  });
}

function clientMetadata(client: ClientRegistration): Record<string, unknown> {
  const launches = client.grants.includes('authorization_code');
  return {
    client_id: client.clientId,
    client_name: client.name,
    redirect_uris: client.redirectUris,
    response_types: launches ? ['code'] : [],
    grant_types: client.grants.map((grant) => (grant === 'token-exchange' ? TOKEN_EXCHANGE : grant)),
    token_endpoint_auth_method: client.jwks === undefined ? 'none' : 'private_key_jwt',
    ...(client.jwks === undefined ? {} : { jwks: client.jwks }),
  };
}

function interactionPolicy({ library }: Authority): unknown {
  const { base, Prompt, Check } = library.interactionPolicy;
  const policy = base();
  policy.remove('consent');
  policy.add(
    new Prompt(
      { name: 'consent', requestable: true },
      new Check(
        'launch_unconfirmed',
        'the person confirms every launch',
        'interaction_required',
        (ctx) => ctx.oidc.result?.consent === undefined,
      ),
    ),
  );
  return policy;
}

/** Runs after the redirect URI, PKCE and the shape of the request were checked, so that a refusal reaches the client by redirect. */
function checkLaunch(authority: Authority, ctx: Context): void {
  const { scope, aud, resource, launch } = ctx.oidc.params ?? {};
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  const plan = planLaunch(
    {
      scope: text(scope),
      aud: text(aud),
      resource: Array.isArray(resource) ? resource.map(String) : text(resource),
      launch: text(launch),
    },
    registrationOf(authority, ctx.oidc.client?.clientId),
    authority.resources,
  );
  if (!plan.ok) throw oauthError(authority, plan);
}

/** A resource as the library must see it: scopes are decided by meaning elsewhere, so here it knows all those of the request. */
function resourceServerInfo(authority: Authority, ctx: Context, resource: string): object {
  if (!authority.resources.has(resource)) throw oauthError(authority, refuse('invalid_target', 'the resource is not known here'));
  const { params, entities } = ctx.oidc;
  const requested = [params?.scope, entities.AuthorizationCode?.scope, entities.RefreshToken?.scope].filter(
    (scope) => typeof scope === 'string',
  );
  return resourceServer([...new Set([...supportedScopes(authority.config), ...requested.join(' ').split(' ')])].join(' ').trim());
}

/** A resource server that gets signed JWT access tokens. */
export function resourceServer(scope: string): object {
  return { scope, accessTokenFormat: 'jwt', jwt: { sign: { alg: ACCESS_TOKEN_ALG } } };
}

/** The claims a token carries beside the registered ones, from wherever its grant keeps them; asked for every token there is. */
function contextClaims(authority: Authority, token: Token): ContextClaims {
  const exchanged = authority.exchanged.get(token);
  if (exchanged !== undefined) return exchanged;
  if (token.kind === 'ClientCredentials') return backendClaims(authority.config.tenant);
  const context = token.grantId === undefined ? undefined : authority.contexts.get(token.grantId);
  const account = context === undefined ? undefined : authority.directory.find(context.username);
  if (context === undefined || account === undefined || token.accountId !== context.username)
    throw oauthError(authority, refuse('invalid_grant', 'the launch is not known here'));
  if (context.patient !== undefined && authority.directory.patient(context.username, context.patient) === undefined)
    throw oauthError(authority, refuse('invalid_grant', 'the account may no longer open the record'));
  return launchClaims(context, account, authority.config.fhirServer);
}

/** The last step before a token is signed, on every path: the mint guard, then the ledger. */
function remember(authority: Authority, token: Token, payload: Record<string, unknown>): void {
  try {
    assertPinned(payload);
  } catch {
    throw oauthError(authority, refuse('invalid_grant', 'a token with a patient scope needs a patient'));
  }
  const { jti, exp } = payload;
  if (typeof jti !== 'string' || typeof exp !== 'number') throw new TypeError('token without jti or exp');
  authority.ledger.record(jti, { origin: originOf(authority, token), grantId: token.grantId, exp });
}

function originOf(authority: Authority, token: Token): Issuance['origin'] {
  if (authority.exchanged.has(token)) return 'exchange';
  return token.kind === 'ClientCredentials' ? 'client' : 'grant';
}

function checkAssertion(
  { library, now }: Authority,
  { exp, iat }: Record<string, unknown>,
  { typ }: Record<string, unknown>,
): void {
  const begin = typeof iat === 'number' ? iat : Math.floor(now() / 1000);
  if (typeof exp !== 'number' || exp - begin > ASSERTION_SECONDS || exp - Math.floor(now() / 1000) > ASSERTION_SECONDS + 15)
    throw new library.errors.InvalidClientAuth('the assertion lives longer than 5 minutes');
  if (typeof typ !== 'string' || typ.toUpperCase() !== 'JWT')
    throw new library.errors.InvalidClientAuth('the assertion is no JWT by its type');
}
