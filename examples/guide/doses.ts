// Another server that was there before, on SDK v1: it writes. What was given stands in its own table, by patient and the id of the dose.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import * as z from 'zod';

const given = new Map<string, string>();

export function doses(): McpServer {
  const server = new McpServer({ name: 'doses', version: '1.4.0' });
  server.registerTool(
    'record-dose',
    {
      description: 'Records that a dose was given',
      inputSchema: { patientId: z.string(), dose: z.string(), drug: z.string() },
    },
    ({ patientId, dose, drug }) => {
      const row = `${patientId} ${dose}`;
      const isNew = !given.has(row); // asked again, it is the same dose
      if (isNew) given.set(row, drug);
      return { content: [{ type: 'text', text: JSON.stringify({ dose, isNew }) }] };
    },
  );
  return server;
}
