// Serves it protected, as its own process: `node serve.js CONFIG`. The development world writes CONFIG and starts this program.
import { createServer, type IncomingMessage } from 'node:http';
import { createProtection } from '@hmcp/server';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { env, listen } from '../guide/deployment.js';
import { labs } from './labs.js';

const operations = { tools: { 'get-labs': { scope: 'patient/Observation.rs', patientArgument: 'patientId' } } };

const hmcp = createProtection({ ...env, operations }); // 1
const http = createServer((request: IncomingMessage & { body?: unknown }, response) =>
  // 2: with express, app.use(hmcp.paths, hmcp.gate)
  hmcp.gate(request, response, async () => {
    const transport = new StreamableHTTPServerTransport();
    await labs().connect(hmcp.protect(transport)); // 3
    await transport.handleRequest(request, response, request.body);
  }),
);
listen(http);
