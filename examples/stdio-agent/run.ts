import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Peer } from '@hmcp/agent';
import { openSession } from '@hmcp/agent';
import { idsOf } from '../checks.js';
import { listProblems } from '../readme/server.js';
import { playInWorld } from '../world-run.js';

// An orchestrator starts an agent as its child and speaks to it over its pipes. Fails unless one call is served, one that names
// another patient is refused, the child ends with its parent's connection, and its own log says so and is intact.

const program = fileURLToPath(new URL('./child.js', import.meta.url));
// Registered at the authorization server like any agent; the world itself does not start it.
const extras = [{ name: 'problems', module: program, scope: 'patient/Condition.rs', childOf: 'portal' }];

await playInWorld({ extras }, async (run) => {
  const { checks, a, b, records, facts } = run;
  const resource = run.urlOf('problems');
  const config = join(facts.state, 'config', 'problems.json');

  const child = { program: process.execPath, args: [program, config] }; // no shell, and none of this process's environment
  const peers: Peer[] = [{ name: 'problems', resource, kind: 'hmcp', command: child }];

  const desk = await run.desk('stdio-desk', peers);
  await using session = await openSession({ agent: desk, grant: await run.launch(a, 'patient/Condition.rs') });
  const answer = await session.call('problems', listProblems, {});
  process.stdout.write(`served: ${answer.problems.length} problems\n`);
  checks.is('problems of the patient in context', idsOf(answer.problems), idsOf(records.ofPatient(a.id, 'Condition')));
  const confused = { category: 'problem-list-item', patientId: b.id };
  await checks.refused(
    'an argument that names another patient',
    session.call('problems', listProblems, confused),
    40903,
    'argument',
  );

  await session.close();
  await run.stop();
  checks.is('what the child recorded', await run.decisions('problems'), [
    'request.served list-problems',
    'request.refused list-problems 40903',
  ]);
  checks.is('what its parent recorded', await run.decisions('stdio-desk'), [
    'hop.call list-problems',
    'hop.result list-problems',
    'hop.call list-problems',
    'hop.refused list-problems 40903',
  ]);
});
