// A context manager as its own process: `node manager.js CONFIG`, where TLS ends in front of it.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createLogger } from '@hmcp/audit';
import { createClientCredentials, createTokenExchanger, createTokenVerifier } from '@hmcp/auth';
import { createContextManager, openSqliteStore } from '@hmcp/context-manager';
import { nodeListener } from '@hmcp/server';

const config = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8'));
const { publicUrl, issuer, fhirServer, client, clients, trustDomain, pseudonymKey, tenantKey, port } = config;
const { keys } = JSON.parse(await readFile(config.sealKeys, 'utf8')); // its private key for seals: its own, and nobody else's

const store = await openSqliteStore({ file: config.store, by: publicUrl });
const manager = await createContextManager({
  resource: publicUrl,
  clientId: client.clientId,
  trustDomain, // audience of its seals
  authorizationServers: [issuer],
  fhirServers: [fhirServer], // whose patients it opens
  verifier: createTokenVerifier({ resource: publicUrl, issuers: [{ issuer, fhirServer }] }),
  store,
  sealKey: keys[0],
  tenantKey, // key of patients in seals
  pseudonymKey, // key of people in its audit
  clients,
  tokens: createTokenExchanger({ issuer, client }),
  credentials: createClientCredentials({ issuer, client }),
  log: createLogger({ name: 'context-manager', level: 'warn' }),
});
const http = createServer(nodeListener(manager)).listen(port, '127.0.0.1', () => process.send?.('listening'));

process.once('SIGTERM', async () => {
  http.close();
  http.closeAllConnections();
  await manager.close(); // switches that are undecided are aborted by the next start
  await store.close();
  process.exit(0);
});
