// A server that was there before: SDK v1, its own data, and no idea of who may see whose. Nothing in it changes.
import { chooseCharts, isLaboratory, recordsOf } from '@hmcp/clinic';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import * as z from 'zod';

const records = await recordsOf(undefined);

export function labs(): McpServer {
  const server = new McpServer({ name: 'old-labs', version: '3.2.0' });
  const schemas = { inputSchema: { patientId: z.string() }, outputSchema: { results: z.array(z.any()) } };
  server.registerTool('get-labs', { description: 'Laboratory results of a patient', ...schemas }, ({ patientId }) => {
    const results = records.ofPatient(patientId, 'Observation').filter(isLaboratory);
    return { structuredContent: { results }, content: [{ type: 'text', text: `${results.length} results` }] };
  });
  server.registerTool('everybody', { description: 'Who is in the laboratory' }, () => ({
    content: [{ type: 'text', text: JSON.stringify(chooseCharts(records)) }],
  }));
  return server;
}
