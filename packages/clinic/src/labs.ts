import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { listResults } from './contracts.js';

/** The laboratory agent: the results of the patient in context. `rebuild-index` is deliberately left undeclared. */
export const labs = defineAgent('labs', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'labs', version: '1.0.0' });
    patientTool(server, listResults, async ({ category }, { fhir }) => ({
      results: await fhir.search('Observation', { category }),
    }));
    server.registerTool('rebuild-index', { description: 'Maintenance that nobody declared for patients' }, () => ({
      content: [],
    }));
    return server;
  }, env),
);
