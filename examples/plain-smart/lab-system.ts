// The MCP server of a laboratory system, as its own process: it has its own way to the records, believes the patient it is told,
// and knows neither SMART nor HMCP. One of its tools has a bug.
import { isLaboratory, recordsOf, runParty } from '@hmcp/clinic';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';
import { serveBare } from '../story/serve-bare.js';

await runParty(async () => {
  const records = await recordsOf(undefined);
  const inputSchema = z.object({ patientId: z.string() });
  const answer = (results: readonly unknown[]) => ({ content: [{ type: 'text' as const, text: JSON.stringify({ results }) }] });
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: 'lab-system', version: '7.1.0' });
    server.registerTool('get-labs', { description: 'Laboratory results of a patient', inputSchema }, ({ patientId }) =>
      answer(records.ofPatient(patientId, 'Observation').filter(isLaboratory)),
    );
    server.registerTool('latest', { description: 'The latest results of a patient', inputSchema }, () =>
      answer(records.ofType('Observation').filter(isLaboratory).slice(-3)),
    );
    return server;
  });
  return serveBare(handler);
});
