import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { createAgent, openSession, type Session, type SwitchAnswer, type SwitchDialog } from '@hmcp/agent';
import { openFileAudit, verifyAudit } from '@hmcp/audit';
import { createSealVerifier, createTokenExchanger, smartClient } from '@hmcp/auth';
import { signIn } from '@hmcp/authorization-server';
import { type ExtraParty, startWorld } from '@hmcp/cli/world';
import { chooseCharts, isLaboratory, recordsOf } from '@hmcp/clinic';
import { explain, type HmcpError } from '@hmcp/core';
import { Script } from './script.js';

/** An agent of some framework, on a session. */
export interface Assistant {
  /** @returns everything the framework answers */
  ask(question: string): Promise<unknown>;
  close(): Promise<void>;
}

/** One framework's part in {@link playVisit}. */
export interface Part {
  readonly name: string;
  /** The server with the laboratory, and the tool that gives the results of the patient in context, as its models call it. */
  readonly server: string;
  readonly tool: string;
  /** A server the world does not have yet. */
  readonly extra?: ExtraParty | undefined;
  /** Whether a context manager holds the session. */
  readonly managed: boolean;
  connect(session: Session, url: string, script: Script): Promise<Assistant>;
}

/**
 * A development world, one session, one agent made once: asked about A it is shown A's chart; when its model writes B's id the server
 * refuses, and nothing of B reaches the model or the screen; after the switch the same agent is shown B's chart. Sets the exit code.
 */
