import { base64url, importJWK, type JWK, SignJWT } from 'jose';

/** A client's own key, with which it authenticates to its authorization server (`private_key_jwt`). */
export interface ClientKey {
  readonly clientId: string;
  /** Private JWK with `kid`; EC P-384 (ES384), EC P-256 (ES256) or RSA (RS384). */
  readonly privateKey: JWK;
}

/** Cryptographically random bytes. */
export type Random = (length: number) => Uint8Array;

/** The runtime's random source. */
export const secureRandom: Random = (length) => crypto.getRandomValues(new Uint8Array(length));

/** SMART allows five minutes; a minute is plenty between two machines. */
const ASSERTION_SECONDS = 60;
const ALGORITHMS: readonly string[] = ['ES384', 'ES256', 'RS384', 'RS256', 'PS256', 'EdDSA'];

/**
 * Checks a client once, at construction. Configurations are read from files, so that any part of it may be missing.
 * @throws {TypeError} naming the part of option `client`, never its value
 */
export function checkClient(client: Partial<ClientKey> | null | undefined): void {
  if (typeof client !== 'object' || client === null) throw new TypeError('"client" is missing');
  const { clientId, privateKey } = client;
  if (typeof clientId !== 'string' || clientId === '') throw new TypeError('"client.clientId" is missing');
  if (typeof privateKey !== 'object' || privateKey === null) throw new TypeError('"client.privateKey" is missing');
  checkClientKey(privateKey, 'client.privateKey');
}

/**
 * Checks a client key once, at construction.
 * @throws {TypeError} naming the option: no private key, no `kid`, or an algorithm that is no signature with a private key
 */
export function checkClientKey(key: JWK, option: string): { alg: string; kid: string } {
  const alg = key.alg ?? (key.kty === 'RSA' ? 'RS384' : { 'P-256': 'ES256', 'P-384': 'ES384' }[key.crv ?? '']);
  if (alg === undefined || !ALGORITHMS.includes(alg))
    throw new TypeError(`"${option}.alg" must be one of ${ALGORITHMS.join(', ')}`);
  if (typeof key.d !== 'string') throw new TypeError(`"${option}" must be a private key`);
  if (typeof key.kid !== 'string' || key.kid === '') throw new TypeError(`"${option}.kid" is missing`);
  return { alg, kid: key.kid };
}

/**
 * Form members that authenticate a client at a token endpoint: a fresh JWT, `typ` JWT, `aud` = the endpoint, valid for 60 s.
 * @see RFC 7523 section 3, SMART App Launch "Asymmetric authentication"
 */
export async function clientAssertion(
  client: ClientKey,
  tokenEndpoint: string,
  options: { readonly now: () => number; readonly random: Random },
): Promise<Readonly<Record<string, string>>> {
  const { alg, kid } = checkClientKey(client.privateKey, 'privateKey');
  const at = Math.floor(options.now() / 1000);
  const assertion = await new SignJWT({ jti: base64url.encode(options.random(16)) })
    .setProtectedHeader({ alg, kid, typ: 'JWT' })
    .setIssuer(client.clientId)
    .setSubject(client.clientId)
    .setAudience(tokenEndpoint)
    .setIssuedAt(at)
    .setExpirationTime(at + ASSERTION_SECONDS)
    .sign(await importJWK(client.privateKey, alg));
  return {
    client_id: client.clientId,
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: assertion,
  };
}
