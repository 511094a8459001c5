import { jwtVerify } from 'jose';
import * as z from 'zod';
import type { KeySet } from './jwks.js';

const IdTokenClaims = z.looseObject({
  sub: z.string().min(1).max(255),
  aud: z.union([z.string(), z.array(z.string()).length(1)]),
  nonce: z.string().optional(),
  fhirUser: z.string().min(1).optional(),
});

/** Who signed in, as the authorization server states it. */
export interface SignedIn {
  readonly subject: string;
  /** Absolute URL. */
  readonly fhirUser: string | undefined;
}

/**
 * Verifies an ID token: signature by the issuer's keys (RS256 or ES256), issuer, this client as the only audience, `exp`, `iat`,
 * `nonce` when one was sent; an access token (`typ: at+jwt`) is none. A relative `fhirUser` is resolved against the FHIR base.
 * @throws anything but {@link AuthorityUnavailable} means "not valid"
 * @see OpenID Connect Core section 3.1.3.7, SMART App Launch "Scopes for requesting identity data"
 */
export async function verifyIdToken(
  idToken: string,
  expected: {
    readonly issuer: string;
    readonly clientId: string;
    readonly nonce: string | undefined;
    readonly fhirServer: string;
    readonly keys: KeySet;
    readonly now: () => number;
  },
): Promise<SignedIn> {
  const { payload, protectedHeader } = await jwtVerify(idToken, (header) => expected.keys.find(header), {
    algorithms: ['RS256', 'ES256'],
    issuer: expected.issuer,
    audience: expected.clientId,
    requiredClaims: ['exp', 'iat', 'sub'],
    clockTolerance: 30,
    currentDate: new Date(expected.now()),
  });
  if (protectedHeader.typ !== undefined && protectedHeader.typ.toUpperCase() !== 'JWT') throw new TypeError('not an ID token');
  const claims = IdTokenClaims.parse(payload);
  if (expected.nonce !== undefined && claims.nonce !== expected.nonce) throw new TypeError('nonce');
  return { subject: claims.sub, fhirUser: claims.fhirUser && absoluteReference(claims.fhirUser, expected.fhirServer) };
}

function absoluteReference(reference: string, fhirServer: string): string {
  if (URL.canParse(reference)) return reference;
  return new URL(`${fhirServer.replace(/\/+$/, '')}/${reference.replace(/^\/+/, '')}`).href;
}
