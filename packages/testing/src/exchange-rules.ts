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

/**
 * Decides an exchange as an authorization server does: context copied, session bound, scope narrowed, life shortened, caller
 * recorded. @see protocol section 5; RFC 8693
 */
export function decideExchange(question: ExchangeQuestion): Exchanged {
  const { subject, caller, resource, seal, fhirServer, now, origin } = question;
  const verdict = checkChain(subject);
  if (!verdict.ok) return { error: 'invalid_grant' };
  const own = subject.client_id === caller.clientId;
  if (own ? origin !== 'grant' : caller.resource === undefined || subject.aud !== caller.resource)
    return { error: 'invalid_grant' };
  const { iss: issuer, sub, patient, tenant, encounter } = subject;
  const sid = subject.__hmcp?.sid;
  const holder = { issuer, subject: sub, firstClient: verdict.firstClient, fhirServer, tenant, patient, encounter, sid };
  if (seal !== undefined && sealMismatch(seal, holder) !== undefined) return { error: 'invalid_grant' };
  if (!question.known.has(resource) || resource === caller.resource) return { error: 'invalid_target' };

  const wanted = parseScopes(question.scope);
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
