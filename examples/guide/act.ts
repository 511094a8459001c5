import { openSession } from '@hmcp/agent';
import { getLabs, summarize } from './contracts.js';
import { deskOf, openBrowser, peer, smart } from './desk.js';

const scope = 'launch/patient patient/hmcp:read patient/Observation.rs';
await using desk = deskOf(peer('summary'), peer('old-labs')); // all it may call about a patient
const grant = await smart.authorize({ launch: 'patient', scope, open: openBrowser });
const session = await openSession({ agent: desk, grant });

// One act of the person: one intent, however many calls.
const found = await session.act(async (signal) => {
  const { considered, above } = await session.call('summary', summarize, { above: 2 }, { signal });
  const { results } = await session.call('old-labs', getLabs, { test: 'Creatinine' }, { signal });
  return `${above} (of ${considered}), creatinine ${results.map(({ value }) => value)}`;
});
console.log(found);

await session.close();
await grant.revoke();
