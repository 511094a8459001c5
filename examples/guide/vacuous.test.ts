import { readFile } from 'node:fs/promises';
import { createTestbed, people, type TestPerson, withValues } from '@hmcp/testing';
import { expect, test } from 'vitest';
import '@hmcp/testing/vitest';
import { advise, advisor, allergies } from './allergies.js';

const ada = withValues(people.adalinde, ['Penicillin: anaphylaxis']);
const bea = withValues(people.beatrisa, ['Latex: contact dermatitis']);

/** What the same test says of another advisor, with other people. */
async function said(remembers: boolean, first: TestPerson, second: TestPerson, interleave: boolean): Promise<string> {
  await using bed = await createTestbed({ agents: [advisor(remembers), allergies], interleave, people: [first, second] });
  const session = await bed.open(first);
  await session.call('advisor', advise, {});
  await bed.switch(session, second);
  await session.call('advisor', advise, {});
  try {
    expect(bed.trace).toStayOnPatient();
    return 'passed';
  } catch (error) {
    return `${error}`;
  }
}

test('without declared values it is vacuous, as the guide shows, also with an advisor that does not remember', async () => {
  const { adalinde, beatrisa } = people;
  const [shown = ''] = (await said(true, adalinde, beatrisa, false)).split('\n\n');
  expect(shown).toContain('this test is vacuous');
  expect(await readFile('docs/guide/test.md', 'utf8')).toContain(shown);
  expect(await said(false, adalinde, beatrisa, false)).toContain('this test is vacuous');
  expect(await said(true, adalinde, beatrisa, true)).toContain('this test is vacuous');
});

test('with declared values, an advisor that remembers is caught', async () => {
  expect(await said(true, ada, bea, false)).toContain(
    'advisor advise about Beatrisa Testwright was delivered with values of Adalinde',
  );
  expect(await said(true, ada, bea, true)).toContain('this test is vacuous');
});
