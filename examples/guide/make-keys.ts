// Makes the keys of one program, once: `node make-keys.js FOLDER`. Nothing that is there is written over.
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose';

const [folder = 'keys'] = process.argv.slice(2);
await mkdir(folder, { recursive: true, mode: 0o700 });
if ((await readdir(folder)).length > 0) {
  console.error(`${folder} is not empty, so no keys were made: name a new folder`);
  process.exit(1);
}
const keep = (file: string, text: string) => writeFile(join(folder, file), text, { mode: 0o600, flag: 'wx' });

async function keepPair(name: string, alg: string): Promise<void> {
  const pair = await generateKeyPair(alg, { extractable: true });
  const publicKey = await exportJWK(pair.publicKey);
  const said = { kid: await calculateJwkThumbprint(publicKey), alg, use: 'sig' };
  await keep(`${name}.jwks.json`, JSON.stringify({ keys: [{ ...(await exportJWK(pair.privateKey)), ...said }] }));
  await keep(`${name}.public.jwks.json`, JSON.stringify({ keys: [{ ...publicKey, ...said }] }));
}

await keepPair('client', 'ES384'); // every program: `client.privateKey`; the public half goes into its registration
await keepPair('seals', 'ES256'); // the context manager: `sealKey`; the public half is `keys` in everybody's `managers`
await keep('tenant.txt', randomBytes(32).toString('base64url')); // the context manager: `tenantKey`
await keep('pseudonym.txt', randomBytes(32).toString('base64url')); // `pseudonymKey`
