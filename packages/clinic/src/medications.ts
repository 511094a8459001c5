import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { listMedications } from './contracts.js';

/** The medications agent: the medication requests of the patient in context. */
export const medications = defineAgent('medications', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'medications', version: '1.0.0' });
    patientTool(server, listMedications, async ({ status }, { fhir }) => ({
      medications: await fhir.search('MedicationRequest', { status }),
    }));
    return server;
  }, env),
);
