// Serves it protected, as its own process: `node serve.js CONFIG`. The development world writes CONFIG and starts this program.
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { openFileAudit } from '@hmcp/audit';
import { createTokenVerifier } from '@hmcp/auth';
import { createProtection } from '@hmcp/server';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { labs } from './labs.js';

const config = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8'));
const { publicUrl, issuer, fhirServer, auditFile, pseudonymKey } = config;
const audit = await openFileAudit({ file: auditFile, by: publicUrl });
const env = {
  resource: publicUrl,
  authorizationServers: [issuer],
  verifier: createTokenVerifier({ resource: publicUrl, issuers: [{ issuer, fhirServer }] }),
  audit,
  pseudonymKey,
};
const operations = { tools: { 'get-labs': { scope: 'patient/Observation.rs', patientArgument: 'patientId' } } };

// #region protect
const hmcp = createProtection({ ...env, operations }); // 1
const http = createServer((request: IncomingMessage & { body?: unknown }, response) =>
  // 2: with express, app.use(hmcp.paths, hmcp.gate)
  hmcp.gate(request, response, async () => {
    const transport = new StreamableHTTPServerTransport();
    await labs().connect(hmcp.protect(transport)); // 3
    await transport.handleRequest(request, response, request.body);
  }),
);
// #endregion

const stop = async (): Promise<void> => {
  http.close();
  http.closeAllConnections();
  await audit.close();
  process.exit(0);
};
process.once('SIGTERM', stop);
process.once('SIGINT', stop);
process.once('disconnect', stop);
http.listen(0, '127.0.0.1', () => process.send?.({ type: 'listening', port: (http.address() as AddressInfo).port }));
