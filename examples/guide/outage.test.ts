import { createTestbed, people } from '@hmcp/testing';
import { expect, test } from 'vitest';
import '@hmcp/testing/vitest';
import { getLabs, writeNote } from './contracts.js';
import { notes, part } from './notes.js';
import { oldLabs } from './old-labs.js';

// What docs/guide/operate.md says of calls while the context manager does not answer.

const { adalinde: ada, beatrisa: bea } = people;
const agents = [oldLabs, { agent: notes, ...part }];

async function visit() {
  const bed = await createTestbed({ agents, interleave: false, people: [ada, bea] });
  const session = await bed.open(ada);
  return {
    bed,
    session,
    /** The next request of each of these kinds gets no answer. */
    lose(...names: string[]): void {
      for (const name of names) bed.fault('context-manager', { name }, 'request lost');
    },
    [Symbol.asyncDispose]: () => bed.close(),
  };
}
const RENEW = 'dev.hmcp/context.renew';

test('what is read goes on until its seal ends, is refused then, and goes on when the manager is back', async () => {
  await using ward = await visit();
  ward.bed.clock.advance(19_000);
  await ward.session.call('old-labs', getLabs, {}); // its seal has more than ten seconds left: nobody asks
  ward.bed.clock.advance(6_000);
  ward.lose(RENEW);
  await ward.session.call('old-labs', getLabs, {}); // the seal in hand
  ward.bed.clock.advance(6_000);
  ward.lose(RENEW);
  await expect(ward.session.call('old-labs', getLabs, {})).toHaveRefused(50301, { check: 'session' });
  await ward.session.call('old-labs', getLabs, {});
  expect(ward.session.epoch).toBe(1);
});

test('nothing is written from the first moment', async () => {
  await using ward = await visit();
  ward.lose('dev.hmcp/context.permit');
  await expect(ward.session.call('notes', writeNote, { text: 'x' })).toHaveRefused(50301);
});

test('nobody opens a session, but for one of the program itself, which may not write', async () => {
  await using ward = await visit();
  for (let times = 0; times < 3; times += 1) ward.lose('hmcp-context-open');
  await expect(ward.bed.open(ada)).toHaveRefused(50301);
  const own = await ward.bed.open(ada, { assurance: 'process' });
  await own.call('old-labs', getLabs, {});
  await expect(own.call('notes', writeNote, { text: 'x' })).toHaveRefused(42802, { check: 'seal' });
});

test('a switch under way ends in doubt: nothing is shown until the manager has said how it ended', async () => {
  await using ward = await visit();
  for (let times = 0; times < 12; times += 1) ward.lose('hmcp-context-switch', 'dev.hmcp/context.get');
  const before = ward.bed.clock.now();
  const outcome = await ward.bed.switch(ward.session, bea);
  expect(outcome.result).toBe('pending');
  expect(ward.bed.clock.now() - before).toBe(18_500); // waits between questions that are refused at once
  await expect(ward.session.call('old-labs', getLabs, {})).toHaveRefused(50301);
});
