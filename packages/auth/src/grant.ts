import { coversAll, FhirId, parseScopes } from '@hmcp/core';
import * as z from 'zod';
import { type AuthorityAnswer, AuthorityUnavailable } from './authority.js';
import { type SignedIn, verifyIdToken } from './id-token.js';
import type { KeySet } from './jwks.js';

/**
 * Every way a launch or a grant can end without a token.
 * - `discovery_failed`: the server's documents are missing, contradict each other or lack S256
 * - `state_mismatch`, `issuer_mismatch`: the callback is not the answer to this request, or not of this server
 * - `access_denied`: the person or the server said no; `authorization_failed`: any other answer without a code
 * - `token_refused`: the token endpoint said no; `invalid_answer`: it said something this client must not use
 * - `context_missing`: a `patient/` scope was granted without a patient; `patient_changed`: a refresh named another one
 * - `invalid_id_token`: missing though `openid` was granted, or not valid
 * - `no_refresh_token`: nothing to refresh with, or revoked
 */
export type SmartErrorCode =
  | 'discovery_failed'
  | 'state_mismatch'
  | 'issuer_mismatch'
  | 'access_denied'
  | 'authorization_failed'
  | 'token_refused'
  | 'invalid_answer'
  | 'context_missing'
  | 'patient_changed'
  | 'invalid_id_token'
  | 'no_refresh_token';

/** A launch or grant that did not work. Repeats nothing a server said but an OAuth error code in `oauth`. */
export class SmartError extends Error {
  readonly code: SmartErrorCode;
  /** OAuth error code, with `token_refused` of the token endpoint, with `authorization_failed` of the callback. */
  readonly oauth: string | undefined;

  constructor(code: SmartErrorCode, oauth?: string) {
    super(`SMART launch: ${code}${oauth === undefined ? '' : ` (${oauth})`}`);
    this.name = 'SmartError';
    this.code = code;
    this.oauth = oauth;
  }
}

/** What a launch yields: one token, one patient. Bind everything kept of it to `(fhirServer, tenant, patient)`. */
export interface Grant {
  readonly accessToken: string;
  /** Seconds since the epoch. */
  readonly expiresAt: number;
  /** As granted. */
  readonly scope: string;
  /** Requested members the grant does not cover. */
  readonly missing: readonly string[];
  readonly patient?: string | undefined;
  readonly encounter?: string | undefined;
  readonly tenant?: string | undefined;
  /** Absolute URL, from the verified ID token. */
  readonly fhirUser?: string | undefined;
  /** `sub` of the verified ID token. */
  readonly subject?: string | undefined;
  readonly refreshToken?: string | undefined;
  readonly fhirServer: string;
  /** Of the authorization server; where that names none, as SMART has it without OpenID Connect, the FHIR base stands for it. */
  readonly issuer: string;
  readonly clientId: string;
  /** Revokes the refresh token (or, without one, the access token) where the server offers it, and ends refreshing. @throws {AuthorityUnavailable} */
  revoke(): Promise<void>;
  /** A new token of the same grant and patient; concurrent calls share one. A refresh that names another patient revokes and stops. @throws {SmartError} @throws {AuthorityUnavailable} */
  refresh(): Promise<Grant>;
}

/** What a grant needs of its client. */
export interface GrantSource {
  readonly fhirServer: string;
  readonly clientId: string;
  /** As the server names itself. */
  readonly issuer: string | undefined;
  readonly requested: string;
  readonly nonce: string | undefined;
  /** Life of a token whose answer does not say. */
  readonly assumedSeconds: number;
  readonly keys: KeySet;
  readonly now: () => number;
  askToken(form: Readonly<Record<string, string>>): Promise<AuthorityAnswer>;
  sendRevocation(form: Readonly<Record<string, string>>): Promise<void>;
}

const text = z.string().min(1);
const TokenAnswer = z.object({
  access_token: text,
  token_type: z.string().regex(/^bearer$/i),
  expires_in: z.number().positive().optional(),
  scope: z.string().optional(),
  refresh_token: text.optional(),
  id_token: text.optional(),
  /** `''` stands for a patient that is none: never a FHIR id, never equal to one. */
  patient: FhirId.optional().catch(''),
  encounter: FhirId.optional(),
  tenant: text.max(128).optional(),
});
type TokenAnswer = z.infer<typeof TokenAnswer>;
const OAuthError = z.string().regex(/^[a-z_]{1,40}$/);
const Refusal = z.object({ error: OAuthError });

/** An error code as OAuth has them; `undefined` for any other text, which is not repeated. */
export function oauthError(given: string): string | undefined {
  return OAuthError.safeParse(given).data;
}

