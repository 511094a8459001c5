// client.ts: a program that launches for a patient, and calls the agent about that patient
import { createAgent, openSession } from '@hmcp/agent';
import { createTokenExchanger, smartClient } from '@hmcp/auth';
import { explain } from '@hmcp/core';
import { listProblems } from './server.js';
import { audit, client, fhirServer, openBrowser, problemsUrl, pseudonymKey, redirectUri } from './settings.js';

const smart = smartClient({ fhirServer, redirectUri, ...client });
const grant = await smart.authorize({ launch: 'patient', scope: 'launch/patient patient/Condition.rs', open: openBrowser });

const desk = createAgent({
  name: 'desk',
  clientId: client.clientId,
  peers: [{ name: 'problems', resource: problemsUrl, kind: 'hmcp' }],
  tokens: createTokenExchanger({ issuer: grant.issuer, client }),
  audit,
  pseudonymKey,
});
const session = await openSession({ agent: desk, grant });

const answer = await session.call('problems', listProblems, {}); // names no patient: the context does
process.stdout.write(`served: ${answer.problems.length} problems\n`);

const confused = { category: 'problem-list-item', patientId: 'somebody-else' }; // what a model might write
await session.call('problems', listProblems, confused).catch((refusal) => process.stdout.write(`${explain(refusal)}\n`));

for (const part of [session, desk, audit]) await part.close();
await grant.revoke();
