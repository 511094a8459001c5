import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ExtraParty, startWorld, type World, WorldError } from '@hmcp/cli/world';
import { chooseCharts, type Records, RecordsError, recordsOf, TooFewCharts } from '@hmcp/clinic';
import { ByteCounter } from './byte-counter.js';
import { Expectations } from './expectations.js';
import { ManagerTrail } from './manager-trail.js';
import { audited, verifyLogs } from './scene-audit.js';
import { chain } from './scene-chain.js';
import { danger } from './scene-danger.js';
import { fences } from './scene-fences.js';
import { launch } from './scene-launch.js';
import { refusals } from './scene-refusals.js';
import { seals } from './scene-seals.js';
import { switched } from './scene-switch.js';
import type { Stage } from './stage.js';
import type { Teller } from './teller.js';
import { Trail } from './trail.js';
import { Wire } from './wire.js';

/** How the story is played. */
export interface PlayOptions {
  readonly teller: Teller;
  readonly data: string | undefined;
  readonly keep: boolean;
}

/** Agents whose answers must never hold anything of the other patient. */
const PROTECTED = ['triage', 'labs', 'medications', 'night-lab', 'portal', 'fhir'];

/** Plays every scene. @returns the exit code */
export async function play({ teller, data: folder, keep }: PlayOptions): Promise<number> {
  const began = performance.now();
  const data = folder === undefined ? undefined : resolve(folder);
  let records: Records;
  let charts: ReturnType<typeof chooseCharts>;
  try {
    records = await recordsOf(data);
    charts = chooseCharts(records);
  } catch (error) {
    if (!(error instanceof TooFewCharts || error instanceof RecordsError)) throw error;
    process.stderr.write(`npm start: ${error.message}\n`);
    return 2;
  }
  const { a, b, oneFamilyName } = charts;
  teller.say(
    `Records: ${data === undefined ? 'the synthetic people this project ships' : `the folder ${folder}`}. Patient A is ${a.patient.name}; the other one is ${b.patient.name}${oneFamilyName ? ', of the same family name' : ''}.`,
  );

  const state = await mkdtemp(join(tmpdir(), 'hmcp-story-'));
  const counter = new ByteCounter(records, b.patient.id);
  const wire = new Wire();
  const watching = [counter.see, wire.see];
  const expectations = new Expectations(teller, state);
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  let world: World | undefined;
  let held = false;
  try {
    world = await startWorld({
      records,
      data,
      state,
      closedTo: [a.patient.id],
      extras: EXTRAS,
      // Fifteen processes on a machine that may have other work: slow is not silent.
      switchTiming: { voteMs: 30_000, drainMs: 30_000 },
      logLevel: 'error',
      record: (exchange) => {
        for (const see of watching) see(exchange);
      },
      signal: stop.signal,
    });
    const { facts } = world;
    const stage: Stage = {
      teller,
      expectations,
      facts,
      records,
      a: a.patient,
      b: b.patient,
      counter,
      trail: new Trail(facts),
      managerTrail: new ManagerTrail(facts.manager.store),
      wire,
      world,
      watch: ({ see }) => watching.push(see),
    };
    const source = data === undefined ? 'shipped' : 'folder';
    const ended = await Promise.race([scenes(stage, began, source), world.failed, whenAborted(stop.signal)]);
    if (ended === 'stopped') return STOPPED;
    if (ended !== 'told') throw new WorldError('ended', ended);
    held = expectations.failed === 0;
    if (keep) {
      tellWorld(world, teller);
      await Promise.race([world.failed, whenAborted(stop.signal)]);
    }
    return held ? 0 : 1;
  } catch (error) {
    if (stop.signal.aborted) return STOPPED;
    process.stderr.write(`   FAILED: the story could not go on: ${sentenceOf(error)}\n`);
    teller.event({ type: 'done', ok: false, expectations: expectations.count, failed: expectations.failed + 1 });
    return 1;
  } finally {
    teller.end();
    await world?.close();
    if (stop.signal.aborted ? !keep : held && !keep) await rm(state, { recursive: true, force: true });
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}

/** Exit code of a story that was stopped, as a shell gives it after Ctrl-C. */
const STOPPED = 130;

/** Parties that only the story has. */
const EXTRAS: readonly ExtraParty[] = [
  { name: 'front-desk', module: program('bare-server'), audits: false },
  {
    name: 'reference-lab',
    module: program('faulty-labs'),
    scope: 'patient/Observation.rs',
    calledBy: ['triage'],
    audits: false,
  },
  { name: 'night-lab', module: program('night-lab'), scope: 'patient/Observation.rs', calledBy: ['triage'] },
  { name: 'slow-lab', module: program('slow-lab'), scope: 'patient/Observation.rs', calledBy: ['portal'] },
  {
    name: 'bedside-lab',
    module: program('bedside-lab'),
    scope: 'patient/Observation.rs',
    calledBy: ['triage'],
    childOf: 'triage',
    participates: true,
  },
  { name: 'held-orders', module: program('held-orders'), scope: 'patient/hmcp:write', effector: true },
  { name: 'note-reader', module: program('note-reader'), scope: 'patient/hmcp:read' },
];

/** Every scene, then the end card. */
async function scenes(stage: Stage, began: number, source: 'shipped' | 'folder'): Promise<'told'> {
  const { teller, expectations, facts, counter } = stage;
  const ready = (performance.now() - began) / 1000;
  teller.say(`${facts.parties.length} processes are ready after ${ready.toFixed(1)} s, each on its own port of this machine.`);
  teller.event({ type: 'ready', processes: facts.parties.length, seconds: Number(ready.toFixed(1)), records: source });

  await danger(stage);
  const launched = await launch(stage);
  await chain(stage, launched);
  await refusals(stage, launched);
  await audited(stage);
  await seals(stage, launched);
  await switched(stage, launched);
  await fences(stage, launched);
  teller.say('The audit once more, with everything since:');
  const verified = await verifyLogs(stage);

  const leaked = PROTECTED.reduce((sum, party) => sum + counter.bytes(party), 0);
  expectations.equal('bytes of the other patient that left a protected hop', leaked, 0);
  expectations.truthy('the counter counts: bytes the bare server sent', counter.bytes('front-desk') > 0);
  expectations.truthy('the counter counts: bytes the faulty laboratory sent', counter.bytes('reference-lab') > 0);
  const seconds = (performance.now() - began) / 1000;
  const { failed, count, hops } = expectations;
  const figures = { requests: counter.requests, hops, refusals: expectations.refusals, seconds, failed };
  teller.event({
    type: 'done',
    ok: failed === 0,
    expectations: count,
    ...figures,
    audit: verified,
    otherPatientBytes: leaked,
    seconds: Number(seconds.toFixed(1)),
  });
  const bytes = { leaked, bare: counter.bytes('front-desk'), faulty: counter.bytes('reference-lab') };
  teller.block(endCard({ ...figures, ...bytes, verified, count }));
  return 'told';
}

function whenAborted(signal: AbortSignal): Promise<'stopped'> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve('stopped');
    signal.addEventListener('abort', () => resolve('stopped'), { once: true });
  });
}

