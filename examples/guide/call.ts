import { openSession } from '@hmcp/agent';
import { explain } from '@hmcp/core';
import { getLabs } from './contracts.js';
import { deskOf, openBrowser, peer, smart } from './desk.js';

await using desk = deskOf(peer('old-labs')); // all it may call about a patient; closed at the end, whatever happens
// One launch gives one token for one patient: the person signs in and picks.
const grant = await smart.authorize({ launch: 'patient', scope: 'launch/patient patient/Observation.rs', open: openBrowser });
const session = await openSession({ agent: desk, grant });

const { results } = await session.call('old-labs', getLabs, {}); // names no patient: the context does
for (const { test, value, unit } of results) console.log(test, value, unit);

const confused = { test: 'Potassium', patientId: 'somebody-else' }; // what a model might write
await session.call('old-labs', getLabs, confused).catch((refusal) => console.log(explain(refusal)));

await session.close();
await grant.revoke(); // the person has left
