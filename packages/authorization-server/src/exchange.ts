import {
  type AccessTokenClaims,
  type ChainRecord,
  checkChain,
  coversAll,
  MAX_CHAIN,
  parseScopes,
  type SealClaims,
} from '@hmcp/core';
import type { ClientRegistration } from './config.js';
import { bindSession } from './exchange-session.js';
import { type OAuthRefusal, refuse } from './launch.js';
import type { ContextClaims } from './mint.js';

/** RFC 8693 identifier of an access token. */
export const ACCESS_TOKEN_TYPE = 'urn:ietf:params:oauth:token-type:access_token';

/**
 * Parameters that would let a caller choose whose record is opened or who acted: their presence is a refusal, for a token minted
 * as if they had not been there would mean something else.
 */
export const FORBIDDEN_PARAMETERS = [
  'patient',
  'encounter',
  'tenant',
  'fhirUser',
  'act',
  'actor_token',
  'actor_token_type',
  'audience',
] as const;

/** Every parameter an exchange request is read for. */
export const EXCHANGE_PARAMETERS = [
  'subject_token',
  'subject_token_type',
  'requested_token_type',
  'resource',
  'scope',
  'hmcp_seal',
  ...FORBIDDEN_PARAMETERS,
] as const;

const COMPACT_JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;
const SIGNED_JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/;
/** Longest seal read, in characters; an envelope that holds one has at most 8 KiB. */
const MAX_SEAL = 6144;

/** A well-formed exchange request. */
export interface ExchangeRequest {
  readonly ok: true;
  readonly subjectToken: string;
  readonly resources: readonly string[];
  readonly scope: string;
  /** The seal of the session the new token is for, unverified. */
  readonly seal?: string;
}

/**
 * Reads the parameters of an exchange: an access token as subject, an access token wanted, nothing that names a patient.
 * @see RFC 8693 section 2.1; protocol section 5
 */
export function readExchange(parameters: Readonly<Record<string, unknown>>): ExchangeRequest | OAuthRefusal {
  const { subject_token, subject_token_type, requested_token_type, resource, scope, hmcp_seal: seal } = parameters;
  if (FORBIDDEN_PARAMETERS.some((name) => parameters[name] !== undefined))
    return refuse(
      'invalid_request',
      'a parameter is not accepted: patient, actor and audience come from the subject token and "resource"',
    );
  if (typeof subject_token !== 'string' || subject_token === '') return refuse('invalid_request', '"subject_token" is missing');
  // A refresh token is opaque here, so that it is refused even when it is called an access token.
  if (subject_token_type !== ACCESS_TOKEN_TYPE || !COMPACT_JWT.test(subject_token))
    return refuse('invalid_request', 'only an access token can be the subject');
  if (requested_token_type !== undefined && requested_token_type !== ACCESS_TOKEN_TYPE)
    return refuse('invalid_request', 'only an access token can be requested');
  const resources = [resource ?? []].flat();
  if (!resources.every((uri): uri is string => typeof uri === 'string'))
    return refuse('invalid_request', '"resource" must be text');
  if (seal !== undefined && (typeof seal !== 'string' || seal.length > MAX_SEAL || !SIGNED_JWT.test(seal)))
    return refuse('invalid_request', '"hmcp_seal" is no seal');
  return {
    ok: true,
    subjectToken: subject_token,
    resources,
    scope: typeof scope === 'string' ? scope : '',
    ...(seal === undefined ? {} : { seal }),
  };
}

/** Everything the decision depends on. */
export interface ExchangeQuestion {
  readonly request: Pick<ExchangeRequest, 'resources' | 'scope'>;
  /** Claims of the subject token, whose signature, type, issuer and expiry already hold. */
  readonly subject: AccessTokenClaims;
  /** How this server came to issue it; `unknown` when it does not remember. */
  readonly origin: 'grant' | 'exchange' | 'client' | 'unknown';
  /** base64url(SHA-256(subject token)), for the chain record. */
  readonly pth: string;
  /** The authenticated client. */
  readonly caller: Pick<ClientRegistration, 'clientId' | 'resource' | 'targets' | 'scope'>;
  /** Claims of the seal that came with the request, whose signature and manager already hold. */
  readonly seal?: SealClaims | undefined;
  /** The FHIR server whose patients this authorization server names. */
  readonly fhirServer: string;
  /** Known resources. */
  readonly known: ReadonlySet<string>;
  /** Every scope the resource is registered with; `undefined` when its registration names none, and then it bounds nothing. */
  readonly registered?: string | undefined;
  /** Used when the subject token belongs to no transaction yet. */
  readonly newTxn: string;
  /** Seconds since the epoch. */
  readonly now: number;
  /** Longest life of the new token in seconds. */
  readonly maxLife: number;
}

