import { base64url } from 'jose';

/** Hashes at once instead of by way of a thread, where the runtime is Node. */
const NODE_CRYPTO = globalThis.process?.getBuiltinModule?.('node:crypto');

/** Least-recently-used map of at most `limit` entries, each with a time (ms) after which it is not given out. */
export class BoundedCache<V> {
  readonly #entries = new Map<string, { readonly value: V; readonly until: number }>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(key: string, now: number): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    if (now >= entry.until) return undefined;
    this.#entries.set(key, entry);
    return entry.value;
  }

  set(key: string, value: V, until: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, { value, until });
    if (this.#entries.size <= this.#limit) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }

  get size(): number {
    return this.#entries.size;
  }
}

/** base64url(SHA-256(text)): how a token becomes a cache key, so that no cache holds tokens as keys. */
export async function fingerprint(text: string): Promise<string> {
  return NODE_CRYPTO?.createHash('sha256').update(text).digest('base64url') ?? webFingerprint(text);
}

/** Where Web Crypto is all there is: the same, by way of a thread. */
export async function webFingerprint(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return base64url.encode(new Uint8Array(digest));
}
