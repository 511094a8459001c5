import { createServer } from 'node:http';
import { createProtection } from '@hmcp/server';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import express from 'express';
import { env, listen } from './deployment.js';
import { labs } from './labs.js';
import { operations } from './operations.js';

const hmcp = createProtection({ ...env, operations });
const app = express();
app.use(hmcp.paths, hmcp.gate); // before any body parser
app.post('/mcp', async (request, response) => {
  const transport = new StreamableHTTPServerTransport();
  await labs().connect(hmcp.protect(transport));
  await transport.handleRequest(request, response, request.body); // what the gate left there, parsed
});
listen(createServer(app));
