// #region first
import { createTestbed, people } from '@hmcp/testing';
import { expect, test } from 'vitest';
import '@hmcp/testing/vitest';
import { getLabs, summarize } from './contracts.js';
import { oldLabs } from './old-labs.js';
import { summary } from './summary.js';

const { adalinde: ada, beatrisa: bea } = people;
const agents = [summary, oldLabs];
const interleave = false; // the old laboratory knows no patients but its own

test('what stands out about Ada is not told about Bea', async () => {
  await using bed = await createTestbed({ agents, interleave, people: [ada, bea] });
  const session = await bed.open(ada);
  await session.call('summary', summarize, { above: 2 });
  await bed.switch(session, bea);
  await session.call('summary', summarize, { above: 2 });
  expect(bed.trace).toStayOnPatient();
});
// #endregion

// #region hold
test('a late answer about Ada never reaches Bea', async () => {
  await using bed = await createTestbed({ agents, interleave, people: [ada, bea] });
  const session = await bed.open(ada);
  const held = bed.hold('old-labs', getLabs); // stops there until released; no timers
  const late = session.call('summary', summarize, { above: 2 });
  await held.reached;
  await bed.switch(session, bea); // grant and confirmation answered by the testbed's person
  held.release();
  await expect(late).toHaveRefused(40901);
  expect(bed.trace).toStayOnPatient();
});
// #endregion

// #region fault
test('an answer that gets lost is a refusal, and no half summary', async () => {
  await using bed = await createTestbed({ agents, interleave, people: [ada] });
  const session = await bed.open(ada);
  bed.fault('old-labs', getLabs, 'answer lost');
  await expect(session.call('summary', summarize, { above: 2 })).toHaveRefused(50301, { check: 'peer' });
});
// #endregion

// #region named
test('a model that names somebody else is refused, and the laboratory wrote it down', async () => {
  await using bed = await createTestbed({ agents, interleave, people: [ada, bea] });
  const session = await bed.open(ada);
  const confused = { test: 'Potassium', patientId: bea.id };
  await expect(session.call('old-labs', getLabs, confused)).toHaveRefused(40903, { check: 'argument' });
  expect(bed.trace).toHaveAudited({ by: 'old-labs', event: 'request.refused', code: 40903 });
});
// #endregion
