import { createHmac } from 'node:crypto';

const PREFIXES: Readonly<Record<string, string>> = {
  Observation: 'obs',
  MedicationRequest: 'med',
  Condition: 'cond',
  Encounter: 'enc',
};

/**
 * Opaque reference to a resource: a kind and 16 characters of base64url(HMAC-SHA256(key, `Type/id`)), such as
 * `obs_4kXo0q1JmB2fYt9c`. Equal for equal resources under one key; nothing can be read from it.
 * @param key secret of the deployment, at least 16 bytes
 * @param reference `Type/id`
 * @throws {TypeError} when the key is shorter
 * @see protocol section 8
 */
export function handle(key: string | Uint8Array, reference: string): string {
  if (Buffer.byteLength(key) < 16) throw new TypeError('"key" of a handle needs at least 16 bytes');
  const prefix = PREFIXES[reference.slice(0, reference.indexOf('/'))] ?? 'ref';
  return `${prefix}_${createHmac('sha256', key).update(reference).digest('base64url').slice(0, 16)}`;
}
