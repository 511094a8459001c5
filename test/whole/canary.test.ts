import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { signIn } from '@hmcp/authorization-server';
import { patientSummaries, recordsOf } from '@hmcp/clinic';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Canaries } from './support/canaries.js';
import type { Ready } from './support/dev-world.js';
import { descendants, hasProcessTable } from './support/processes.js';
import { type Ended, hmcp, type Running, STORY, start } from './support/program.js';
import { type Exposed, exchanges, exposed } from './support/wire.js';

const RECORDING_WORLD = fileURLToPath(new URL('./support/recording-world.mjs', import.meta.url));

/** The people its patient picker shows, and whom each account may open. */
const PICKER = 'config/authorization-server.json';
/** Files of a state folder that must name people, and the fields they may hold. */
const EXCEPTIONS: Readonly<Record<string, RegExp>> = {
  [PICKER]: /^Patient\./,
  // Whom each session is on.
  'context-manager.sqlite': /^Patient\.id$/,
};

interface Place {
  readonly where: string;
  readonly text: string;
}

/** Every file of a folder and below: its name, and what is in it. */
async function filesOf(folder: string): Promise<Place[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const contents = files.map(async (file) => ({ where: relative(folder, file), text: await readFile(file, 'utf8') }));
  return [
    { where: 'file names', text: files.map((file) => relative(folder, file)).join('\n') },
    ...(await Promise.all(contents)),
  ];
}

async function titlesOf(program: Running): Promise<Place> {
  const titles = (await descendants(program.pid)).map(({ title }) => title);
  if (hasProcessTable) expect(titles.length).toBeGreaterThan(5);
  return { where: 'process titles', text: titles.join('\n') };
}

interface Visited {
  readonly page: string;
  readonly answer: string;
  readonly refusal: string;
  /** The dialog of a switch, and the same once more after a wrong answer. */
  readonly dialogs: readonly string[];
  /** The page after the switch, and the portal's answer to a form of the page before. */
  readonly after: string;
  readonly late: string;
  /** What a program is told of switch and visit. */
  readonly told: readonly string[];
}

/** A person's browser at the portal: asks, drafts, goes to the next patient; returns what it was answered. */
async function visitPortal({ portal, accounts }: Ready, data: string, given: readonly string[]): Promise<Visited> {
  const { username = '', password = '' } = accounts[0] ?? {};
  const cookies = (response: Response) => response.headers.getSetCookie().map((line) => line.split(';')[0] ?? '');
  const json = { accept: 'application/json' };
  let cookie = '';
  const signedIn = async (path: string, patient: number): Promise<void> => {
    const begun = await fetch(`${portal}${path}`, { redirect: 'manual', headers: { cookie } });
    const callback = await signIn({ url: begun.headers.get('location') ?? '', username, password, patient });
    const sent = [cookie, ...cookies(begun)].filter(Boolean).join('; ');
    const back = await fetch(callback, { redirect: 'manual', headers: { cookie: sent } });
    cookie = cookies(back).find((one) => one.startsWith('visit=')) ?? cookie;
  };
  const show = async (headers = {}): Promise<string> => (await fetch(portal, { headers: { cookie, ...headers } })).text();
  const hidden = (html: string, name: string): string => new RegExp(`name="${name}" value="([^"]+)"`).exec(html)?.[1] ?? '';
  const post = async (html: string, path: string, fields: Record<string, string>, headers = {}): Promise<string> => {
    const body = new URLSearchParams({ page: hidden(html, 'page'), ...fields });
    return (await fetch(`${portal}${path}`, { method: 'POST', body, headers: { cookie, ...headers } })).text();
  };

  await signedIn('/launch', 0);
  const page = await show();
  const answer = await post(page, '/ask', { reason: 'What?' }, json);
  const refusal = await post(page, '/ask', { reason: 'What?', laboratory: 'night-lab' }, json);
  const drafted = await post(page, '/draft', { kind: 'service', text: 'Repeat the panel' }, json);
  await signedIn('/switch', 1);
  const dialog = await show();
  const told = [drafted, await show(json)];
  const summaries = patientSummaries(await recordsOf(data));
  const [a, b] = given.map((word) => summaries.find(({ name }) => name.includes(word)));
  const confirm = { do: 'confirm', switch: hidden(dialog, 'switch'), recordNumberLast4: b?.identifierLast4 ?? '' };
  const again = await post(dialog, '/confirm', { ...confirm, round: '1', birthDate: a?.birthDate ?? '' });
  told.push(await post(dialog, '/confirm', { ...confirm, round: '2', birthDate: b?.birthDate ?? '' }, json));
  const late = await post(page, '/ask', { reason: 'What?' }, json);
  return { page, answer, refusal, dialogs: [dialog, again], after: await show(), late, told };
}

