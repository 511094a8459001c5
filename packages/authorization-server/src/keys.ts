import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import * as z from 'zod';

/** Signing algorithm of access tokens. */
export const ACCESS_TOKEN_ALG = 'ES256';
/** Signing algorithm of ID tokens: SMART demands RSA with SHA-256. */
export const ID_TOKEN_ALG = 'RS256';

const PrivateKeys = z.object({
  keys: z.array(
    z.looseObject({ kty: z.string(), kid: z.string().min(1), alg: z.string(), use: z.literal('sig'), d: z.string() }),
  ),
});

/** The private keys of the server. */
export interface SigningKeys {
  readonly keys: JWK[];
}

/**
 * Reads the private JWK set, or makes it (mode 0600, written whole or not at all).
 * @throws {TypeError} when the file holds anything but signing keys for {@link ACCESS_TOKEN_ALG} and {@link ID_TOKEN_ALG}
 */
export async function loadKeys(file: string): Promise<SigningKeys> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return createKeys(file);
  const parsed = PrivateKeys.safeParse(parseJson(text));
  const algorithms = new Set(parsed.data?.keys.map((key) => key.alg));
  if (!parsed.success || !algorithms.has(ACCESS_TOKEN_ALG) || !algorithms.has(ID_TOKEN_ALG))
    throw new TypeError(
      `the key file of the authorization server is no JWK set with private ${ACCESS_TOKEN_ALG} and ${ID_TOKEN_ALG} keys`,
    );
  return { keys: parsed.data.keys };
}

/** The set without anything private, as published at `/jwks`. */
export function publicKeys(keys: SigningKeys): SigningKeys {
  return {
    keys: keys.keys.map(({ kty, kid, alg, use, crv, x, y, n, e }) =>
      kty === 'EC' ? pick({ kty, kid, alg, use, crv, x, y }) : pick({ kty, kid, alg, use, n, e }),
    ),
  };
}

async function createKeys(file: string): Promise<SigningKeys> {
  const keys = await Promise.all([createKey(ACCESS_TOKEN_ALG), createKey(ID_TOKEN_ALG)]);
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${randomUUID()}`;
  const handle = await open(draft, 'wx', 0o600);
  try {
    await handle.writeFile(`${JSON.stringify({ keys }, null, 2)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(draft, file);
  return { keys };
}

async function createKey(alg: string): Promise<JWK> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), kid: randomUUID(), alg, use: 'sig' };
}

function pick(key: Record<string, string | undefined>): JWK {
  return Object.fromEntries(Object.entries(key).filter(([, value]) => value !== undefined));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
