import { unusable } from '@hmcp/core';

/** Where there is Node, a key is imported to see whether it is one; elsewhere its form alone is looked at. */
const NODE_CRYPTO = globalThis.process?.getBuiltinModule?.('node:crypto');

/** The two kinds of keys that seals are signed with, and the `alg` of each. */
const KINDS: readonly {
  readonly alg: string;
  readonly kty: string;
  readonly crv: string;
  readonly members: readonly string[];
}[] = [
  { alg: 'ES256', kty: 'EC', crv: 'P-256', members: ['x', 'y'] },
  { alg: 'EdDSA', kty: 'OKP', crv: 'Ed25519', members: ['x'] },
];
/** Members that only a private or a shared key has (RFC 7518 section 6). */
const SECRET_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];
/** base64url of 32 bytes, the length of every number of both curves. */
const NUMBER = /^[A-Za-z0-9_-]{43}$/;

/** Algorithms of seals. @see protocol section 2.3 */
export const SEAL_ALGORITHMS: readonly string[] = KINDS.map(({ alg }) => alg);

/**
 * Checks the public keys of a manager before anything is verified with them: a JWK set of which every key can verify seals.
 * @param at names the member
 * @throws {TypeError} naming the member or the one key in it, never a value
 * @see protocol section 2.3, RFC 7517
 */
export function checkSealKeys(jwks: unknown, at: string): void {
  const keys: unknown = isObject(jwks) ? jwks.keys : undefined;
  if (!Array.isArray(keys)) throw unusable(`"${at}" must be a JWK set, { "keys": [ … ] }`, 40903, 'seal');
  if (keys.length === 0) throw unusable(`"${at}" holds no key`, 40903, 'seal');
  for (const [index, key] of keys.entries()) {
    const one = `${at}.keys[${index}]`;
    if (isObject(key) && SECRET_MEMBERS.some((member) => key[member] !== undefined))
      throw new TypeError(`"${one}" is a private key: give its public half alone, and replace a key that was handed out`);
    const fault = faultOf(key);
    if (fault !== undefined) throw unusable(`"${one}" ${fault}`, 40903, 'seal');
  }
}

/** Why no seal could be verified with a key, in fixed words. */
function faultOf(key: unknown): string | undefined {
  if (!isObject(key)) return 'is no JWK';
  const { kty, crv, kid, alg, use, key_ops: operations } = key;
  const kind = KINDS.find((one) => one.kty === kty && one.crv === crv);
  if (kind === undefined || (alg !== undefined && alg !== kind.alg))
    return `is of an algorithm that seals do not use: ${SEAL_ALGORITHMS.join(' or ')}`;
  if (typeof kid !== 'string' || kid === '') return 'has no "kid", by which a seal names its key';
  if (use !== undefined && use !== 'sig') return 'is not for signatures, by its "use"';
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify')))
    return 'is not for verifying, by its "key_ops"';
  const members = kind.members.map((member) => [member, key[member]] as const);
  const cut = members.find(([, value]) => typeof value !== 'string' || !NUMBER.test(value));
  if (cut !== undefined) return `has no usable "${cut[0]}"`;
  return isImportable({ kty, crv, ...Object.fromEntries(members) })
    ? undefined
    : 'cannot be imported: it is no point of its curve';
}

function isImportable(key: Record<string, unknown>): boolean {
  if (NODE_CRYPTO === undefined) return true;
  try {
    NODE_CRYPTO.createPublicKey({ key, format: 'jwk' });
    return true;
  } catch {
    return false;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