describe('canaries in every field of two charts', () => {
  const canaries = new Canaries();
  const given = (): string[] => [0, 1].map((nth) => canaries.of('Patient.name.0.given.0', nth));
  /** What was said and kept where nobody may be named, by kind. */
  const quiet: Record<'outputs' | 'stories' | 'states' | 'titles', Place[]> = {
    outputs: [],
    stories: [],
    states: [],
    titles: [],
  };
  let wire: Exposed;
  let worldStderr = '';
  let folder: string;
  let served: Ended;
  let portal: Awaited<ReturnType<typeof visitPortal>>;
  let pickerData: Place | undefined;
  let fromManager: string[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hmcp-whole-'));
    const data = join(folder, 'records');
    await canaries.writePeople(data);

    // Side by side: a story, and a world of its own to call.
    const story = start([STORY, '--json', '--keep', '--data', data], { env: { TMPDIR: folder } });
    const [state, capture] = [join(folder, 'state'), join(folder, 'capture.jsonl')];
    const world = start([RECORDING_WORLD, data, state, capture]);
    await story.line('"type":"done"');
    quiet.titles.push(await titlesOf(story));
    const told = await story.stop('SIGINT');
    const last = JSON.parse(told.stdout.trimEnd().split('\n').at(-1) ?? '') as object;
    expect({ ...last, stderr: told.stderr }).toMatchObject({ type: 'done', ok: true, stderr: '' });
    quiet.stories.push({ where: 'story stdout', text: told.stdout }, { where: 'story stderr', text: told.stderr });
    const kept = (await readdir(folder)).find((name) => name.startsWith('hmcp-story-')) ?? '';
    quiet.states.push(...(await filesOf(join(folder, kept))));

    try {
      const ready = JSON.parse(await world.line('"type":"ready"')) as Ready;
      const call = (...argv: string[]) => hmcp('call', ...argv, '--state', state);
      served = await call('triage', 'assess', '{"reason":"follow-up"}');
      const refused = [
        await call('labs', 'list-results', JSON.stringify({ patientId: canaries.of('Patient.id', 1) })),
        await call('triage', 'assess', '{"reason":"x","laboratory":"reference-lab"}', '--json'),
        await call('triage', 'assess', '{"reason":"x","laboratory":"night-lab"}'),
        await call('labs', 'rebuild-index', '--json'),
        await call('labs', 'list-results', '{"category":7}'),
      ];
      expect(refused.map(({ code }) => code)).toEqual([1, 1, 1, 1, 1]);
      portal = await visitPortal(ready, data, given());
      const intent = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(refused[2]?.stderr ?? '')?.[0] ?? '';
      const explained = await hmcp('explain', intent, '--state', state);
      const verified = await hmcp('audit', 'verify', state);
      quiet.titles.push(await titlesOf(world));
      quiet.outputs.push(
        { where: 'world stdout', text: world.said.stdout },
        { where: 'served call stderr', text: served.stderr },
      );
      for (const [i, { stdout, stderr }] of [...refused, explained, verified].entries())
        quiet.outputs.push({ where: `output ${i}`, text: stdout + stderr });
      const [show, switched] = [
        await hmcp('context', 'show', '--state', state),
        await hmcp('context', 'show', '--json', '--state', state),
      ];
      expect([show.code, switched.code]).toEqual([0, 0]);
      for (const { stdout, stderr } of [show, switched]) quiet.outputs.push({ where: 'context show', text: stdout + stderr });
      for (const text of [portal.refusal, portal.late, ...portal.told])
        quiet.outputs.push({ where: 'portal for programs', text });
    } finally {
      worldStderr = (await world.stop('SIGTERM')).stderr;
    }
    const files = await filesOf(state);
    pickerData = files.find(({ where }) => where === PICKER);
    quiet.states.push(...files);
    const passed = await exchanges(capture);
    wire = exposed(passed);
    fromManager = passed.filter(({ to }) => to === 'context-manager').map(({ response }) => response);
  }, 90_000);
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const search = (places: readonly Place[]) => places.flatMap(({ where, text }) => canaries.find(where, text));

  it('are many, and are where a person may see them: the answers, the banner, the picker', () => {
    expect(canaries.size).toBeGreaterThan(500);
    expect(served.code).toBe(0);
    expect(canaries.find('answer', served.stdout).length).toBeGreaterThan(10);
    expect(canaries.find('answer', portal.answer).length).toBeGreaterThan(10);
    expect(canaries.find('banner', portal.page).map(({ field }) => field)).toContain('Patient.birthDate');
    expect(search(pickerData ? [pickerData] : []).map(({ field }) => field)).toContain('Patient.name.family');
  });

  it('are not in what the story prints for programs, nor on its standard error', () => {
    expect(quiet.stories.every(({ text }, i) => i > 0 || text.length > 1000)).toBe(true);
    expect(search(quiet.stories)).toEqual([]);
  });

  it('are not in what the commands print about refusals, explanations and audits', () => {
    expect(quiet.outputs.length).toBeGreaterThan(8);
    expect(search(quiet.outputs)).toEqual([]);
  });

  it('are in no file of a state folder but the listed ones: not in audit, configuration, keys, nor file names', () => {
    const looked = ['audit/labs.jsonl', 'audit/portal.jsonl', 'config/fhir.json', 'world.json', 'orders.jsonl'];
    for (const file of ['file names', ...looked, ...Object.keys(EXCEPTIONS)])
      expect([file, quiet.states.filter(({ where }) => where === file)]).toEqual([file, [expect.anything(), expect.anything()]]);
    expect(search(quiet.states).filter(({ where, field }) => !EXCEPTIONS[where]?.test(field))).toEqual([]);
  });

  it('are in the dialog of a switch, both names, and in no other page: not the new patient’s identifiers, not the old one after it', () => {
    const fields = (text: string) => new Set(canaries.find('page', text).map(({ field }) => field));
    const [first = '', second = ''] = given();
    for (const dialog of portal.dialogs) {
      expect(dialog).toContain(first);
      expect(dialog).toContain(second);
      expect(dialog).not.toContain(canaries.of('Patient.birthDate', 1));
      expect(fields(dialog)).not.toContain('Patient.id');
    }
    expect(portal.dialogs).toHaveLength(2);
    expect(portal.told.at(-1)).toContain('"committed"');
    expect(portal.after).toContain(second);
    expect(portal.after).not.toContain(first);
    expect(canaries.find('late', portal.late)).toEqual([]);
  });

  it('are in what the manager says only as the ids it seals and the name in its dialog', () => {
    expect(fromManager.length).toBeGreaterThan(10);
    const fields = new Set(search(fromManager.map((text) => ({ where: 'manager', text }))).map(({ field }) => field));
    expect([...fields].filter((field) => !/^Patient\.(id|name\..*)$/.test(field))).toEqual([]);
    expect(fields).toContain('Patient.id');
    expect(fields).toContain('Patient.name.family');
  });

  it.skipIf(!hasProcessTable)('are in no title of a process', () => {
    expect(search(quiet.titles)).toEqual([]);
  });

  it('are in no error that crosses the wire', () => {
    expect(new Set(wire.errors.map(({ where }) => where)).size).toBeGreaterThan(3);
    expect(search(wire.errors)).toEqual([]);
  });

  it('are in no _meta that crosses the wire, but for the envelope', () => {
    expect(wire.metas.filter(({ text }) => text.length > 2).length).toBeGreaterThan(20);
    expect(search(wire.metas)).toEqual([]);
    const envelopes = search(wire.envelopes.map((text) => ({ where: 'envelope', text })));
    expect(new Set(envelopes.map(({ field }) => field))).toEqual(new Set(['Patient.id']));
  });

  it('are caught where they were planted: the log line of one party, and nothing else on the standard error of the world', () => {
    expect(canaries.find('world stderr', worldStderr)).toEqual([
      { where: 'world stderr', field: 'Patient.name.0.given.0', form: 'plain' },
    ]);
    const [line, ...more] = worldStderr.split('\n').filter((one) => canaries.find('', one).length > 0);
    expect(line).toContain('leaky-lab');
    expect(more).toEqual([]);
  });

  it.each([
    ['as it is', 'plain', (text: string) => text],
    ['in base64url, as inside a token', 'base64', (text: string) => Buffer.from(`{"sub":"x${text}"}`).toString('base64url')],
    [
      'in percent encoding, as inside a URL',
      'percent',
      (text: string) => `q=${text.replace('n', '%6e').replace('.', '%2E').replace('-', '%2D')}`,
    ],
    ['in hexadecimal', 'hex', (text: string) => Buffer.from(text).toString('hex')],
  ])('are caught %s in a copy of a quiet output', (_, form, write) => {
    const [{ text } = { text: '' }] = quiet.stories;
    for (const field of [
      'Patient.name.family',
      'Observation.valueQuantity.value',
      'MedicationRequest.note.text',
      'Patient.birthDate',
    ]) {
      const at = Math.floor(text.length / 2);
      const copy = `${text.slice(0, at)} ${write(canaries.of(field))} ${text.slice(at)}`;
      expect(canaries.find('copy', copy)).toEqual([{ where: 'copy', field: expect.stringContaining(field), form }]);
    }
  });
});
