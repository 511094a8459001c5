import { readPartyConfig, recordsOf, runParty } from '@hmcp/clinic';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';
import { serveBare } from './serve-bare.js';

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
  return serveBare(handler);
});
