import { openSession } from '@hmcp/agent';
import { getLabs } from './contracts.js';
import { deskOf, openBrowser, peer, smart } from './desk.js';

const args = ['dist/serve-stdio.js', '.hmcp/config/piped-labs.json'];
const command = { program: process.execPath, args }; // started at the first call; no shell
await using desk = deskOf({ ...peer('piped-labs'), command });

const grant = await smart.authorize({ launch: 'patient', scope: 'launch/patient patient/Observation.rs', open: openBrowser });
const session = await openSession({ agent: desk, grant });
const { results } = await session.call('piped-labs', getLabs, {});
for (const { test, value, unit } of results) console.log(test, value, unit);

await session.close();
await grant.revoke();
