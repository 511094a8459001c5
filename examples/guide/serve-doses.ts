import { createServer, type IncomingMessage } from 'node:http';
import { participate, permitAuthority } from '@hmcp/agent';
import { createClientCredentials } from '@hmcp/auth';
import { createProtection } from '@hmcp/server';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { caller } from './caller.js';
import { config, env, listen } from './deployment.js';
import { doses } from './doses.js';

const { issuer, client, managers } = config;
const participation = participate({
  agent: caller,
  manager: managers[0].resource,
  credentials: createClientCredentials({ issuer, client }),
  role: 'effector', // it may be given permits
  delivery: 'push',
});
const permits = permitAuthority({ agent: caller, participation }); // asks the manager, before the tool runs
const operations = {
  tools: { 'record-dose': { scope: 'patient/MedicationAdministration.c', patientArgument: 'patientId' } }, // creates: an effect
};

const hmcp = createProtection({ ...env, operations, permits, participation });
const http = createServer((request: IncomingMessage & { body?: unknown }, response) =>
  hmcp.gate(request, response, async () => {
    const transport = new StreamableHTTPServerTransport();
    await doses().connect(hmcp.protect(transport));
    await transport.handleRequest(request, response, request.body);
  }),
);
listen(http);
