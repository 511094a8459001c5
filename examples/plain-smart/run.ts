import { fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openFileAudit, verifyAudit } from '@hmcp/audit';
import { chooseCharts, isLaboratory, recordsOf } from '@hmcp/clinic';
import { definePatientTool } from '@hmcp/core';
import { Checks, idsOf } from '../checks.js';
import { Person } from '../orchestrator/person.js';
import { listProblems } from '../readme/server.js';
import { getLabs, look, nextPatient, openPatient, readPatient, visitSummary } from './orchestrator.js';

// An app on a plain SMART EHR and a plain laboratory system, each its own process; no manager, and no authorization server of ours.
// Fails unless the patient of the launch is served, whatever is about somebody else is dropped, before and after a switch, and a
// server that wants a token of its own is refused without hearing anything.

const checks = new Checks();
const state = await mkdtemp(join(tmpdir(), 'hmcp-plain-smart-'));
const [clientId, redirectUri] = ['visit-summary', 'http://127.0.0.1/visit-summary/callback'];
const processes: ReturnType<typeof fork>[] = [];
const auditFile = join(state, 'visit-summary.jsonl');
try {
  await play().finally(() => Promise.all(processes.map(ended)));
  checks.is('what the app recorded', await recordedIn(auditFile), [
    ...['hop.call get-labs', 'hop.result get-labs', 'hop.call get-labs', 'hop.dropped get-labs 40903'],
    ...['hop.call latest', 'hop.dropped latest 40903', 'hop.refused server/discover 40302'], // before the first message
    ...['hop.call get-labs', 'hop.result get-labs', 'hop.call get-labs', 'hop.dropped get-labs 40903'],
  ]);
  const issued = await recordedIn(join(state, 'ehr-tokens.jsonl'));
  checks.is('what the EHR issued: a token for each launch', issued, ['token.issued', 'token.issued']);
  checks.end();
} finally {
  await rm(state, { recursive: true, force: true });
}

/** What an intact log says, besides that it was opened and closed. */
async function recordedIn(file: string): Promise<string[]> {
  const told: string[] = [];
  const { ok } = await verifyAudit(file, {
    onRecord: ({ event, tool, method, code }) => {
      const about = event.startsWith('hop.') ? [tool ?? method, code] : [];
      if (!event.startsWith('audit.')) told.push([event, ...about].filter((part) => part !== undefined).join(' '));
    },
  });
  return ok ? told : ['the log is not intact', ...told];
}

async function play(): Promise<void> {
  const records = await recordsOf(undefined);
  const { a, b } = chooseCharts(records);
  const resultsOf = (id: string): string[] => idsOf(records.ofPatient(id, 'Observation').filter(isLaboratory));
  const ehr = await started('ehr', state, clientId, redirectUri);
  const labs = await started('lab-system');
  const audit = await openFileAudit({ file: auditFile, by: clientId });
  const app = visitSummary({
    fhirServer: `${ehr}/fhir`,
    ...{ clientId, redirectUri, audit, pseudonymKey: 'a key of this example' },
    labsUrl: `${labs}/mcp`,
    problemsUrl: `${labs}/problems`,
  });
  const person = new Person({ username: 'dr-okafor', password: 'development', name: 'Dr. Ada Okafor' }, a.patient);

  const { grant, session } = await openPatient(app, person);
  checks.is('who answers for the session', [session.assurance, session.sid, session.epoch], ['process', undefined, 1]);
  const reads = await Promise.all([a, b].map(async ({ patient }) => (await readPatient(grant, patient.id)).status));
  checks.is('the record of the patient at the EHR, and of another one', reads, [200, 404]);
  await look(session, person, a.patient.id);
  checks.is('results of the patient of the launch', idsOf(person.shown.at(-1) ?? []), resultsOf(a.patient.id));
  await checks.refused('a question about somebody else', look(session, person, b.patient.id), 40903, 'result');
  const latest = definePatientTool({ ...getLabs, name: 'latest' });
  const buggy = session.call('labs', latest, { patientId: a.patient.id });
  await checks.refused('a right question, answered with other rows', buggy, 40903, 'result');
  const withToken = session.call('problems', listProblems, {});
  await checks.refused('a server that wants a token of its own', withToken, 40302, 'exchange');

  person.picks = b.patient;
  const { result, epoch } = await nextPatient(app, session, person);
  checks.is('the next patient', [result, epoch, person.dialogs], ['committed', 2, 1]);
  await look(session, person, b.patient.id);
  checks.is('results of the next patient', idsOf(person.shown.at(-1) ?? []), resultsOf(b.patient.id));
  await checks.refused('a question about the patient before', look(session, person, a.patient.id), 40903, 'result');
  checks.is('lists that were shown', person.shown.length, 2);

  await session.close();
  await app.agent.close();
  await audit.close();
}

/** Starts a program of this folder as its own process. @returns where it listens */
async function started(name: string, ...args: string[]): Promise<string> {
  const child = fork(fileURLToPath(new URL(`./${name}.js`, import.meta.url)), args, {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  processes.push(child);
  return new Promise((resolve, reject) => {
    child.once('exit', () => reject(new Error(`${name} ended before it listened`)));
    child.once('message', ({ port }: { port: number }) => resolve(`http://127.0.0.1:${port}`));
  });
}

async function ended(child: ReturnType<typeof fork>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await exit;
}