/** The one line of tokens that begins with one authorization code. */
export function createGrants(source: GrantSource): {
  redeem(code: { readonly code: string; readonly redirect_uri: string; readonly code_verifier: string }): Promise<Grant>;
} {
  let refreshToken: string | undefined;

  const revoke = async (accessToken: string): Promise<void> => {
    const token = refreshToken;
    if (token === undefined) return source.sendRevocation({ token: accessToken, token_type_hint: 'access_token' });
    await source.sendRevocation({ token, token_type_hint: 'refresh_token' });
    if (refreshToken === token) refreshToken = undefined;
  };

  /** Nothing of a grant that broke a rule stays usable; that revoking may fail changes nothing for the caller. */
  const abandon = async (answer: TokenAnswer, code: SmartErrorCode): Promise<never> => {
    refreshToken = answer.refresh_token ?? refreshToken;
    await revoke(answer.access_token).catch(() => undefined);
    refreshToken = undefined;
    throw new SmartError(code);
  };

  const ask = async (form: Readonly<Record<string, string>>): Promise<{ answer: TokenAnswer; askedAt: number }> => {
    const askedAt = Math.floor(source.now() / 1000);
    const { status, body } = await source.askToken(form);
    if (status !== 200) {
      const refusal = Refusal.safeParse(body);
      throw new SmartError('token_refused', refusal.success ? refusal.data.error : undefined);
    }
    const parsed = TokenAnswer.safeParse(body);
    if (!parsed.success) throw new SmartError('invalid_answer');
    return { answer: parsed.data, askedAt };
  };

  const signedIn = async (answer: TokenAnswer, nonce: string | undefined): Promise<SignedIn | undefined> => {
    if (answer.id_token === undefined) return undefined;
    const { issuer } = source;
    if (issuer === undefined) return abandon(answer, 'invalid_id_token');
    try {
      return await verifyIdToken(answer.id_token, { ...source, issuer, nonce });
    } catch (error) {
      if (error instanceof AuthorityUnavailable) throw error;
      return abandon(answer, 'invalid_id_token');
    }
  };

  const grantOf = (answer: TokenAnswer, scope: string, askedAt: number, person: SignedIn | undefined): Grant => {
    let next: Promise<Grant> | undefined;
    refreshToken = answer.refresh_token ?? refreshToken;
    const grant: Grant = {
      accessToken: answer.access_token,
      expiresAt: askedAt + Math.floor(answer.expires_in ?? source.assumedSeconds),
      scope,
      missing: missingScopes(source.requested, scope),
      patient: answer.patient,
      encounter: answer.encounter,
      tenant: answer.tenant,
      fhirUser: person?.fhirUser,
      subject: person?.subject,
      refreshToken,
      fhirServer: source.fhirServer,
      issuer: source.issuer ?? source.fhirServer,
      clientId: source.clientId,
      revoke: () => revoke(answer.access_token),
      refresh: () => {
        next ??= refresh(grant).catch((error: unknown) => {
          next = undefined;
          throw error;
        });
        return next;
      },
    };
    return Object.freeze(grant);
  };

  const refresh = async (before: Grant): Promise<Grant> => {
    if (refreshToken === undefined) throw new SmartError('no_refresh_token');
    const { answer, askedAt } = await ask({ grant_type: 'refresh_token', refresh_token: refreshToken });
    for (const name of ['patient', 'encounter', 'tenant'] as const) {
      if (answer[name] !== undefined && answer[name] !== before[name]) return abandon(answer, 'patient_changed');
    }
    const scope = answer.scope ?? before.scope;
    if (missingScopes(scope, before.scope).length > 0) return abandon(answer, 'invalid_answer');
    const person = await signedIn(answer, undefined);
    if (person !== undefined && before.subject !== undefined && person.subject !== before.subject) {
      return abandon(answer, 'invalid_id_token');
    }
    const { patient, encounter, tenant, subject, fhirUser } = before;
    const same = subject === undefined ? person : { subject, fhirUser };
    return grantOf({ ...answer, patient, encounter, tenant }, scope, askedAt, same);
  };

  return {
    redeem: async (code) => {
      const { answer, askedAt } = await ask({ grant_type: 'authorization_code', ...code });
      const scope = answer.scope ?? source.requested;
      const members = scope.split(' ');
      const pinned = members.some((member) => member.startsWith('patient/'));
      if (answer.patient === '' || (pinned && answer.patient === undefined)) return abandon(answer, 'context_missing');
      if (answer.id_token === undefined && members.includes('openid')) return abandon(answer, 'invalid_id_token');
      return grantOf(answer, scope, askedAt, await signedIn(answer, source.nonce));
    },
  };
}

/** Members of `requested` that `granted` neither covers nor repeats. Launch members ask for context, not for access: never missing. */
function missingScopes(requested: string, granted: string): string[] {
  const given = parseScopes(granted);
  const verbatim = new Set(given.map(({ raw }) => raw));
  return parseScopes(requested)
    .filter((scope) => scope.kind !== 'launch' && !verbatim.has(scope.raw) && !coversAll(given, [scope]))
    .map(({ raw }) => raw);
}
