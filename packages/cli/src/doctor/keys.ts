/** What is known of one key of a set before anything is verified with it. */
export interface JsonWebKey {
  readonly kty?: unknown;
  readonly kid?: unknown;
  readonly alg?: unknown;
  readonly use?: unknown;
  readonly crv?: unknown;
  readonly x?: unknown;
  readonly n?: unknown;
  readonly d?: unknown;
  readonly k?: unknown;
}

/** What a key set is good for. */
export interface KeySetVerdict {
  /** Keys with a `kid` that sign with one of the algorithms. */
  readonly usable: readonly JsonWebKey[];
  /** Fixed words. */
  readonly faults: readonly ('a private key is published' | 'two keys share a kid' | 'a key has no kid')[];
}

const CURVES: Readonly<Record<string, string>> = { 'P-256': 'ES256', 'P-384': 'ES384', Ed25519: 'EdDSA' };

/** Judges a JWK set by the algorithms its reader allows; `undefined` when it is no set. */
export function judgeKeys(jwks: unknown, algorithms: readonly string[]): KeySetVerdict | undefined {
  const { keys } = (typeof jwks === 'object' && jwks !== null ? jwks : {}) as { keys?: unknown };
  if (!Array.isArray(keys)) return undefined;
  const all = keys.filter((key): key is JsonWebKey => typeof key === 'object' && key !== null);
  const signing = all.filter(({ use }) => use === undefined || use === 'sig');
  const usable = signing.filter(
    (key) => typeof key.kid === 'string' && algorithmsOf(key).some((alg) => algorithms.includes(alg)),
  );
  const kids = usable.map(({ kid }) => kid);
  const faults: KeySetVerdict['faults'][number][] = [];
  if (all.some(({ d, k }) => d !== undefined || k !== undefined)) faults.push('a private key is published');
  if (new Set(kids).size < kids.length) faults.push('two keys share a kid');
  if (signing.some(({ kid }) => typeof kid !== 'string')) faults.push('a key has no kid');
  return { usable, faults };
}

/** Whether two keys are one. */
export function sameKey(a: JsonWebKey, b: JsonWebKey): boolean {
  const part = ({ kty, crv, x, n }: JsonWebKey) => JSON.stringify([kty, crv, x, n]);
  return part(a) === part(b);
}

/** What a key may sign with: its own `alg`, else whatever its type can. */
function algorithmsOf({ alg, kty, crv }: JsonWebKey): readonly string[] {
  const able = kty === 'RSA' ? ['RS256', 'PS256', 'RS384'] : [CURVES[String(crv)] ?? 'none'];
  return alg === undefined ? able : able.filter((one) => one === alg);
}