/** The new token: audience, scope, expiry (seconds since the epoch) and the claims that carry the context on. */
export interface Exchanged {
  readonly ok: true;
  readonly subject: string;
  readonly resource: string;
  readonly scope: string;
  readonly exp: number;
  readonly claims: ContextClaims;
}

/**
 * Decides one exchange: the context is copied, the session bound, the scope narrowed, the life shortened, the
 * caller recorded.
 * A token issued to the caller itself only changes its audience; any other becomes one more record of the chain.
 * @see protocol section 5; RFC 8693
 */
export function decideExchange(question: ExchangeQuestion): Exchanged | OAuthRefusal {
  const { subject, caller, request } = question;
  if (subject.exp <= question.now) return refuse('invalid_grant', 'the subject token has expired');
  if (subject.cnf !== undefined) return refuse('invalid_grant', 'the subject token is bound to a key');
  const verdict = checkChain(subject);
  if (!verdict.ok) return refuse('invalid_grant', 'the chain of the subject token is broken');

  const own = subject.client_id === caller.clientId;
  if (own ? question.origin !== 'grant' : caller.resource === undefined || subject.aud !== caller.resource)
    return refuse('invalid_grant', 'the subject token is neither for the caller nor granted to it');

  const session = bindSession({ ...question, firstClient: verdict.firstClient });
  if (!session.ok) return session;

  const [resource, ...others] = request.resources;
  if (resource === undefined || others.length > 0) return refuse('invalid_target', 'exactly one "resource" must be named');
  if (!question.known.has(resource)) return refuse('invalid_target', 'the resource is not known here');
  if (resource === caller.resource) return refuse('invalid_target', 'the resource is the caller itself');
  if (own && !caller.targets.includes(resource)) return refuse('invalid_target', 'the caller is not registered for the resource');

  const scope = narrowScope(request.scope, subject.scope ?? '', caller.scope);
  if (scope === undefined)
    return refuse('invalid_scope', 'the scope is empty or goes beyond the subject token or the registration');
  if (question.registered !== undefined && !coversAll(parseScopes(question.registered), parseScopes(scope)))
    return refuse('invalid_scope', 'the resource is not registered with the scope');

  const chain = own ? [] : [...(subject.__hmcp?.chain ?? []), record(subject, question.pth)];
  if (chain.length > MAX_CHAIN) return refuse('invalid_grant', 'the chain is too long');
  const act = own ? undefined : { sub: caller.clientId, ...(subject.act === undefined ? {} : { act: subject.act }) };
  const { sid } = session;
  return {
    ok: true,
    subject: subject.sub,
    resource,
    scope,
    exp: Math.min(subject.exp, question.now + question.maxLife),
    claims: {
      ...copyContext(subject),
      txn: subject.txn ?? question.newTxn,
      ...(act === undefined ? {} : { act }),
      __hmcp: { v: 1, ...(sid === undefined ? {} : { sid }), chain },
    },
  };
}

/** The requested members without launch and identity ones, when each is covered twice; `undefined` otherwise. */
function narrowScope(requested: string, granted: string, registered: string): string | undefined {
  const wanted = parseScopes(requested).filter((scope) => scope.kind !== 'launch' && scope.kind !== 'identity');
  const allowed = coversAll(parseScopes(granted), wanted) && coversAll(parseScopes(registered), wanted);
  return wanted.length > 0 && allowed ? [...new Set(wanted.map((scope) => scope.raw))].join(' ') : undefined;
}

function record(subject: AccessTokenClaims, pth: string): ChainRecord {
  const { jti, client_id, aud, scope = '' } = subject;
  return { jti, client_id, aud: [aud].flat().join(' '), scope, pth };
}

function copyContext(subject: AccessTokenClaims): Omit<ContextClaims, '__hmcp'> {
  const { patient, encounter, tenant, fhirUser } = subject;
  return {
    ...(patient === undefined ? {} : { patient }),
    ...(encounter === undefined ? {} : { encounter }),
    ...(tenant === undefined ? {} : { tenant }),
    ...(fhirUser === undefined ? {} : { fhirUser }),
  };
}
