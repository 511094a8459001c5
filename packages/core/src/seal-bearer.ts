import type { VerifiedToken } from './access-token.js';
import type { Check, HmcpErrorCode } from './errors.js';
import type { SealClaims } from './seal.js';

/** Why a seal and a token do not belong together. */
export interface SealMismatch {
  readonly code: HmcpErrorCode;
  readonly check: Check;
  /** Fixed words, for the local audit. */
  readonly reason: string;
}

/**
 * Compares a verified seal with the verified token it came with: same person, same first client, same FHIR server, tenant and
 * patient, and the token's own session if it has one. A token that pins no patient is left to the access policy.
 * `undefined` when they agree.
 * @see protocol sections 2.3 and 3
 */
export function sealMismatch(
  seal: SealClaims,
  token: Pick<VerifiedToken, 'issuer' | 'subject' | 'firstClient' | 'fhirServer' | 'tenant' | 'patient' | 'encounter' | 'sid'>,
): SealMismatch | undefined {
  const differs = (reason: string): SealMismatch => ({ code: 40903, check: 'equality', reason });
  if (seal.sub_iss !== token.issuer || seal.sub !== token.subject) return differs('seal and token name different people');
  if (seal.azp !== token.firstClient) return differs('the seal is of another client');
  if (token.sid !== undefined && token.sid !== seal.sid) return differs('seal and token are of different sessions');
  if (seal.fhirServer !== token.fhirServer)
    return { code: 40302, check: 'equality', reason: 'the seal names no patient of this FHIR server' };
  if (seal.tenant !== token.tenant) return differs('seal and token name different tenants');
  if (token.patient !== undefined && token.patient !== seal.patient) return differs('seal and token name different patients');
  if (token.encounter !== undefined && seal.encounter !== undefined && token.encounter !== seal.encounter)
    return differs('seal and token name different encounters');
  return undefined;
}
