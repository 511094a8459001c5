import { definePatientTool } from '@hmcp/core';
import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';

const Results = z.object({ results: z.array(z.looseObject({ resourceType: z.literal('Observation'), id: z.string() })) });

export const listResults = definePatientTool({
  name: 'list-results',
  description: 'Results of the patient in context',
  scope: 'patient/Observation.rs',
  input: z.object({ category: z.string().optional() }),
  output: Results,
});

export const readResult = definePatientTool({
  name: 'read-result',
  description: 'One result of the patient in context',
  scope: 'patient/Observation.rs',
  input: z.object({ id: z.string() }),
  output: Results,
});

export const assess = definePatientTool({
  name: 'assess',
  description: 'How many results there are for the patient in context',
  scope: 'patient/hmcp:read',
  onward: 'patient/Observation.rs',
  input: z.object({ reason: z.string() }),
  output: z.object({ considered: z.int() }),
});

export const labs = defineAgent('labs', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'labs', version: '1.0.0' });
    patientTool(server, listResults, async ({ category }, { fhir }) =>
      Results.parse({ results: await fhir.search('Observation', { category }) }),
    );
    patientTool(server, readResult, async ({ id }, { fhir }) => Results.parse({ results: [await fhir.read('Observation', id)] }));
    return server;
  }, env),
);

export const triage = defineAgent('triage', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'triage', version: '1.0.0' });
    patientTool(server, assess, async (_, { call }) => {
      const { results } = await call('labs', listResults, { category: 'laboratory' });
      return { considered: results.length };
    });
    return server;
  }, env),
);

// #region leaky
/** Remembers a value across patients, as a cache without a key does. */
export function leaky() {
  let last = 'nothing';
  return defineAgent('triage', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'triage', version: '1.0.0' });
      patientTool(server, tell, async (_, { fhir }) => {
        const before = last;
        const [newest] = (await fhir.search('Observation')) as { valueQuantity?: { value?: number } }[];
        last = `${newest?.valueQuantity?.value}`;
        return { text: `last time it was ${before}` };
      });
      return server;
    }, env),
  );
}
// #endregion leaky

export const tell = definePatientTool({
  name: 'tell',
  description: 'Says what it saw last',
  scope: 'patient/Observation.rs',
  input: z.object({}),
  output: z.object({ text: z.string() }),
});
