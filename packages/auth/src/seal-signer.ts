import { SEAL_TYPE, SealClaims } from '@hmcp/core';
import { base64url, importJWK, type JSONWebKeySet, type JWK, SignJWT } from 'jose';
import { type Random, secureRandom } from './client-assertion.js';

/** Life of a seal in seconds. @see protocol section 2.3 */
export const SEAL_SECONDS = 30;

/** What a seal states; the signer adds issuer, trust domain, times and `jti`. */
export type SealFacts = Omit<SealClaims, 'iss' | 'aud' | 'iat' | 'exp' | 'jti'>;

/** Signs seals with a key that does nothing else. */
export interface SealSigner {
  /** The public key, for the `keys` or `jwksUri` of those who trust this manager. */
  readonly jwks: JSONWebKeySet;
  sign(facts: SealFacts): Promise<string>;
}

/**
 * A signer of seals, `ES256`, valid for 30 s.
 * @param options.key private EC P-256 JWK with `kid`; used for seals and nothing else
 * @throws {TypeError} when the key is not usable
 * @see protocol section 2.3
 */
export async function createSealSigner(options: {
  readonly issuer: string;
  readonly trustDomain: string;
  readonly key: JWK;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
  readonly random?: Random | undefined;
}): Promise<SealSigner> {
  const { issuer, trustDomain, key, now = Date.now, random = secureRandom } = options;
  const { kty, crv, x, y, kid } = key;
  if (kty !== 'EC' || crv !== 'P-256' || typeof key.d !== 'string' || x === undefined || y === undefined)
    throw new TypeError('"key" must be a private EC P-256 key');
  if (typeof kid !== 'string' || kid === '') throw new TypeError('"key.kid" is missing');
  const secret = await importJWK(key, 'ES256');
  return {
    jwks: { keys: [{ kty, crv, x, y, kid, alg: 'ES256', use: 'sig' }] },
    sign: async (facts) => {
      const iat = Math.floor(now() / 1000);
      const jti = base64url.encode(random(12));
      const claims = SealClaims.parse({ iss: issuer, aud: trustDomain, ...facts, iat, exp: iat + SEAL_SECONDS, jti });
      return new SignJWT({ ...claims }).setProtectedHeader({ alg: 'ES256', kid, typ: SEAL_TYPE }).sign(secret);
    },
  };
}
