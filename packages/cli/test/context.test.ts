import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openSqliteStore, type Session } from '@hmcp/context-manager';
import { describe, expect, test } from 'vitest';
import { askAtTerminal, typedLines } from '../src/typed-form.js';
import { freshFolder, NOW, type } from './terminal.js';

const BY = 'http://127.0.0.1:7000/mcp';
const session: Session = {
  v: 1,
  sid: 'ctx_one',
  version: 1,
  rev: 3,
  epoch: 2,
  state: 'active',
  owner: { issuer: 'http://127.0.0.1:7001', subject: 'dr-okafor' },
  client: 'portal',
  subject: { fhirServer: 'http://127.0.0.1:7002/fhir', patient: 'pt-ann-4711', pk: 'k'.repeat(43) },
  participants: ['orders', 'labs'],
  members: [{ clientId: 'orders', role: 'effector', delivery: 'push', joinedEpoch: 1 }],
  permits: [],
  decided: [],
  openedPk: 'k'.repeat(43),
  openedAt: NOW,
};

/** A state folder as a world leaves it. */
async function stateWith(...sessions: Session[]): Promise<string> {
  const state = await freshFolder();
  const file = join(state, 'context-manager.sqlite');
  const store = await openSqliteStore({ file, by: BY, now: () => NOW });
  for (const one of sessions)
    await store.create(one, `key-${one.sid}`, { event: 'session.opened', outcome: 0, by: BY, sid: one.sid });
  await store.close();
  const facts = {
    issuer: 'http://127.0.0.1:9',
    fhirServer: 'http://127.0.0.1:9/fhir',
    parties: [],
    accounts: [{ username: 'dr-okafor', password: 'x' }],
    client: { clientId: 'hmcp-cli', redirectUri: 'http://127.0.0.1:9/cb', scope: 'openid', keyFile: join(state, 'none.json') },
    manager: { resource: BY, participants: [], store: file, trusted: { issuer: 'http://127.0.0.1:7000' } },
  };
  await writeFile(join(state, 'world.json'), JSON.stringify(facts));
  return state;
}

describe('hmcp context show', () => {
  test('shows sessions, and names nobody', async () => {
    const state = await stateWith(session, { ...session, sid: 'ctx_two', state: 'closed', subject: null });
    const { code, stdout, stderr } = await type(['context', 'show', '--state', state]);
    expect([code, stderr]).toEqual([0, '']);
    for (const word of ['ctx_one', 'active, epoch 2', 'orders (effector, push)', 'ctx_two', 'closed'])
      expect(stdout).toContain(word);
    expect(stdout).not.toMatch(/pt-ann|dr-okafor|kkkk/);
    const one = await type(['context', 'show', 'ctx_two', '--state', state, '--json']);
    expect(JSON.parse(one.stdout)).toMatchObject({ type: 'session', sid: 'ctx_two', state: 'closed', client: 'portal' });
    expect(one.stdout).not.toMatch(/pt-ann|dr-okafor/);
  });

  test('names patient and person when asked to', async () => {
    const state = await stateWith(session);
    const { stdout } = await type(['context', 'show', '--ids', '--state', state]);
    expect(stdout).toMatch(/patient +pt-ann-4711\n +person +dr-okafor/);
  });

  test('says when there is none', async () => {
    const state = await stateWith();
    expect(await type(['context', 'show', '--state', state])).toMatchObject({ code: 1, stdout: '' });
    expect(await type(['context', 'show', 'ctx_x', '--state', state])).toMatchObject({ code: 1, stdout: '' });
  });
});

