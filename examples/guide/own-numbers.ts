// The laboratory again, with numbers of its own for patients.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import * as z from 'zod';

// #region lookup
const index = [
  { number: 'L-4711', fhirId: '5eed0a01-0000-4000-8000-000000000001' }, // yours: a table, or a master patient index
  { number: 'L-0815', fhirId: '5eed0b02-0000-4000-8000-000000000001' },
];
const rows = [
  { number: 'L-4711', test: 'Potassium', value: 5.873, unit: 'mmol/L', on: '2025-11-06' },
  { number: 'L-0815', test: 'Potassium', value: 3.287, unit: 'mmol/L', on: '2025-08-21' },
];

function getLabs({ patientId }: { patientId: string }) {
  const known = index.find(({ fhirId }) => fhirId === patientId); // in: by the FHIR id. Nobody known: no rows
  const mine = rows.filter(({ number }) => number === known?.number);
  const results = mine.map(({ number, ...row }) => {
    const owner = index.find((one) => one.number === number); // out: by the row's own number, not by the argument
    return { ...row, subject: { reference: `Patient/${owner?.fhirId}` } };
  });
  return { content: [{ type: 'text' as const, text: JSON.stringify({ results }) }] };
}
// #endregion

export function numberedLabs(): McpServer {
  const server = new McpServer({ name: 'numbered-labs', version: '1.0.0' });
  const inputSchema = { patientId: z.string() };
  server.registerTool('get-labs', { description: 'Laboratory results of a patient', inputSchema }, getLabs);
  return server;
}
