import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { verifyAudit } from '@hmcp/audit';
import { startWorld } from '@hmcp/cli/world';
import { chooseCharts, isLaboratory, listResults, recordsOf } from '@hmcp/clinic';
import { readSessions } from '@hmcp/context-manager';
import { explain, HmcpError, patientKey } from '@hmcp/core';
import { openDesk } from './desk.js';
import { compare, type Desk, nextPatient, openPatient } from './orchestrator.js';
import { Person } from './person.js';

// Plays the orchestrator in a development world, once without a context manager and once with one, and fails unless every time A is
// served, a declined dialog leaves the person on A, B is served after the commit, and what A's act still asks is refused 40901.

const records = await recordsOf(undefined);
const { a, b } = chooseCharts(records);
const state = await mkdtemp(join(tmpdir(), 'hmcp-orchestrator-'));
const world = await startWorld({ records, state });
const { facts } = world;

const failures: string[] = [];
const expect = (what: string, found: unknown, expected: unknown): void => {
  if (!isDeepStrictEqual(found, expected)) failures.push(`${what}: ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
};
try {
  const { resource: manager, participants } = facts.manager;
  const { portal, smart, close } = await openDesk({ facts, audit: 'orchestrator' });
  try {
    await visits({ portal, smart }, 'process');
    await visits({ portal, smart, manager, participants }, 'manager');
  } finally {
    await close();
  }
} finally {
  await world.close();
}
await laboratoryAudit();
const decisions = (await readSessions(facts.manager.store)).map(({ state, decided }) => [
  state,
  ...decided.map(({ outcome }) => `${outcome.kind} ${outcome.result}`),
]);
expect('one session at the manager: one switch given up, one committed, then closed', decisions, [
  ['closed', 'switch aborted', 'switch committed', 'close committed'],
]);
await rm(state, { recursive: true, force: true });

for (const what of failures) process.stderr.write(`expected ${what}\n`);
process.exitCode = failures.length === 0 ? 0 : 1;

/** A is opened and asked about; B is declined, then confirmed, while an act on A is under way. */
async function visits(parts: Omit<Desk, 'screen'>, assurance: string): Promise<void> {
  const [account] = facts.accounts;
  if (account === undefined) throw new TypeError('the world has an account');
  const person = new Person(account, a.patient);
  const desk: Desk = { ...parts, screen: person };
  const is = (what: string, found: unknown, expected: unknown): void => expect(`${assurance}: ${what}`, found, expected);

  await using session = await openPatient(desk);
  process.stdout.write(`session of the ${session.assurance}, epoch ${session.epoch}\n`);
  is('assurance and epoch', [session.assurance, session.epoch], [assurance, 1]);
  is('all of A is shown', idsOf(person.shown.at(-1)), resultsOf(a.patient.id));

  person.picks = b.patient;
  person.willing = false;
  const declined = await nextPatient(desk, session);
  is('a declined dialog', [declined.result, declined.reason, session.epoch, person.dialogs], ['aborted', 'declined', 1, 1]);

  // An act on A stands between its two looks until the session is on B; then it goes on as if nothing had happened.
  person.picks = b.patient;
  person.willing = true;
  let goOn: () => void = () => undefined;
  const onB = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  let late: HmcpError | undefined;
  let wentOn: Promise<void> = Promise.resolve();
  let act: Promise<HmcpError | undefined> = Promise.resolve(undefined);
  await new Promise<void>((between) => {
    const work = async (): Promise<void> => {
      between();
      await onB;
      late = await refusalOf(session.call('labs', listResults, {}));
    };
    act = refusalOf(
      compare(session, () => {
        wentOn = work();
        return wentOn;
      }),
    ).finally(between);
  });
  const committed = await nextPatient(desk, session);
  is('a confirmed dialog', [committed.result, committed.epoch, session.epoch, person.dialogs], ['committed', 2, 2, 2]);
  is('all of B is shown, and nothing of A', idsOf(person.shown.at(-1)), resultsOf(b.patient.id));
  goOn();
  const settled = await act;
  await wentOn;
  is('the act on A is settled', [settled?.code, settled?.check], [40901, 'result']);
  is('its late call is refused', late?.code, 40901);
  if (late !== undefined) process.stdout.write(`${explain(late)}\n`);
  is('two lists were shown', person.shown.length, 2);
}

/** What the laboratory served: A twice and B once in each session, and nothing after an act was over. */
async function laboratoryAudit(): Promise<void> {
  const key = (await readFile(join(state, 'keys', 'pseudonym.txt'), 'utf8')).trim();
  const keyOf = (id: string): Promise<string> => patientKey(key, { fhirServer: facts.fhirServer, patient: id });
  const names = new Map([
    [await keyOf(a.patient.id), 'A'],
    [await keyOf(b.patient.id), 'B'],
  ]);
  const served: string[] = [];
  const verdict = await verifyAudit(join(state, 'audit', 'labs.jsonl'), {
    onRecord: ({ event, tool, pk, epoch }) => {
      if (tool === 'list-results') served.push(`${event} ${names.get(pk ?? '')} ${epoch ?? 'no epoch'}`);
    },
  });
  expect('the audit of the laboratory is intact', verdict.ok, true);
  const ofProcess = ['A', 'A', 'B'].map((who) => `request.served ${who} no epoch`);
  expect('what the laboratory served', served, [...ofProcess, 'request.served A 1', 'request.served A 1', 'request.served B 2']);
}

async function refusalOf(call: Promise<unknown>): Promise<HmcpError | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    return HmcpError.from(error);
  }
}

function idsOf(results: readonly unknown[] = []): string[] {
  return results.map((result) => String((result as { id?: unknown }).id)).sort();
}

function resultsOf(patient: string): string[] {
  return idsOf(records.ofPatient(patient, 'Observation').filter(isLaboratory));
}
