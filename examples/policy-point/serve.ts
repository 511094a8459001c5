// A laboratory that asks the hospital's policy decision point wherever a token names no patient: `node serve.js CONFIG`.
import { httpAccessPolicy } from '@hmcp/auth';
import { isLaboratory, readPartyConfig, recordsOf, runParty, serveParty } from '@hmcp/clinic';
import { createHmcpHandler, defineAgent } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';

const records = await recordsOf(undefined); // a store of its own: no token opens it, only what is decided in front of it

function laboratory(): McpServer {
  const server = new McpServer({ name: 'ward-labs', version: '1.0.0' });
  const inputSchema = z.object({ patientId: z.string() });
  server.registerTool('get-labs', { description: 'Laboratory results of a patient', inputSchema }, ({ patientId }) => {
    const results = records.ofPatient(patientId, 'Observation').filter(isLaboratory);
    return { content: [{ type: 'text', text: JSON.stringify(results) }] };
  });
  return server;
}

const config = await readPartyConfig(process.argv[2] ?? '');
const [decisionPoint] = config.peers;
if (decisionPoint === undefined) throw new TypeError('the configuration names no decision point');
const decisionPointUrl = decisionPoint.resource;

const wardLabs = defineAgent('ward-labs', (env) =>
  createHmcpHandler(laboratory, {
    ...env,
    operations: { tools: { 'get-labs': { scope: 'patient/Observation.rs', patientArgument: 'patientId' } } },
    policy: httpAccessPolicy({ url: decisionPointUrl, timeoutMs: 1000 }), // asked where a token names no patient
  }),
);

await runParty(() => serveParty(wardLabs, config));
