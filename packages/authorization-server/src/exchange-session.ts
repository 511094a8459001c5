import { type AccessTokenClaims, type SealClaims, sealMismatch } from '@hmcp/core';
import { type OAuthRefusal, refuse } from './launch.js';

/** Clock difference tolerated at the ends of a seal, in seconds. @see protocol section 2.3 */
const LEEWAY = 2;

/** What decides the session of a new token. */
export interface SessionQuestion {
  /** Claims of the subject token. */
  readonly subject: AccessTokenClaims;
  /** First client of its chain. */
  readonly firstClient: string;
  /** Claims of a seal whose signature and manager already hold. */
  readonly seal?: SealClaims | undefined;
  /** The FHIR server whose patients this authorization server names. */
  readonly fhirServer: string;
  /** Seconds since the epoch. */
  readonly now: number;
}

/** The session of the new token; none outside sessions. */
export interface BoundSession {
  readonly ok: true;
  readonly sid?: string | undefined;
}

/**
 * Decides the `sid` of a new token. A seal gives its own, when it is alive and of the same person, first client, FHIR server,
 * tenant and patient as the subject token, and of the same session if that has one.
 *
 * Without a seal the subject token's `sid` stays. It cannot be dropped, so nobody gets out of a session by leaving the seal out;
 * and it needs no seal to stay, because a `sid` allows nothing: whoever uses the new token in a context request must show a living
 * seal of that session there (42801). It is at that hop that an epoch can be judged, for tokens carry none.
 * @see protocol sections 2.6 and 5
 */
export function bindSession({ subject, firstClient, seal, fhirServer, now }: SessionQuestion): BoundSession | OAuthRefusal {
  const sid = subject.__hmcp?.sid;
  if (seal === undefined) return { ok: true, sid };
  if (now >= seal.exp + LEEWAY) return refuse('invalid_grant', 'the seal has expired');
  if (now < seal.iat - LEEWAY) return refuse('invalid_grant', 'the seal is of a later time');
  const { iss: issuer, sub, tenant, patient, encounter } = subject;
  const mismatch = sealMismatch(seal, { issuer, subject: sub, firstClient, fhirServer, tenant, patient, encounter, sid });
  return mismatch === undefined ? { ok: true, sid: seal.sid } : refuse('invalid_grant', mismatch.reason);
}