describe('hmcp context', () => {
  test.each([
    [[]],
    [['open']],
    [['show', 'a', 'b']],
    [['switch', 'ctx_one']],
    [['switch', '--to', '0']],
    [['switch', '--to', 'B']],
    [['show', '--nonsense']],
  ])('refuses %j in a sentence', async (argv) => {
    const { code, stdout, stderr } = await type(['context', ...argv, '--state', await freshFolder()]);
    expect([code, stdout]).toEqual([64, '']);
    expect(stderr).toMatch(/^hmcp context: [^\n]+; try hmcp context --help\n$/);
  });

  test('says that no world was started, and that one does not answer', async () => {
    expect(await type(['context', 'show', '--state', await freshFolder()])).toMatchObject({ code: 3, stdout: '' });
    const { code, stderr } = await type(['context', 'switch', '--state', await stateWith()]);
    expect([code, stderr.split('\n').length]).toEqual([3, 2]);
  });

  test('--help names its exit codes', async () => {
    const { code, stdout } = await type(['context', '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Exit codes: 0 .* 64 /s);
  });
});

describe('the audit of a session store', () => {
  test('is verified with the logs of its state folder', async () => {
    const state = await stateWith(session);
    const { code, stdout } = await type(['audit', 'verify', join(state, 'context-manager.sqlite'), state]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^(ok .*context-manager\.sqlite: 3 records, 1 run.*\n){2}$/);
  });

  test('in a file that is no store cannot be read', async () => {
    const file = join(await freshFolder(), 'x.sqlite');
    await writeFile(file, 'SQLite format 3\0nonsense');
    expect(await type(['audit', 'verify', file])).toMatchObject({ code: 3, stdout: expect.stringMatching(/^UNREADABLE/) });
  });
});

describe('a form at the terminal', () => {
  const dialog = {
    message: 'Opening: BAKER, Bo.',
    fields: [
      { name: 'birthDate', title: 'Date of birth', kind: 'date' as const, required: true },
      { name: 'last4', title: 'Record number', kind: 'text' as const, required: true },
    ],
    round: 1,
    target: { fhirServer: 'http://127.0.0.1:7002/fhir', patient: 'pt-bo' },
  };
  async function* chunks(...parts: (string | Uint8Array)[]) {
    yield* parts;
  }
  const ask = async (parts: (string | Uint8Array)[], change: Partial<typeof dialog> = {}) => {
    let said = '';
    const out = { write: (text: string) => (said += text) };
    const answer = await askAtTerminal({ ...dialog, ...change }, typedLines(chunks(...parts)), out);
    return { answer, said };
  };

  test('takes one line a field, however the lines arrive', async () => {
    const answer = { birthDate: '1961-03-27', last4: 'ÄB19' };
    expect((await ask(['1961-03-27\nÄB19\n'])).answer).toEqual(answer);
    expect((await ask(['1961-0', '3-27\r\n', ' ÄB19 ', '\r\n'])).answer).toEqual(answer);
    expect((await ask([...new TextEncoder().encode('1961-03-27\nÄB19')].map((byte) => Uint8Array.of(byte)))).answer).toEqual(
      answer,
    );
  });

  test('offers nothing to copy, and says when it asks again', async () => {
    expect((await ask(['\n'])).said).not.toMatch(/pt-bo|Once more/);
    expect((await ask(['\n'], { round: 2 })).said).toMatch(/^\nOnce more/);
  });

  test.each([
    [['\n']],
    [['1961-03-27\n\n']],
    [['1961-03-27\n   \n']],
    [[]],
    [['1961-03-27\n']],
  ])('takes %j for a decline', async (parts) => {
    expect((await ask(parts)).answer).toBe('decline');
  });

  test.each([
    ['yes\n', { sure: true }],
    ['YES\n', { sure: true }],
    ['y\n', 'decline'],
    ['no\n', 'decline'],
    ['\n', 'decline'],
  ])('takes %j to a question as %j', async (typed, expected) => {
    const fields = [{ name: 'sure', title: 'This is the patient I mean', kind: 'yes-no' as const, required: true }];
    const out = { write: () => undefined };
    expect(await askAtTerminal({ ...dialog, fields }, typedLines(chunks(typed)), out)).toEqual(expected);
  });
});
