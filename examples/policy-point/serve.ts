// A laboratory that asks the hospital's policy decision point wherever a token names no patient: `node serve.js CONFIG`.
import { httpAccessPolicy } from '@hmcp/auth';
import { deploy, isLaboratory, readPartyConfig, recordsOf, runParty } from '@hmcp/clinic';
import { createHmcpHandler, defineAgent, serve } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';

const records = await recordsOf(undefined); // a store of its own: no token opens it, only what is decided in front of it

const wardLabs = defineAgent('ward-labs', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'ward-labs', version: '1.0.0' });
    const inputSchema = z.object({ patientId: z.string() });
    server.registerTool('get-labs', { description: 'Laboratory results of a patient', inputSchema }, ({ patientId }) => {
      const results = records.ofPatient(patientId, 'Observation').filter(isLaboratory);
      return { content: [{ type: 'text', text: JSON.stringify(results) }] };
    });
    return server;
  }, env),
);

await runParty(async () => {
  const config = await readPartyConfig(process.argv[2] ?? '');
  const deployment = await deploy(config);
  const [decisionPoint] = config.peers;
  if (decisionPoint === undefined) throw new TypeError('the configuration names the decision point');

  // #region policy
  const served = await serve(wardLabs, {
    ...deployment.env,
    operations: { tools: { 'get-labs': { scope: 'patient/Observation.rs', patientArgument: 'patientId' } } },
    policy: httpAccessPolicy({ url: decisionPoint.resource, timeoutMs: 1000 }),
  });
  // #endregion

  return {
    port: served.port,
    async close() {
      deployment.ending();
      await served.close();
      await deployment.close();
    },
  };
});
