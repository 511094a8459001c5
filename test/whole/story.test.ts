import { mkdir, mkdtemp, readdir, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { recordsOf, writeShippedPeople } from '@hmcp/clinic';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { changeFolder, everybody } from './support/people.js';
import { descendants, hasProcessTable, survivors } from './support/processes.js';
import { type Ended, freshFolder, type Running, run, STORY, start } from './support/program.js';

const TYPES = ['ready', 'launch', 'call', 'hop', 'refused', 'audit', 'vote', 'switch', 'dropped', 'done'];
/** Parties of the story's world. One more process, the bedside laboratory, is started by triage and spoken to over a pipe. */
const PARTIES = 15;
const OWN_PROCESSES = PARTIES - 1;
const { HMCP_DATA: DATA } = process.env;

interface Line {
  readonly type: string;
  readonly code?: number;
  readonly check?: string;
  readonly [member: string]: unknown;
}

function linesOf(stdout: string): Line[] {
  expect(stdout.endsWith('\n')).toBe(true);
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

/** The story for programs, on the shipped people or on a folder. */
async function playsFor(folder: string | undefined, played: Promise<Ended>): Promise<void> {
  const { code, stdout, stderr } = await played;
  expect(stderr).toBe('');
  const lines = linesOf(stdout);
  expect(lines.filter(({ type }) => !TYPES.includes(type))).toEqual([]);
  expect(lines[0]).toMatchObject({ type: 'ready', processes: PARTIES, records: folder === undefined ? 'shipped' : 'folder' });
  expect(lines.at(-1)).toMatchObject({ type: 'done', ok: true, failed: 0, otherPatientBytes: 0 });
  expect(code).toBe(0);

  const refused = lines.filter(({ type }) => type === 'refused');
  for (const [refusal, check] of [
    [40903, 'argument'],
    [40903, 'header'],
    [40903, 'equality'],
    [40903, 'result'],
    [40303, 'operation'],
    [401, 'token'],
    [40903, 'seal'],
    [42801, 'seal'],
    [40901, 'result'],
    [40901, 'epoch'],
    [40302, 'argument'],
    [42802, 'permit'],
    [42802, 'seal'],
    [40301, 'session'],
  ])
    expect(refused).toContainEqual(expect.objectContaining({ code: refusal, check }));
  expect(refused).toContainEqual(
    expect.objectContaining({ agent: 'night-lab', tool: 'list-results', hop: 2, code: 40903, check: 'result' }),
  );
  const served = lines.filter(({ type }) => type === 'hop').map(({ agent }) => agent);
  for (const party of ['triage', 'labs', 'medications', 'fhir']) expect(served).toContain(party);
  expect(lines).toContainEqual({ type: 'audit', changedBytes: 1, verified: false });
  const votes = lines.filter(({ type }) => type === 'vote');
  expect(Object.fromEntries(votes.map(({ agent, vote }) => [agent, vote]))).toEqual({
    'bedside-lab': 'accept',
    labs: 'accept',
    medications: 'accept',
    orders: 'accept_with_warning',
    triage: 'accept',
  });
  expect(lines).toContainEqual({ type: 'switch', agent: 'context-manager', result: 'committed', epoch: 2 });
  expect(lines).toContainEqual({ type: 'dropped', agent: 'portal', code: 40901, check: 'result' });
  expect(lines.filter(({ pk }) => pk !== undefined).every(({ pk }) => /^[\w-]{43}$/.test(String(pk)))).toBe(true);

  for (const anybody of everybody(await recordsOf(folder))) expect(stdout).not.toMatch(anybody);
}

/** The story for a person, for programs, and on records that make it fail: played side by side, each a world of its own. */
let plays: Readonly<Record<'person' | 'programs' | 'failing', Running>>;
let failing: { readonly folder: string; readonly temporary: string };
beforeAll(async () => {
  const person = start([STORY], { env: { FORCE_COLOR: '1' } });
  await person.line('HMCP');
  const [folder, temporary] = await Promise.all(
    ['records', 'state'].map((name) => mkdtemp(join(tmpdir(), `hmcp-whole-${name}-`))),
  );
  failing = { folder: folder ?? '', temporary: temporary ?? '' };
  await writeShippedPeople(failing.folder);
  // Somebody typed the other patient's name into the chart: free text that no check can read.
  await changeFolder(failing.folder, (resource, file) => {
    if (file === 'person-1.json' && resource.resourceType === 'Observation')
      (resource.code as { text?: string }).text += ' (see Beatrisa Testwright)';
  });
  const env = { TMPDIR: failing.temporary };
  plays = { person, programs: start([STORY, '--json']), failing: start([STORY, '--json', '--data', failing.folder], { env }) };
});
afterAll(async () => {
  await Promise.all(Object.values(plays).map(({ ended }) => ended));
  for (const folder of Object.values(failing)) await rm(folder, { recursive: true, force: true });
});

describe('the story for programs (--json)', () => {
  it('holds on the shipped people: JSON lines only, every refusal by its code, nobody named, no byte of the other one', () =>
    playsFor(undefined, plays.programs.ended));

  it.skipIf(DATA === undefined)(
    `holds on the folder of HMCP_DATA in the same way${DATA === undefined ? ' (skipped: HMCP_DATA names no folder)' : ''}`,
    () => playsFor(DATA, run([STORY, '--json', '--data', DATA ?? ''])),
  );
});

describe('the story for a person', () => {
  it('begins at once, is plain in a pipe, fits 100 columns, and ends with a card and three commands', async () => {
    const { code, stdout, stderr, firstLineMs } = await plays.person.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    // A second is promised; a machine that runs every other test meanwhile gets two.
    expect(firstLineMs).toBeLessThan(2000);
    expect(stdout.includes('\u001b')).toBe(false);
    expect(stdout.split('\n').filter((line) => [...line].length > 100)).toEqual([]);
    for (const scene of ['0. ', '1. ', '2. ', '3. ', '4. ', '5. ', '6. ', '7. ', '8. ']) expect(stdout).toContain(`\n${scene}`);
    expect(stdout).toMatch(/^ {3}labs {2}list-results +refused 40903 at labs: argument$/m);
    expect(stdout).toMatch(/expectations held +(\d+) of \1$/m);
    expect(stdout).toMatch(/other patient: left a protected hop +0 bytes$/m);
    expect(stdout).toMatch(/other patient: sent by the bare server +[1-9][\d,]* bytes$/m);
    expect(stdout).toMatch(/other patient: sent by the faulty laboratory +[1-9][\d,]* bytes$/m);
    expect(stdout.match(/^ {5}npm run .*$/gm)).toHaveLength(3);
  });

  it('that fails an expectation says what was expected, what came and which command shows it, keeps the state, and exits 1', async () => {
    const { code, stdout, stderr } = await plays.failing.ended;
    expect(code).toBe(1);
    expect(linesOf(stdout).at(-1)).toMatchObject({ type: 'done', ok: false, failed: 3 });
    const [, expected, got, look] =
      /FAILED: bytes of the other patient that left a protected hop\n {5}expected (.*)\n {5}got {6}(.*)\n {5}look {5}(.*)\n/.exec(
        stderr,
      ) ?? [];
    expect(expected).toBe('0');
    expect(Number(got)).toBeGreaterThan(0);
    expect(look).toMatch(/^npm run -s hmcp -- (explain|audit verify) /);
    const shown = await run([look ?? ''], { shell: true });
    expect(shown).toMatchObject({ code: 0, stderr: '' });
    expect(shown.stdout).toContain('records');
  });
});

describe('records that cannot be used', () => {
  it.each([
    ['an empty folder', async () => {}, 'holds no .json file'],
    ['a folder without a usable chart', (folder: string) => keepOnly(folder, 'person-4.json'), 'the records hold none'],
    ['a folder with one usable chart', (folder: string) => keepOnly(folder, 'person-1.json'), 'the records hold one'],
    [
      'a file that is no JSON',
      (folder: string) => writeFile(join(folder, 'a.json'), '{"name":"Ann'),
      'Not readable as JSON: a.json',
    ],
    ['a file that is no Bundle', (folder: string) => writeFile(join(folder, 'a.json'), '[]'), 'not a FHIR R4 Bundle'],
  ])('%s: one sentence, nothing started, exit 2', async (_, make, says) => {
    const folder = await freshFolder();
    await make(folder);
    const { code, stdout, stderr } = await run([STORY, '--json'], { env: { HMCP_DATA: folder } });
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(says);
    expect(stderr).toMatch(/^npm start: [^\n]+\.\n$/);
  });

  it('a missing folder: one sentence, exit 2, also when its name is given on the command line', async () => {
    const { code, stderr } = await run([STORY, '--data', join(await freshFolder(), 'absent')]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^npm start: [^\n]*does not exist[^\n]*\n$/);
  });

  it('an argument nobody knows: one sentence that does not repeat it, exit 64', async () => {
    const { code, stdout, stderr } = await run([STORY, '--patient=5eed0a01']);
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
    expect(stderr).toMatch(/^npm start: [^\n]+\n$/);
    expect(stderr).not.toContain('5eed0a01');
  });
});

describe.skipIf(!hasProcessTable)(`a stopped story${hasProcessTable ? '' : ' (skipped: no process table in /proc)'}`, () => {
  interface Stopped {
    readonly temporary: string;
    readonly story: Running;
  }
  const [INT, TERM, KILL] = ['"type":"launch"', '"type":"ready"', '"type":"ready"'] as const;
  const stories = new Map<string, Stopped>();
  beforeAll(async () => {
    const begin = async (signal: string, line: string): Promise<void> => {
      const temporary = await mkdtemp(join(tmpdir(), 'hmcp-whole-'));
      const story = start([STORY, '--json'], { env: { TMPDIR: temporary } });
      stories.set(signal, { temporary, story });
      await story.line(line);
    };
    await Promise.all([begin('SIGINT', INT), begin('SIGTERM', TERM), begin('SIGKILL', KILL)]);
  });
  afterAll(async () => {
    for (const { temporary, story } of stories.values()) {
      await story.stop('SIGTERM');
      await rm(temporary, { recursive: true, force: true });
    }
  });
  const begun = (signal: string): Stopped => {
    const found = stories.get(signal);
    if (found === undefined) throw new TypeError(`no story for ${signal}`);
    return found;
  };

  it.each([
    'SIGINT',
    'SIGTERM',
  ] as const)('by %s in the middle leaves no process and no folder, and exits 130', async (signal) => {
    const { temporary, story } = begun(signal);
    const children = await descendants(story.pid);
    expect(children.length).toBeGreaterThanOrEqual(OWN_PROCESSES);
    const { code, stderr } = await story.stop(signal);
    expect({ code, stderr }).toEqual({ code: 130, stderr: '' });
    expect(await survivors(children)).toEqual([]);
    expect(await readdir(temporary)).toEqual([]);
  });

  it('by SIGINT while its processes start leaves none of them', async () => {
    const temporary = await freshFolder();
    const story = start([STORY, '--json'], { env: { TMPDIR: temporary } });
    const children = await vi.waitFor(async () => {
      const found = await descendants(story.pid);
      expect(found.length).toBeGreaterThan(2);
      return found;
    }, 10_000);
    const { code, stdout, stderr } = await story.stop('SIGINT');
    expect({ code, stdout, stderr }).toEqual({ code: 130, stdout: '', stderr: '' });
    expect(await survivors(children)).toEqual([]);
    expect(await readdir(temporary)).toEqual([]);
  });

  it('that is killed outright takes its processes with it', async () => {
    const { story } = begun('SIGKILL');
    const children = await descendants(story.pid);
    expect(children.length).toBeGreaterThanOrEqual(OWN_PROCESSES);
    await story.stop('SIGKILL');
    await vi.waitFor(async () => expect(await survivors(children)).toEqual([]), 10_000);
  });
});

async function keepOnly(folder: string, person: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const name of await writeShippedPeople(folder)) if (name !== person) await unlink(join(folder, name));
}
