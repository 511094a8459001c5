import { createServer, type IncomingMessage } from 'node:http';
import { createProtection } from '@hmcp/server';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { env, listen } from './deployment.js';
import { labs } from './labs.js';
import { operations } from './operations.js';

const hmcp = createProtection({ ...env, operations }); // 1: what is served, and to whom
const http = createServer((request: IncomingMessage & { body?: unknown }, response) =>
  hmcp.gate(request, response, async () => {
    // 2: nothing gets in without a token for one patient
    const transport = new StreamableHTTPServerTransport();
    await labs().connect(hmcp.protect(transport)); // 3: everything about the patient, both ways
    await transport.handleRequest(request, response, request.body);
  }),
);
listen(http);