export async function playVisit({ name, server, tool, extra, managed, connect }: Part): Promise<void> {
  const failures: string[] = [];
  const expect = (what: string, found: unknown, expected: unknown): void => {
    if (!isDeepStrictEqual(found, expected))
      failures.push(`${what}: ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
  };
  const screen = recordScreen();
  const state = await mkdtemp(join(tmpdir(), `hmcp-${name}-`));
  const records = await recordsOf(undefined);
  const { a, b } = chooseCharts(records);
  const labsOf = (patient: string) => records.ofPatient(patient, 'Observation').filter(isLaboratory);
  const idsOf = (patient: string) =>
    labsOf(patient)
      .map(({ id }) => String(id))
      .sort();
  /** What may not be seen before B is open: B's name and the ids of B's results. B's own id the model wrote itself. */
  const canaries = [b.patient.name, ...idsOf(b.patient.id)];
  const leaks = (text: string) => canaries.filter((canary) => text.includes(canary)).length;
  const idsIn = (text: string, patient: string) => idsOf(patient).filter((id) => text.includes(id));

  const world = await startWorld({ records, state, extras: extra === undefined ? [] : [extra] });
  const auditFile = join(state, 'audit', `${name}.jsonl`);
  try {
    const { facts } = world;
    const { clientId, redirectUri, keyFile } = facts.client;
    const [privateKey] = JSON.parse(await readFile(keyFile, 'utf8')).keys;
    const [account] = facts.accounts;
    const party = facts.parties.find((one) => one.name === server);
    if (account === undefined || party === undefined) throw new TypeError('the world has an account and the server');
    const resource = party.resource ?? party.url;

    const smart = smartClient({ fhirServer: facts.fhirServer, clientId, redirectUri, privateKey });
    const session_ = managed ? ' openid patient/Patient.r hmcp:context.switch hmcp:context.participate' : '';
    const scope = `launch/patient patient/Observation.rs${session_}`;
    let picks = a.patient; // whom the person picks at the next sign-in
    const authorize = () =>
      smart.authorize({ launch: 'patient', scope, open: (url) => signIn({ ...account, url, patient: picks }) });
    const confirm = async ({ fields }: SwitchDialog): Promise<SwitchAnswer> => {
      const known: Record<string, string | boolean> = {
        confirm: true,
        birthDate: picks.birthDate,
        recordNumberLast4: picks.identifierLast4,
      };
      return Object.fromEntries(fields.map((field) => [field.name, known[field.name] ?? '']));
    };
    const audit = await openFileAudit({ file: auditFile, by: clientId });
    const desk = createAgent({
      name: 'desk',
      clientId,
      peers: [{ name: server, resource, kind: 'hmcp' }],
      tokens: createTokenExchanger({ issuer: facts.issuer, client: { clientId, privateKey } }),
      seals: createSealVerifier({ managers: [facts.manager.trusted] }),
      audit,
      pseudonymKey: (await readFile(join(state, 'keys', 'pseudonym.txt'), 'utf8')).trim(),
    });
    const session = await openSession({
      agent: desk,
      grant: await authorize(),
      ...(managed ? { manager: facts.manager.resource } : {}),
    });
    const refused: HmcpError[] = [];
    session.events.on('refused', ({ refusal }) => {
      if (refusal !== undefined) refused.push(refusal);
      screen.tell(explain(refusal));
    });

    const script = new Script({ name: tool, args: {} });
    const assistant = await connect(session, resource, script);
    const ask = async () => {
      const from = script.shown.length;
      const answer = JSON.stringify(await assistant.ask('What do the laboratory results say?'));
      return `${script.shown.slice(from).join('\n')}\n${answer}`;
    };

    const ofA = await ask();
    expect('the agent is shown every result of A', idsIn(ofA, a.patient.id), idsOf(a.patient.id));
    screen.tell(`served: ${idsIn(ofA, a.patient.id).length} results to the agent of ${name}`);

    script.call = { name: tool, args: { patientId: b.patient.id } }; // what a model might write
    const confused = await ask();
    expect(
      'one refusal',
      refused.map(({ code, check }) => [code, check]),
      [[40903, 'argument']],
    );
    expect('the model is told which', confused.includes('patient_mismatch'), true);
    expect('and shown nothing', [idsIn(confused, a.patient.id), idsIn(confused, b.patient.id)], [[], []]);
    expect('nothing of B was seen', leaks(ofA + confused + screen.text()), 0);
    const planted = JSON.stringify(labsOf(b.patient.id)[0]);
    expect('a planted result of B would be found', leaks(confused + planted) > 0, true);

    picks = b.patient;
    const outcome = await session.switchPatient({ authorize, confirm });
    expect('the switch', [outcome.result, session.epoch], ['committed', 2]);
    screen.tell('the person goes on to the next patient');

    script.call = { name: tool, args: {} };
    const ofB = await ask();
    expect('the same agent is shown every result of B', idsIn(ofB, b.patient.id), idsOf(b.patient.id));
    expect('and nothing of A', idsIn(ofB, a.patient.id), []);
    screen.tell(`served: ${idsIn(ofB, b.patient.id).length} results to the agent of ${name}`);

    await assistant.close();
    await session.close();
    await desk.close();
    await audit.close();
  } finally {
    screen.close();
    await world.close();
  }
  const events: string[] = [];
  const verdict = await verifyAudit(auditFile, {
    onRecord: ({ event, method, code }) => {
      if (method === 'tools/call') events.push(code === undefined ? event : `${event} ${code}`);
    },
  });
  expect('the audit is intact and closed', verdict.ok && verdict.warnings.length === 0, true);
  const expected = ['hop.call', 'hop.result', 'hop.call', 'hop.refused 40903', 'hop.call', 'hop.result'];
  expect('the audit holds every request', events, expected);
  await rm(state, { recursive: true, force: true });

  for (const what of failures) process.stderr.write(`expected ${what}\n`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}

/** Everything this process writes to its screen, whoever writes it. */
function recordScreen() {
  const seen: string[] = [];
  const streams = [process.stdout, process.stderr];
  const before = streams.map((stream) => stream.write);
  for (const stream of streams) {
    const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
    stream.write = (chunk: unknown, ...more: unknown[]) => {
      seen.push(String(chunk));
      return write(chunk, ...more);
    };
  }
  return {
    tell: (sentence: string): void => void process.stdout.write(`${sentence}\n`),
    text: (): string => seen.join(''),
    close(): void {
      for (const [at, stream] of streams.entries()) stream.write = before[at] ?? stream.write;
    },
  };
}
