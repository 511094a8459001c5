// #region declared
import { createTestbed, people, withValues } from '@hmcp/testing';
import { expect, test } from 'vitest';
import '@hmcp/testing/vitest';
import { advise, advisor, allergies } from './allergies.js';

const ada = withValues(people.adalinde, ['Penicillin: anaphylaxis']);
const bea = withValues(people.beatrisa, ['Latex: contact dermatitis']);
const agents = [advisor(), allergies];

test('what Ada must avoid is not told about Bea', async () => {
  await using bed = await createTestbed({ agents, interleave: false, people: [ada, bea] });
  const session = await bed.open(ada);
  await session.call('advisor', advise, {});
  await bed.switch(session, bea);
  await session.call('advisor', advise, {});
  expect(bed.trace).toStayOnPatient();
});
// #endregion
