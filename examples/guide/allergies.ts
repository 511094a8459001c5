// A server with rows of its own, in words: nothing of them stands in a chart.
import { definePatientTool } from '@hmcp/core';
import { type AgentEnv, createHmcpHandler, createProtection, defineAgent, patientTool } from '@hmcp/server';
import { McpServer as OldServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js';
import { McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';

const rows: Readonly<Record<string, readonly string[]>> = {
  '5eed0a01-0000-4000-8000-000000000001': ['Penicillin: anaphylaxis'],
  '5eed0b02-0000-4000-8000-000000000001': ['Latex: contact dermatitis'],
};

const scope = 'patient/AllergyIntolerance.rs';
const listAllergies = definePatientTool({
  name: 'list-allergies',
  description: 'Allergies of the patient in context',
  scope,
  input: z.object({}),
  output: z.object({ allergies: z.array(z.string()) }),
});

export const advise = definePatientTool({
  name: 'advise',
  description: 'What the patient in context must not get',
  scope: 'patient/hmcp:read',
  onward: scope,
  input: z.object({}),
  output: z.object({ avoid: z.array(z.string()) }),
});

export const allergies = {
  name: 'allergies',
  create(env: AgentEnv) {
    const hmcp = createProtection({
      ...env,
      operations: { tools: { 'list-allergies': { scope, patientArgument: 'patientId' } } },
    });
    const fetch = hmcp.fetch(async (request, passed) => {
      const server = new OldServer({ name: 'allergies', version: '1.0.0' });
      server.registerTool('list-allergies', { inputSchema: { patientId: z.string() } }, ({ patientId }) => ({
        content: [{ type: 'text', text: JSON.stringify({ allergies: rows[patientId] ?? [] }) }],
      }));
      const transport = new WebStandardStreamableHTTPServerTransport();
      await server.connect(hmcp.protect(transport));
      return transport.handleRequest(request, passed);
    });
    return { fetch };
  },
};

/** @param remembers with a cache that has no key: a planted fault, for the test */
export function advisor(remembers = false) {
  let before: string[] | undefined;
  return defineAgent('advisor', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'advisor', version: '1.0.0' });
      patientTool(server, advise, async (_, { call }) => {
        if (before === undefined || !remembers) before = [...(await call('allergies', listAllergies, {})).allergies];
        return { avoid: before };
      });
      return server;
    }, env),
  );
}
