import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readPartyConfig, recordsOf, runParty } from '@hmcp/clinic';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';

// The danger, as it is built every day: a tool of the bare MCP SDK that takes the patient as an argument and believes it.
await runParty(async () => {
  const config = await readPartyConfig(process.argv[2] ?? '');
  const records = await recordsOf(config.data);
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: 'front-desk', version: '1.0.0' });
    server.registerTool(
      'get-lab-results',
      { description: 'Laboratory results of a patient', inputSchema: z.object({ patientId: z.string() }) },
      ({ patientId }) => ({
        content: [{ type: 'text', text: JSON.stringify(records.ofPatient(patientId, 'Observation').slice(0, 5)) }],
      }),
    );
    return server;
  });
  const serveMcp = toNodeHandler(handler);
  const http = createServer((request, response) => void serveMcp(request as Parameters<typeof serveMcp>[0], response));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  return {
    port: (http.address() as AddressInfo).port,
    async close() {
      http.closeAllConnections();
      http.close();
      await handler.close();
    },
  };
});
