import { type AccessTokenClaims, checkChain, coversAll, MAX_CHAIN, parseScopes, type SealClaims, sealMismatch } from '@hmcp/core';

/** Longest life of an exchanged token, seconds. @see protocol section 5 */
const MAX_LIFE = 120;

/** A client of the testbed's issuer. */
export interface TestClient {
  readonly clientId: string;
  /** Its own resource identifier, when it is a server. */
  readonly resource?: string | undefined;
  /** Largest scope it may get. */
  readonly scope: string;
  /** Resources it may exchange its own launch for. @default every known one */
  readonly targets?: readonly string[] | undefined;
}

/** Everything an exchange is decided by. */
export interface ExchangeQuestion {
  /** Claims of the subject token, whose signature, issuer and times already hold. */
  readonly subject: AccessTokenClaims;
  readonly origin: 'grant' | 'exchange' | 'client' | 'unknown';
  /** base64url(SHA-256(subject token)). */
  readonly pth: string;
  readonly caller: TestClient;
  readonly resource: string;
  readonly scope: string;
  /** Claims of a seal that holds. */
  readonly seal?: SealClaims | undefined;
  readonly fhirServer: string;
  readonly known: ReadonlySet<string>;
  /** Seconds since the epoch. */
  readonly now: number;
}

/** The claims of the new token, or an OAuth error code. */
export type Exchanged = { readonly claims: Readonly<Record<string, unknown>> } | { readonly error: string };

/** Parameters that would let a caller choose whose record is opened or who acted. @see protocol section 5 */
const FORBIDDEN = ['patient', 'encounter', 'tenant', 'fhirUser', 'act', 'actor_token', 'actor_token_type', 'audience'];
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';

/** What is wrong with the form of an exchange request; `undefined` when it may be looked into. @see RFC 8693 section 2.1 */
export function malformedExchange(form: URLSearchParams): string | undefined {
  const wanted = form.get('requested_token_type') ?? ACCESS_TOKEN;
  const types = form.get('subject_token_type') === ACCESS_TOKEN && wanted === ACCESS_TOKEN;
  const jwt = /^[\w-]+\.[\w-]+\.[\w-]*$/.test(form.get('subject_token') ?? '');
  const seal = form.get('hmcp_seal');
  const named = FORBIDDEN.some((name) => form.has(name));
  return named || !types || !jwt || (seal !== null && !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(seal)) ? 'invalid_request' : undefined;
}

/** Decides what a client gets for itself: `system/` and `hmcp:` scopes, and of a manager's only to take part. @see protocol section 6 */
export function decideForItself(
  form: URLSearchParams,
  caller: TestClient,
  known: ReadonlySet<string>,
): { readonly resource: string; readonly scope: string } | { readonly error: string } {
  const [resource, ...others] = form.getAll('resource');
  if (resource === undefined || others.length > 0 || !known.has(resource)) return { error: 'invalid_target' };
  const wanted = parseScopes(form.get('scope') ?? '');
  const control = wanted.some(({ kind }) => kind === 'control');
  const fits = wanted.every((scope) => {
    if (control) return scope.kind === 'control' && scope.grant !== 'switch';
    if (scope.kind === 'resource') return scope.level === 'system';
    return scope.kind === 'access' || (scope.kind === 'hmcp' && scope.level === 'unprefixed');
  });
  if (wanted.length === 0 || !fits || !coversAll(parseScopes(caller.scope), wanted)) return { error: 'invalid_scope' };
  return { resource, scope: [...new Set(wanted.map(({ raw }) => raw))].join(' ') };
}

/** True when a launch may grant this: every member understood, for a person, and within the registration. @see SMART App Launch */
export function launchable(scope: string, caller: TestClient): boolean {
  const wanted = parseScopes(scope);
  const data = wanted.filter(({ kind }) => kind !== 'launch' && kind !== 'identity');
  const understood = wanted.every((one) => one.kind !== 'unknown' && one.kind !== 'extension');
  const personal = data.every((one) => one.kind !== 'resource' || one.level !== 'system');
  return data.length > 0 && understood && personal && coversAll(parseScopes(caller.scope), data);
}

/**
 * Decides an exchange as an authorization server does: context copied, session bound, scope narrowed, life shortened, caller
 * recorded. @see protocol section 5; RFC 8693
 */
export function decideExchange(question: ExchangeQuestion): Exchanged {
  const { subject, caller, resource, seal, fhirServer, now, origin } = question;
  const verdict = checkChain(subject);
  if (!verdict.ok || subject.cnf !== undefined) return { error: 'invalid_grant' };
  const own = subject.client_id === caller.clientId;
  if (own ? origin !== 'grant' : caller.resource === undefined || subject.aud !== caller.resource)
    return { error: 'invalid_grant' };
  const { iss: issuer, sub, patient, tenant, encounter } = subject;
  const sid = subject.__hmcp?.sid;
  const holder = { issuer, subject: sub, firstClient: verdict.firstClient, fhirServer, tenant, patient, encounter, sid };
  if (seal !== undefined && sealMismatch(seal, holder) !== undefined) return { error: 'invalid_grant' };
  if (!question.known.has(resource) || resource === caller.resource) return { error: 'invalid_target' };
  if (own && caller.targets?.includes(resource) === false) return { error: 'invalid_target' };

  const wanted = parseScopes(question.scope).filter(({ kind }) => kind !== 'launch' && kind !== 'identity');
  const granted = coversAll(parseScopes(subject.scope ?? ''), wanted) && coversAll(parseScopes(caller.scope), wanted);
  if (wanted.length === 0 || !granted) return { error: 'invalid_scope' };

  const record = {
    jti: subject.jti,
    client_id: subject.client_id,
    aud: [subject.aud].flat().join(' '),
    scope: subject.scope ?? '',
  };
  const chain = own ? [] : [...(subject.__hmcp?.chain ?? []), { ...record, pth: question.pth }];
  if (chain.length > MAX_CHAIN) return { error: 'invalid_grant' };
  const session = seal?.sid ?? sid;
  const { fhirUser, txn = subject.jti } = subject;
  return {
    claims: {
      ...Object.fromEntries(Object.entries({ patient, tenant, encounter, fhirUser }).filter(([, value]) => value !== undefined)),
      sub,
      aud: resource,
      client_id: caller.clientId,
      scope: [...new Set(wanted.map(({ raw }) => raw))].join(' '),
      exp: Math.min(subject.exp, now + MAX_LIFE),
      txn,
      ...(own ? {} : { act: { sub: caller.clientId, ...(subject.act === undefined ? {} : { act: subject.act }) } }),
      __hmcp: { v: 1, ...(session === undefined ? {} : { sid: session }), chain },
    },
  };
}
