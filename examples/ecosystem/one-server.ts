// A server that was there before, on SDK v1, and what its protection needs: here an issuer of its own, so that it runs alone.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createTokenVerifier } from '@hmcp/auth';
import type { AuditRecord, AuditSink } from '@hmcp/core';
import { createProtection } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import * as z from 'zod';
import type { Mount } from './mount.js';

/** Two synthetic patients. */
export const ANN = 'ann-1';
export const BO = 'bo-2';

/** One server instance: it has a tool for anybody's results, and no idea of who may see whose. */
export function labs(): McpServer {
  const server = new McpServer({ name: 'old-labs', version: '3.2.0' });
  const schemas = { inputSchema: { patientId: z.string() }, outputSchema: { results: z.array(z.any()) } };
  server.registerTool('get-labs', { description: 'Laboratory results of a patient', ...schemas }, ({ patientId }) => {
    const results = [{ resourceType: 'Observation', id: 'o1', subject: { reference: `Patient/${patientId}` } }];
    return { structuredContent: { results }, content: [{ type: 'text', text: `${results.length} results` }] };
  });
  return server;
}

/** Serves it, protected and mounted, on a free port of this machine; with a token for Ann, and what it recorded. */
export async function deploymentOf(mount: Mount) {
  const http = createServer();
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const resource = `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`;
  const [issuer, fhirServer, kid] = ['https://as.example', 'https://fhir.example', 'key-1'];
  const { privateKey, publicKey } = await generateKeyPair('ES256');
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid, alg: 'ES256' }] };
  const records: AuditRecord[] = [];
  const audit: AuditSink = { append: async (record) => void records.push(record), close: async () => undefined };

  const hmcp = createProtection({
    resource,
    authorizationServers: [issuer],
    verifier: createTokenVerifier({ resource, issuers: [{ issuer, fhirServer, jwks }] }),
    audit,
    pseudonymKey: 'a key of this example',
    operations: { tools: { 'get-labs': { scope: 'patient/Observation.rs', patientArgument: 'patientId' } } },
  });
  http.on('request', await mount(hmcp));

  const token = await new SignJWT({ scope: 'patient/Observation.rs', client_id: 'desk', patient: ANN })
    .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid })
    .setIssuer(issuer)
    .setSubject('dr-1')
    .setAudience(resource)
    .setIssuedAt()
    .setExpirationTime('5m')
    .setJti('token-1')
    .sign(privateKey);
  return {
    url: resource,
    token,
    records,
    async close(): Promise<void> {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };
}
