import { fileURLToPath } from 'node:url';
import { openSession } from '@hmcp/agent';
import { isLaboratory } from '@hmcp/clinic';
import { definePatientTool } from '@hmcp/core';
import * as z from 'zod';
import { idsOf } from '../checks.js';
import { playInWorld } from '../world-run.js';

// Starts a development world with an SDK v1 server in it, protected in three lines, and fails unless its tool serves the patient
// in context to a caller that names nobody, and everything else is refused: another patient, a tool nobody declared, no token.

const scope = 'patient/Observation.rs';
const extras = [{ name: 'old-labs', module: fileURLToPath(new URL('./serve.js', import.meta.url)), scope }];
const output = z.object({ results: z.array(z.looseObject({ resourceType: z.literal('Observation'), id: z.string() })) });
const input = z.object({ category: z.string().optional() });
const tool = (name: string) => definePatientTool({ name, scope, description: name, input, output });

await playInWorld({ extras }, async (run) => {
  const { checks, records, a, b } = run;
  const url = run.urlOf('old-labs');
  const agent = await run.desk('protect-v1', [{ name: 'old-labs', resource: url, kind: 'hmcp' }]);
  const grant = await run.launch(a, scope);
  const session = await openSession({ agent, grant });

  const { results } = await session.call('old-labs', tool('get-labs'), {});
  process.stdout.write(`served: ${results.length} results\n`);
  checks.is(
    'results of the patient in context',
    idsOf(results),
    idsOf(records.ofPatient(a.id, 'Observation').filter(isLaboratory)),
  );

  const confused = { category: 'laboratory', patientId: b.id }; // what a model might write
  const named = session.call('old-labs', tool('get-labs'), confused);
  await checks.refused('an argument that names another patient', named, 40903, 'argument');
  await checks.refused('a tool nobody declared', session.call('old-labs', tool('everybody'), {}), 40303, 'operation');
  const message = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'everybody' } };
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
  const bare = await fetch(url, { method: 'POST', headers, body: JSON.stringify(message) });
  checks.is('without a token', bare.status, 401);
  checks.is('and says where to get one', bare.headers.get('www-authenticate')?.includes('resource_metadata='), true);

  await session.close();
  await grant.revoke();
  await run.stop();
  checks.is('the audit of the server is intact, and holds every decision', await run.decisions('old-labs'), [
    'request.served get-labs',
    'request.refused get-labs 40903',
    'request.refused everybody 40303',
    'request.refused 401',
  ]);
});
