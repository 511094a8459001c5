import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createLogger } from '@hmcp/audit';
import { createClientCredentials, createTokenExchanger, createTokenVerifier } from '@hmcp/auth';
import { ConfigurationError, type Listening } from '@hmcp/clinic';
import { createContextManager, openSqliteStore } from '@hmcp/context-manager';
import { nodeListener } from '@hmcp/server';
import type { JWK } from 'jose';
import * as z from 'zod';

/** Configuration of the context manager's process. */
export const ContextManagerConfig = z.strictObject({
  name: z.string(),
  role: z.string(),
  /** Its resource identifier. */
  publicUrl: z.url(),
  /** The authorization server whose people it names. */
  issuer: z.url(),
  fhirServer: z.url(),
  trustDomain: z.string().min(1),
  /** This manager as an OAuth client. */
  client: z.strictObject({
    clientId: z.string(),
    privateKey: z.looseObject({ kty: z.string(), kid: z.string(), alg: z.string() }),
  }),
  /** JWK set with the one private key that signs seals. */
  sealKeys: z.string(),
  /** Key of patient keys in seals and audit. */
  tenantKey: z.string().min(16),
  /** Key of people in the audit. */
  pseudonymKey: z.string().min(16),
  /** Who may open sessions or take part in them. */
  clients: z.array(
    z.strictObject({
      clientId: z.string(),
      name: z.string(),
      humanUi: z.boolean().optional(),
      effector: z.boolean().optional(),
      endpoint: z.strictObject({ url: z.url(), resource: z.url() }).optional(),
    }),
  ),
  /** File of its sessions and their audit. */
  store: z.string(),
  /** How long participants of a switch may take, in ms; on a machine with much other work more than by default. */
  timing: z.strictObject({ voteMs: z.int().positive(), drainMs: z.int().positive() }).optional(),
  logLevel: z.enum(['warn', 'error']).default('warn'),
});
export type ContextManagerConfig = z.infer<typeof ContextManagerConfig>;

/** Serves the context manager as a party of the world. @throws {ConfigurationError} */
export async function serveContextManager(file: string): Promise<Listening> {
  const config = readConfig(await readFile(file, 'utf8'));
  const { publicUrl, issuer, fhirServer, client, tenantKey, pseudonymKey, trustDomain, clients, name, timing, logLevel } = config;
  const { keys } = JSON.parse(await readFile(config.sealKeys, 'utf8')) as { keys: JWK[] };
  const [sealKey] = keys;
  if (sealKey === undefined) throw new ConfigurationError('the configuration is not usable: "sealKeys" holds no key');
  const store = await openSqliteStore({ file: config.store, by: publicUrl });
  const manager = await createContextManager({
    resource: publicUrl,
    clientId: client.clientId,
    trustDomain,
    authorizationServers: [issuer],
    fhirServers: [fhirServer],
    verifier: createTokenVerifier({ resource: publicUrl, issuers: [{ issuer, fhirServer }] }),
    store,
    sealKey,
    tenantKey,
    pseudonymKey,
    clients,
    timing,
    tokens: createTokenExchanger({ issuer, client }),
    credentials: createClientCredentials({ issuer, client }),
    log: createLogger({ name, level: logLevel }),
  });
  const http = createServer({ headersTimeout: 10_000, requestTimeout: 30_000, maxHeaderSize: 16_384 }, nodeListener(manager));
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject);
    http.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: (http.address() as AddressInfo).port,
    async close() {
      const closed = new Promise<void>((resolve) => http.close(() => resolve()));
      http.closeAllConnections();
      await closed;
      await manager.close();
      await store.close();
    },
  };
}

function readConfig(text: string): ContextManagerConfig {
  const parsed = ContextManagerConfig.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path, code }) => `"${path.join('.')}" ${code}`);
  throw new ConfigurationError(`the configuration is not usable: ${faults.join('; ')}`);
}
