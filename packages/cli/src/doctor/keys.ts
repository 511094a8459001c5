import { calculateJwkThumbprint, importJWK, type JWK } from 'jose';

/** What is known of one key of a set before anything is verified with it. */
export type JsonWebKey = Readonly<Record<string, unknown>>;

/** What is wrong with a key of a set, in fixed words. */
export type KeyFault =
  | 'a private key is published'
  | 'a key cannot be imported: nothing verifies with it'
  | 'two keys share a kid: what either signs is refused'
  | 'a key has no kid';

/** What a key set is good for. */
export interface KeySetVerdict {
  /** Keys with a `kid` that verify what is signed with one of the algorithms: each was imported. */
  readonly usable: readonly JsonWebKey[];
  readonly faults: readonly KeyFault[];
}

const CURVES: Readonly<Record<string, string>> = { 'P-256': 'ES256', 'P-384': 'ES384', Ed25519: 'EdDSA' };
/** Members that only a private or symmetric key has. @see RFC 7518 section 6 */
const PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'] as const;
const LEAST_RSA_BITS = 2048;

/** Judges a JWK set by the algorithms its reader allows; `undefined` when it is no set. */
export async function judgeKeys(jwks: unknown, algorithms: readonly string[]): Promise<KeySetVerdict | undefined> {
  const { keys } = (typeof jwks === 'object' && jwks !== null ? jwks : {}) as { keys?: unknown };
  if (!Array.isArray(keys)) return undefined;
  const all = keys.filter((key): key is JsonWebKey => typeof key === 'object' && key !== null);
  const verifying = all.filter(
    ({ use, key_ops: ops }) => (use === undefined || use === 'sig') && (!Array.isArray(ops) || ops.includes('verify')),
  );
  const named = verifying.flatMap((key) => {
    const fitting = algorithmsOf(key).filter((alg) => algorithms.includes(alg));
    return typeof key.kid === 'string' && fitting.length > 0 ? [{ key, fitting }] : [];
  });
  const imported = await Promise.all(named.map(({ key, fitting }) => verifiesWith(key, fitting)));
  const usable = named.filter((_, at) => imported[at]).map(({ key }) => key);
  const chosenBy = named.map(({ key, fitting }) => JSON.stringify([key.kid, fitting]));
  const faults: KeyFault[] = [];
  if (all.some(holdsPrivate)) faults.push('a private key is published');
  if (named.some(({ key }, at) => !imported[at] && !holdsPrivate(key)))
    faults.push('a key cannot be imported: nothing verifies with it');
  if (new Set(chosenBy).size < chosenBy.length) faults.push('two keys share a kid: what either signs is refused');
  if (verifying.some(({ kid }) => typeof kid !== 'string')) faults.push('a key has no kid');
  return { usable, faults };
}

/** Names of the keys of a set that do not depend on how they are written down; `undefined` when it is no set. @see RFC 7638 */
export async function thumbprintsOf(keys: readonly JsonWebKey[]): Promise<ReadonlySet<string>> {
  return new Set(await Promise.all(keys.map((key) => calculateJwkThumbprint(key as JWK))));
}

/** A set without the private members of its keys. */
export function publicPart(keys: readonly JsonWebKey[]): readonly JsonWebKey[] {
  return keys.map((key) => Object.fromEntries(Object.entries(key).filter(([name]) => !isPrivate(name))));
}

function holdsPrivate(key: JsonWebKey): boolean {
  return PRIVATE.some((member) => key[member] !== undefined);
}

function isPrivate(name: string): boolean {
  return (PRIVATE as readonly string[]).includes(name);
}

/** Imports it as its reader would. */
async function verifiesWith(key: JsonWebKey, algorithms: readonly string[]): Promise<boolean> {
  for (const alg of algorithms) {
    try {
      const imported = await importJWK(key as JWK, alg);
      if (imported instanceof Uint8Array || imported.type !== 'public') continue;
      const { modulusLength } = imported.algorithm as { readonly modulusLength?: number };
      if (modulusLength === undefined || modulusLength >= LEAST_RSA_BITS) return true;
    } catch {
      // not with this one
    }
  }
  return false;
}

/** What a key may sign with: its own `alg`, else whatever its type can. */
function algorithmsOf({ alg, kty, crv }: JsonWebKey): readonly string[] {
  const able = kty === 'RSA' ? ['RS256', 'PS256', 'RS384'] : [CURVES[String(crv)] ?? 'none'];
  return alg === undefined ? able : able.filter((one) => one === alg);
}
