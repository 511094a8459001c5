// What this program is told about the place it runs in. `hmcp dev` starts it as `node serve.js CONFIG` and writes CONFIG; elsewhere
// the same values come from your own configuration.
import { readFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createLogger, openFileAudit } from '@hmcp/audit';
import { createTokenExchanger, createTokenVerifier } from '@hmcp/auth';
import type { AgentEnv } from '@hmcp/server';

export const config = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8'));
const { name, publicUrl, issuer, fhirServer, client, managers, auditFile, pseudonymKey } = config;

export const tokens = createTokenExchanger({ issuer, client }); // for what this program asks others
export const audit = await openFileAudit({ file: auditFile, by: publicUrl }); // every decision, durable before its answer leaves
export const env: AgentEnv = {
  resource: publicUrl, // where callers reach this server: the audience of every token it accepts
  authorizationServers: [issuer], // where callers get one
  verifier: createTokenVerifier({ resource: publicUrl, issuers: [{ issuer, fhirServer }] }), // whose tokens are believed
  managers, // whose seals are believed
  tokens,
  audit,
  pseudonymKey, // the audit names patients by keyed hashes
  log: createLogger({ name, level: 'warn' }), // fixed sentences on standard error
};

/** Listens at the `port` of its configuration, or, where it says none, on a free one that `hmcp dev` is told; ends when told to. */
export function listen(http: Server): void {
  const stop = async (): Promise<void> => {
    http.close();
    http.closeAllConnections();
    await audit.close();
    process.exit(0);
  };
  for (const end of ['SIGTERM', 'SIGINT', 'disconnect']) process.once(end, stop);
  const { port = 0, host = '127.0.0.1' } = config; // any other host: only where TLS ends in front of this process
  http.listen(port, host, () => process.send?.({ type: 'listening', port: (http.address() as AddressInfo).port }));
}
