import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { listResults } from './contracts.js';

/** The laboratory agent: the results of the patient in context. */
export const labs = defineAgent('labs', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'labs', version: '1.0.0' });
    patientTool(server, listResults, async ({ category }, { fhir }) => ({
      results: await fhir.search('Observation', { category }),
    }));
    return server;
  }, env),
);