/** What may be said of an error nobody expected. A parser's message quotes what it read. */
function sentenceOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  return error instanceof SyntaxError ? error.name : `${error.name}: ${error.message}`;
}

function program(name: string): string {
  return fileURLToPath(new URL(`./${name}.js`, import.meta.url));
}

interface Figures {
  readonly requests: number;
  readonly hops: number;
  readonly refusals: number;
  readonly verified: number;
  readonly leaked: number;
  readonly bare: number;
  readonly faulty: number;
  readonly seconds: number;
  readonly failed: number;
  readonly count: number;
}

function endCard(figures: Figures): string[] {
  const bytes = (count: number): string => `${count.toLocaleString('en')} bytes`;
  const rows: [string, string][] = [
    ['expectations held', `${figures.count - figures.failed} of ${figures.count}`],
    ['HTTP requests', figures.requests.toLocaleString('en')],
    ['decisions at hops', String(figures.hops)],
    ['refusals', String(figures.refusals)],
    ['audit records verified', String(figures.verified)],
    ['other patient: left a protected hop', bytes(figures.leaked)],
    ['other patient: sent by the bare server', bytes(figures.bare)],
    ['other patient: sent by the faulty laboratory', bytes(figures.faulty)],
    ['seconds', figures.seconds.toFixed(1)],
  ];
  return [
    '',
    `   ${'─'.repeat(70)}`,
    ...rows.map(([what, value]) => `   ${what.padEnd(48)}${value.padStart(22)}`),
    `   ${'─'.repeat(70)}`,
    '   Try next, the first in a terminal of its own:',
    '     npm run dev',
    `     npm run -s hmcp -- call triage assess '{"reason":"follow-up"}'              served`,
    `     npm run -s hmcp -- call labs list-results '{"patientId":"somebody-else"}'   refused 40903`,
  ];
}

function tellWorld({ facts }: World, teller: Teller): void {
  teller.block([
    '',
    '   The clinic keeps running. Stop it with Ctrl-C.',
    ...facts.parties.map(({ name, url }) => `     ${name.padEnd(22)}${url}`),
    ...facts.accounts.map(({ username, password, name }) => `     sign in as ${username} / ${password} (${name})`),
    `     state: ${facts.state}`,
  ]);
}
