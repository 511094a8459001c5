// A well-formed HMCP-like server on a pipe, on the bare SDK; the binding is made with node:crypto alone.
import { createHmac } from 'node:crypto';
import { McpServer } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import * as z from 'zod';

const [, , fhirServer, by] = process.argv;

let open = () => undefined;
const opened = new Promise((resolve) => {
  open = resolve;
});

serveStdio(() => {
  const server = new McpServer({ name: 'pipe-labs', version: '1.0.0' });
  server.registerTool(
    'list-results',
    { inputSchema: z.object({ category: z.string().optional() }) },
    async ({ category }, ctx) => {
      if (category === 'exit') process.exit(1);
      if (category === 'open') open();
      if (category === 'wait') await opened;
      const { 'dev.hmcp/context': envelope, 'dev.hmcp/authorization': token } = ctx.mcpReq._meta ?? {};
      const id = envelope?.intent?.id ?? '';
      const patient = envelope?.patient ?? null;
      const pk = createHmac('sha256', id || 'x')
        .update(JSON.stringify([fhirServer, null, patient]))
        .digest('base64url');
      const binding = { version: '1', pk, pkScope: 'intent', intent: { id }, by, patients: [pk] };
      const subject = { reference: `Patient/${patient}` };
      const results = [{ resourceType: 'Observation', id: 'o1', status: 'final', code: { text: 'K' }, subject }];
      const structuredContent = { results, token: token ?? null, keys: Object.keys(ctx.mcpReq._meta ?? {}) };
      return {
        structuredContent,
        content: [{ type: 'text', text: JSON.stringify(structuredContent) }],
        ...(envelope ? { _meta: { 'dev.hmcp/context': binding } } : {}),
      };
    },
  );
  return server;
});
