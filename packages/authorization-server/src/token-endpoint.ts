import { createHash, randomUUID } from 'node:crypto';
import { AuthorityUnavailable, SealError } from '@hmcp/auth';
import { AccessTokenClaims, type SealClaims } from '@hmcp/core';
import { createLocalJWKSet, jwtVerify } from 'jose';
import type { Context, MintedToken, Provider } from 'oidc-provider';
import { type Authority, oauthError, registrationOf, unavailable } from './authority.js';
import { decideClientCredentials } from './client-credentials.js';
import { TOKEN_EXCHANGE } from './config.js';
import { ACCESS_TOKEN_TYPE, decideExchange, EXCHANGE_PARAMETERS, readExchange } from './exchange.js';
import { ACCESS_TOKEN_ALG, publicKeys } from './keys.js';
import { type OAuthRefusal, refuse } from './launch.js';
import { resourceServer } from './provider.js';

/** Adds the two grants whose decisions are this package's own: token exchange, and client credentials without silent dropping. */
export function registerGrants(provider: Provider, authority: Authority): void {
  provider.registerGrantType(TOKEN_EXCHANGE, (ctx) => exchange(provider, authority, ctx), EXCHANGE_PARAMETERS, ['resource']);
  provider.registerGrantType(
    'client_credentials',
    (ctx) => clientCredentials(provider, authority, ctx),
    ['scope', 'resource'],
    ['resource'],
  );
}

async function exchange(provider: Provider, authority: Authority, ctx: Context): Promise<void> {
  const { client, params = {} } = ctx.oidc;
  const request = orThrow(authority, readExchange(params));
  const subject = await verifySubject(authority, request.subjectToken);
  const seal = await verifySeal(authority, request.seal);
  const issuance = authority.ledger.find(subject.jti);
  const seconds = Math.floor(authority.now() / 1000);
  const decision = orThrow(
    authority,
    decideExchange({
      request,
      subject,
      origin: issuance?.origin ?? 'unknown',
      pth: createHash('sha256').update(request.subjectToken).digest('base64url'),
      caller: registrationOf(authority, client?.clientId),
      seal,
      fhirServer: authority.config.fhirServer,
      known: authority.resources,
      registered: registeredScope(authority, request.resources),
      newTxn: randomUUID(),
      now: seconds,
      maxLife: authority.config.exchangeSeconds,
    }),
  );
  // A token of `user/` scopes names no patient; the seal then does, and the person must be allowed to open that record.
  const about = { ...subject, patient: subject.patient ?? seal?.patient };
  const standing = await stands(provider, authority, about, issuance?.grantId);
  if (!standing) throw oauthError(authority, refuse('invalid_grant', 'the grant behind the subject token no longer stands'));

  const token = new provider.AccessToken({
    accountId: decision.subject,
    client,
    grantId: issuance?.grantId,
    gty: 'token_exchange',
    scope: decision.scope,
    exp: decision.exp,
  });
  token.resourceServer = new provider.ResourceServer(decision.resource, resourceServer(decision.scope));
  authority.exchanged.set(token, decision.claims);
  ctx.body = {
    access_token: await mint(ctx, token, 'AccessToken'),
    issued_token_type: ACCESS_TOKEN_TYPE,
    token_type: 'Bearer',
    expires_in: decision.exp - seconds,
    scope: decision.scope,
  };
}

/** What a resource is registered with; `undefined` when that is nothing, as for the FHIR server, which decides for itself. */
function registeredScope({ config }: Authority, [named]: readonly string[]): string | undefined {
  return config.resources.find(({ resource }) => resource === named)?.scopesSupported.join(' ') || undefined;
}

/** A token this server signed and still remembers; anything else is no subject. */
async function verifySubject(authority: Authority, subjectToken: string): Promise<AccessTokenClaims> {
  const keys = createLocalJWKSet(publicKeys(authority.keys));
  try {
    const { payload } = await jwtVerify(subjectToken, keys, {
      issuer: authority.config.publicUrl,
      typ: 'at+jwt',
      algorithms: [ACCESS_TOKEN_ALG],
      currentDate: new Date(authority.now()),
      clockTolerance: 0,
      requiredClaims: ['exp', 'iat', 'jti', 'sub', 'aud', 'client_id'],
    });
    return AccessTokenClaims.parse(payload);
  } catch {
    throw oauthError(authority, refuse('invalid_grant', 'the subject token is not valid'));
  }
}

/** Claims of a seal that a listed manager signed and that holds now. Whose token came with it is decided later. */
async function verifySeal(authority: Authority, seal: string | undefined): Promise<SealClaims | undefined> {
  if (seal === undefined) return undefined;
  try {
    return (await authority.seals.verify(seal)).claims;
  } catch (error) {
    if (error instanceof AuthorityUnavailable) throw unavailable(authority, 'the keys of a context manager cannot be had');
    if (!(error instanceof SealError)) throw error;
    throw oauthError(authority, refuse('invalid_grant', SEAL_FAULTS[error.code]));
  }
}

const SEAL_FAULTS: Readonly<Record<SealError['code'], string>> = {
  40101: 'the seal has expired',
  40903: 'the seal is not valid here',
  42801: 'no context manager is trusted here',
};

/** The grant has not been revoked, and the person may still open the record. What this process does not remember does not stand. */
async function stands(
  provider: Provider,
  authority: Authority,
  subject: AccessTokenClaims,
  grantId: string | undefined,
): Promise<boolean> {
  const { directory, ledger, clients } = authority;
  if (ledger.find(subject.jti) === undefined) return false;
  if (subject.patient !== undefined)
    return grantId !== undefined && !!(await provider.Grant.find(grantId)) && !!directory.patient(subject.sub, subject.patient);
  if (grantId !== undefined) return !!(await provider.Grant.find(grantId)) && !!directory.find(subject.sub);
  return clients.has(subject.sub);
}

async function clientCredentials(provider: Provider, authority: Authority, ctx: Context): Promise<void> {
  const { client, params = {} } = ctx.oidc;
  const { scope, resource } = params;
  const decision = orThrow(
    authority,
    decideClientCredentials(
      {
        scope: typeof scope === 'string' ? scope : undefined,
        resource: resource === undefined ? undefined : [resource].flat().map(String),
      },
      registrationOf(authority, client?.clientId),
      authority.resources,
      authority.config.fhirServer,
    ),
  );
  const token = new provider.ClientCredentials({ client, scope: decision.scope });
  token.resourceServer = new provider.ResourceServer(decision.resource, resourceServer(decision.scope));
  ctx.body = {
    access_token: await mint(ctx, token, 'ClientCredentials'),
    token_type: 'Bearer',
    expires_in: token.expiration,
    scope: decision.scope,
  };
}

async function mint(ctx: Context, token: MintedToken, name: string): Promise<string> {
  ctx.oidc.entity(name, token);
  return token.save();
}

function orThrow<T extends { readonly ok: true }>(authority: Authority, decision: T | OAuthRefusal): T {
  if (!decision.ok) throw oauthError(authority, decision);
  return decision;
}
