import { createServer, type IncomingMessage } from 'node:http';
import { createProtection } from '@hmcp/server';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { env, listen } from './deployment.js';
import { labs } from './labs.js';

const getLabs = { scope: 'patient/Observation.rs', patientArgument: 'patientId' };
const operations = { tools: { 'get-labs': getLabs, newest: getLabs } };

const hmcp = createProtection({ ...env, operations }); // 1: what it serves; `everybody` is not among it
const http = createServer((request: IncomingMessage & { body?: unknown }, response) =>
  hmcp.gate(request, response, async () => {
    // 2: nothing gets in without a token for one patient
    const transport = new StreamableHTTPServerTransport();
    await labs().connect(hmcp.protect(transport)); // 3: everything about the patient, both ways
    await transport.handleRequest(request, response, request.body);
  }),
);
listen(http);
