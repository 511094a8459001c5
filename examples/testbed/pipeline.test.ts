// #region late
import { createTestbed, people } from '@hmcp/testing';
import { expect, test } from 'vitest';
import '@hmcp/testing/vitest';
import { assess, labs, leaky, listResults, tell, triage } from './agents.js';

const { adalinde: ann, beatrisa: bo } = people;

test('a late answer about Ann never reaches Bo', async () => {
  await using bed = await createTestbed({ agents: [triage, labs], people: [ann, bo] });
  const session = await bed.open(ann);
  const held = bed.hold('labs', listResults); // stops there until released; no timers
  const late = session.call('triage', assess, { reason: 'cough' });
  await held.reached;
  await bed.switch(session, bo); // grant and confirmation answered by the testbed's person
  held.release();
  await expect(late).toHaveRefused(40901);
  expect(bed.trace).toStayOnPatient(); // and bed.trace.print() shows every hop
});
// #endregion late

// #region served
test('triage asks the laboratory for the same patient', async () => {
  await using bed = await createTestbed({ agents: [triage, labs], people: [ann, bo] });
  const session = await bed.open(ann);
  const { considered } = await session.call('triage', assess, { reason: 'cough' });
  expect(considered).toBeGreaterThan(0);
  expect(bed.trace).toHaveAudited({ by: 'labs', event: 'request.served', actors: ['triage'] });
  expect(bed.trace).toStayOnPatient({ without: ['triage assess'] }); // a count is nobody's
});
// #endregion served

// #region caught
test('a value remembered across patients is caught', async () => {
  await using bed = await createTestbed({ agents: [leaky()], people: [ann] });
  const session = await bed.open(ann);
  await session.call('triage', tell, {});
  expect(() => expect(bed.trace).toStayOnPatient()).toThrow('was delivered with values of Adalinde Testwright’s double');
});
// #endregion caught
