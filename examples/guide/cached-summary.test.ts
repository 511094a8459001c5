import { createTestbed, people } from '@hmcp/testing';
import { expect, test } from 'vitest';
import '@hmcp/testing/vitest';
import { summary } from './cached-summary.js';
import { summarize } from './contracts.js';
import { oldLabs } from './old-labs.js';

const { adalinde: ada, beatrisa: bea } = people;

// The guide has the reader run the first test of pipeline.test.ts with this agent, and shows what it says.
test('the summary that remembers fails the test of the guide', async () => {
  await using bed = await createTestbed({ agents: [summary, oldLabs], interleave: false, people: [ada, bea] });
  const session = await bed.open(ada);
  await session.call('summary', summarize, { above: 2 });
  await bed.switch(session, bea);
  await session.call('summary', summarize, { above: 2 });
  expect(() => expect(bed.trace).toStayOnPatient()).toThrow('with values of Adalinde Testwright (5.873)');
});
