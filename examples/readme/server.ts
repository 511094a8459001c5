// server.ts: an agent, and the contract it shares with whoever calls it
import { definePatientTool } from '@hmcp/core';
import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';

export const listProblems = definePatientTool({
  name: 'list-problems',
  description: 'Problem list of the patient in context',
  scope: 'patient/Condition.rs',
  input: z.object({ category: z.string().optional() }),
  output: z.object({ problems: z.array(z.looseObject({ resourceType: z.literal('Condition'), id: z.string() })) }),
});

export const problems = defineAgent('problems', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'problems', version: '1.0.0' });
    patientTool(server, listProblems, async ({ category }, { fhir }) => ({
      problems: await fhir.search('Condition', { category }), // the patient in context, and nobody else
    }));
    return server;
  }, env),
);
