import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import type { ClientRegistration } from '@hmcp/authorization-server';
import { exportJWK, generateKeyPair, type JWK } from 'jose';

/** A public key as a registration holds it. */
export type PublicKey = NonNullable<ClientRegistration['jwks']>['keys'][number];

/** Writes a file for its owner alone (mode 0600), also where one with another mode stands. */
export async function writePrivate(file: string, text: string): Promise<void> {
  await rm(file, { force: true }); // whoever has the old one open sees nothing of the new
  await writeFile(file, text, { mode: 0o600, flag: 'wx' });
}

/** The secret in a file, made when there is none: 32 random bytes, base64url, mode 0600. */
export async function keptSecret(file: string): Promise<string> {
  const kept = await readFile(file, 'utf8').catch(() => undefined);
  if (kept !== undefined) return kept.trim();
  const secret = randomBytes(32).toString('base64url');
  await writeFile(file, `${secret}\n`, { mode: 0o600 });
  return secret;
}

/** The private key in a file, a JWK set, made when there is none: mode 0600, `kid` after its purpose. */
export async function keptKey(
  file: string,
  keyId: string,
  alg: 'ES384' | 'ES256' = 'ES384',
): Promise<{ privateKey: JWK; publicKey: PublicKey }> {
  const kept = await readFile(file, 'utf8').catch(() => undefined);
  let privateKey = kept === undefined ? undefined : (JSON.parse(kept) as { keys: JWK[] }).keys[0];
  if (privateKey === undefined) {
    const pair = await generateKeyPair(alg, { extractable: true });
    privateKey = { ...(await exportJWK(pair.privateKey)), kid: `${keyId}-1`, alg, use: 'sig' };
    await writeFile(file, JSON.stringify({ keys: [privateKey] }), { mode: 0o600 });
  }
  const { d: _, ...publicKey } = privateKey;
  return { privateKey, publicKey: publicKey as PublicKey };
}
