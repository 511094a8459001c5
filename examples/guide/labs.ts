// A server that was there before, on SDK v1: its own data, and no idea of who may see whose. Nothing in it changes.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import * as z from 'zod';

const [ada, bea] = ['Patient/5eed0a01-0000-4000-8000-000000000001', 'Patient/5eed0b02-0000-4000-8000-000000000001'];
const rows = [
  { subject: { reference: ada }, test: 'Potassium', value: 5.873, unit: 'mmol/L', on: '2025-11-06' },
  { subject: { reference: ada }, test: 'Creatinine', value: 1.493, unit: 'mg/dL', on: '2025-11-06' },
  { subject: { reference: bea }, test: 'Potassium', value: 3.287, unit: 'mmol/L', on: '2025-08-21' },
];

export function labs(): McpServer {
  const server = new McpServer({ name: 'old-labs', version: '3.2.0' });
  server.registerTool(
    'get-labs',
    { description: 'Laboratory results of a patient', inputSchema: { patientId: z.string(), test: z.string().optional() } },
    ({ patientId, test }) => {
      const results = rows.filter(
        (row) => row.subject.reference === `Patient/${patientId}` && (test === undefined || row.test === test),
      );
      return { content: [{ type: 'text', text: JSON.stringify({ results }) }] };
    },
  );
  server.registerTool(
    'newest',
    { description: 'The newest result of the laboratory', inputSchema: { patientId: z.string() } },
    () => ({
      content: [{ type: 'text', text: JSON.stringify({ results: rows.slice(-1) }) }], // whose it is, nobody asked
    }),
  );
  server.registerTool('everybody', { description: 'Who is in the laboratory' }, () => ({
    content: [{ type: 'text', text: JSON.stringify(rows.map(({ subject }) => subject)) }],
  }));
  return server;
}
