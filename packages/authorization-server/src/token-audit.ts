import { AccessTokenClaims, type AuditRecord, type AuditSink, checkChain, keyedHash, patientKey } from '@hmcp/core';
import { decodeJwt } from 'jose';
import type { Context, Provider } from 'oidc-provider';
import { type Authority, reasonOf } from './authority.js';
import { DENIALS } from './interaction.js';
import { launchParameters } from './mint.js';

const GRANTS = new Map([
  ['authorization_code', 'authorization_code'],
  ['refresh_token', 'refresh_token'],
  ['client_credentials', 'client_credentials'],
  ['urn:ietf:params:oauth:grant-type:token-exchange', 'token-exchange'],
]);

/**
 * Audits every token and every refusal, and releases nothing before its record is durable. It also completes the token response:
 * `Pragma: no-cache`, and the launch context beside the token.
 * @see protocol section 8
 */
export function auditTokens(
  provider: Provider,
  authority: Authority,
  audit: AuditSink,
): (ctx: Context, next: () => Promise<void>) => Promise<void> {
  const errors = new WeakMap<Context, Error>();
  const note = (ctx: Context, error: Error) => void errors.set(ctx, error);
  provider.on('authorization.error', note).on('grant.error', note).on('server_error', note);

  return async (ctx, next) => {
    const isToken = ctx.path === '/token' && ctx.method === 'POST';
    if (!isToken && !ctx.path.startsWith('/auth')) return next();
    if (isToken) ctx.set('pragma', 'no-cache');
    await next();
    const error = errors.get(ctx);
    const body = isToken ? asObject(ctx.body) : {};
    try {
      if (typeof body.access_token === 'string') {
        const claims = AccessTokenClaims.parse(decodeJwt(body.access_token));
        await audit.append(await issued(authority, ctx, claims));
        ctx.body = { ...body, ...launchParameters(claims) };
      } else if (error !== undefined || isToken) {
        await audit.append(refused(authority, ctx, error));
      }
    } catch {
      ctx.remove('location');
      ctx.status = 503;
      ctx.set('retry-after', '5');
      ctx.body = { error: 'temporarily_unavailable', error_description: 'the decision could not be recorded' };
    }
  };
}

async function issued(authority: Authority, ctx: Context, claims: AccessTokenClaims): Promise<AuditRecord> {
  const { config, directory } = authority;
  const key = config.pseudonymKey;
  const chain = checkChain(claims);
  const practitioner = directory.find(claims.sub)?.fhirUser.startsWith('Practitioner/');
  const { patient, tenant, fhirUser } = claims;
  return {
    event: 'token.issued',
    outcome: 0,
    by: config.publicUrl,
    issuer: config.publicUrl,
    method: grantOf(ctx),
    clientId: claims.client_id,
    subject: await keyedHash(key, claims.sub),
    ...(fhirUser === undefined ? {} : { fhirUser: practitioner ? fhirUser : await keyedHash(key, fhirUser) }),
    ...(chain.ok ? { actors: chain.actors } : {}),
    jti: claims.jti,
    peer: [claims.aud].flat().join(' '),
    ...(claims.txn === undefined ? {} : { txn: claims.txn }),
    ...(claims.__hmcp?.sid === undefined ? {} : { sid: claims.__hmcp.sid }),
    ...(patient === undefined
      ? {}
      : { pk: await patientKey(key, { fhirServer: config.fhirServer, tenant, patient }), pkScope: 'local' }),
  };
}

function refused(authority: Authority, ctx: Context, error: Error | undefined): AuditRecord {
  const { config, clients } = authority;
  const clientId = ctx.oidc.client?.clientId;
  const status = statusOf(error) ?? ctx.status;
  return {
    event: 'token.refused',
    outcome: status >= 500 ? 12 : 4,
    code: status,
    check: 'token',
    reason: reason(error),
    by: config.publicUrl,
    issuer: config.publicUrl,
    method: grantOf(ctx),
    ...(clientId !== undefined && clients.has(clientId) ? { clientId } : {}),
  };
}

/** Fixed words only: ours, or the OAuth error code. */
function reason(error: Error | undefined): string {
  if (error === undefined) return 'refused';
  const { error: code, error_description: description } = error as { error?: unknown; error_description?: unknown };
  const denial = Object.values(DENIALS).find((words) => words === description);
  return reasonOf(error) ?? denial ?? (typeof code === 'string' ? code : 'server_error');
}

function statusOf(error: Error | undefined): number | undefined {
  const status = (error as { statusCode?: unknown } | undefined)?.statusCode;
  return typeof status === 'number' ? status : undefined;
}

function grantOf(ctx: Context): string {
  if (ctx.path.startsWith('/auth')) return 'authorize';
  return GRANTS.get(String(ctx.oidc.params?.grant_type)) ?? 'token';
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
