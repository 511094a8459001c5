import * as z from 'zod';

/** Hashes at once instead of by way of a thread, where the runtime is Node; nothing is imported, so that core loads anywhere. */
const NODE_CRYPTO = globalThis.process?.getBuiltinModule?.('node:crypto');

/**
 * A bare FHIR id: 1 to 64 of `A-Z a-z 0-9 - .`, case-sensitive. Never a reference, URL or identifier value.
 * @see protocol section 1
 */
export const FhirId = z.string().regex(/^[A-Za-z0-9\-.]{1,64}$/);

/**
 * Whose record a request is about. Two contexts name the same person only when server, tenant and id are all equal.
 * `fhirServer` is the base URL that the token's issuer is configured for; it never comes from a caller.
 * @see protocol section 1
 */
export const PatientContext = z.strictObject({
  fhirServer: z.url(),
  tenant: z.string().min(1).max(128).optional(),
  patient: FhirId,
  encounter: FhirId.optional(),
});
export type PatientContext = z.infer<typeof PatientContext>;

/** The three parts that identify a person: equal ids on two servers or in two tenants are two people. */
export type PatientIdentity = Pick<PatientContext, 'fhirServer' | 'tenant' | 'patient'>;

/**
 * True when both name the same person: exact string equality of server, tenant and id.
 * @see protocol section 1
 */
export function samePatient(a: PatientIdentity, b: PatientIdentity): boolean {
  return a.fhirServer === b.fhirServer && (a.tenant ?? null) === (b.tenant ?? null) && a.patient === b.patient;
}

/**
 * Patient key: base64url(HMAC-SHA256(key, JSON `[fhirServer, tenant | null, id]`)), 43 characters.
 * With `intent.id` as key it is the `pk` of a plain result binding; with a tenant or hop key, the `pk` of audit rows.
 * @param key UTF-8 text or raw bytes of the HMAC key; must not be empty.
 * @see protocol sections 2.4 and 8
 */
export async function patientKey(key: string | Uint8Array, who: PatientIdentity): Promise<string> {
  return keyedHash(key, JSON.stringify([who.fhirServer, who.tenant ?? null, who.patient]));
}

/**
 * base64url(HMAC-SHA256(key, text)): how any identifier that must not be readable enters an audit record.
 * @throws {TypeError} for an empty key: anybody could compute it
 * @see protocol section 8
 */
export async function keyedHash(key: string | Uint8Array, text: string): Promise<string> {
  if (key.length === 0) throw new TypeError('the key of a keyed hash is empty');
  return NODE_CRYPTO?.createHmac('sha256', key).update(text).digest('base64url') ?? webKeyedHash(key, text);
}

/** Characters that a key of pseudonyms has at least: who guesses a shorter one can read every log that was written with it. */
const FEWEST_CHARACTERS = 16;

/**
 * Checks a configured key of keyed hashes once, before anything is hashed with it: a text of 16 characters or more, not counting
 * space around it. 32 random ones are advised.
 * @param option its name, as the person who configured it wrote it; the error says it, never the value
 * @throws {TypeError} naming the option: missing, no text, or too short
 * @see protocol section 8
 */
export function checkHashKey(key: unknown, option: string): void {
  if (key === undefined) throw new TypeError(`"${option}" is missing`);
  if (typeof key === 'string' && key.trim().length >= FEWEST_CHARACTERS) return;
  throw new TypeError(`"${option}" must be a text of ${FEWEST_CHARACTERS} characters or more (32 random ones are advised)`);
}

/** Where Web Crypto is all there is: the same, by way of a thread. */
export async function webKeyedHash(key: string | Uint8Array, text: string): Promise<string> {
  const encoder = new TextEncoder();
  const bytes = typeof key === 'string' ? encoder.encode(key) : key;
  const imported = await crypto.subtle.importKey('raw', bytes.slice(), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  const mac = new Uint8Array(await crypto.subtle.sign('HMAC', imported, encoder.encode(text)));
  return btoa(String.fromCharCode(...mac))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '');
}
