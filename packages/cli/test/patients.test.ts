import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isPickable, patientSummaries, shippedRecords } from '@hmcp/clinic';
import { expect, test } from 'vitest';
import { planWorld } from '../src/world-plan.js';
import { freshFolder, type } from './terminal.js';

const people = patientSummaries(shippedRecords()).filter(isPickable);

/** Nobody listens there. */
const ports: string[] = [];
function portOf(name: string): number {
  if (!ports.includes(name)) ports.push(name);
  return 7000 + ports.indexOf(name);
}

/** The files of a world that was started, or looks so. */
async function stateOf(closedTo: readonly string[] = []): Promise<string> {
  const state = await freshFolder();
  for (const folder of ['keys', 'config', 'audit']) await mkdir(join(state, folder));
  const plan = await planWorld({ records: shippedRecords(), state, closedTo }, (name) => `http://127.0.0.1:${portOf(name)}`);
  for (const { name, config } of plan.processes) await writeFile(join(state, 'config', `${name}.json`), JSON.stringify(config));
  await writeFile(join(state, 'world.json'), JSON.stringify(plan.facts));
  return state;
}

test('hmcp patients lists place, id, date of birth and name of everybody an account may open', async () => {
  const state = await stateOf();
  const { code, stdout, stderr } = await type(['patients', '--state', state]);
  expect([code, stderr]).toEqual([0, '']);
  const lines = stdout.trimEnd().split('\n');
  expect(lines.map((line) => Number(line.slice(0, 4)))).toEqual(people.map((_, at) => at + 1));
  for (const { id, name, birthDate } of people)
    expect(lines.filter((line) => [id, name, birthDate].every((part) => line.includes(part)))).toHaveLength(1);
});

test('and nobody whom it may not', async () => {
  const [closed, ...open] = people.map(({ id }) => id);
  const state = await stateOf([closed ?? '']);
  const { stdout } = await type(['patients', '--account', 'visiting-nurse', '--state', state]);
  expect(stdout).not.toContain(closed);
  for (const id of open) expect(stdout).toContain(id);
  const nobody = await stateOf(people.map(({ id }) => id));
  const answer = await type(['patients', '--account', 'visiting-nurse', '--state', nobody]);
  expect(answer).toEqual({ code: 1, stdout: '', stderr: 'hmcp patients: visiting-nurse may open nobody\n' });
});

test.each([
  ['an account that is none', 'config', (text: string) => text, ['--account', 'x'], 64],
  ['a configuration that is no JSON', 'config', () => '{', [], 3],
  ['a configuration of another version', 'config', () => '{"people":[]}', [], 3],
  ['a world that is no world', 'world', () => '{}', [], 3],
] as const)('says so of %s', async (_, file, spoil, argv, code) => {
  const state = await stateOf();
  const path = join(state, file === 'world' ? 'world.json' : 'config/authorization-server.json');
  await writeFile(path, spoil(await readFile(path, 'utf8')));
  const answer = await type(['patients', ...argv, '--state', state]);
  expect(answer).toEqual({ code, stdout: '', stderr: expect.stringMatching(/^hmcp patients: [^\n]+\n$/) });
});

test('a name that drives the terminal does not', async () => {
  const state = await stateOf();
  const path = join(state, 'config/authorization-server.json');
  const config = JSON.parse(await readFile(path, 'utf8')) as { people: { name: string }[] };
  await writeFile(
    path,
    JSON.stringify({ ...config, people: config.people.map((one) => ({ ...one, name: 'a\u001b[2J\u202eb' })) }),
  );
  for (const argv of [[], ['--json']]) {
    const { stdout } = await type(['patients', ...argv, '--state', state]);
    for (const hidden of ['\u001b', '\u202e']) expect(stdout).not.toContain(hidden);
    expect(stdout).toContain(people[0]?.id);
  }
});
