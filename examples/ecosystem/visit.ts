import { openSession, type Session } from '@hmcp/agent';
import type { ExtraParty } from '@hmcp/cli/world';
import { isLaboratory } from '@hmcp/clinic';
import { explain, META } from '@hmcp/core';
import { idsOf } from '@hmcp/examples/dist/checks.js';
import { Person } from '@hmcp/examples/dist/orchestrator/person.js';
import { playInWorld, type WorldRun } from '@hmcp/examples/dist/world-run.js';
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

/** What a session needs that a manager holds. */
const MANAGED = 'openid patient/Patient.r hmcp:context.switch hmcp:context.participate';

/**
 * A development world, one session, one agent made once: asked about A it is shown A's chart; when its model writes B's id the server
 * refuses, and nothing of B reaches the model or the screen; after the switch the same agent is shown B's chart. Sets the exit code.
 */
export async function playVisit(part: Part): Promise<void> {
  const screen = recordScreen();
  await playInWorld({ extras: part.extra === undefined ? [] : [part.extra] }, async (run) => {
    await visit(part, run, screen);
    await run.stop();
    const expected = ['hop.call', 'hop.result', 'hop.call', 'hop.refused', 'hop.call', 'hop.result'];
    const told = (await run.decisions(part.name)).map((line) => line.split(' ')[0]);
    run.checks.is('the audit is intact, and holds every request', told, expected);
  });
}

async function visit({ name, server, tool, managed, connect }: Part, run: WorldRun, screen: Screen): Promise<void> {
  const { facts, records, a, b, checks } = run;
  const resultsOf = (patient: string) => records.ofPatient(patient, 'Observation').filter(isLaboratory);
  const seen = (text: string, patient: string) => idsOf(resultsOf(patient)).filter((id) => text.includes(id));
  /** B's name and the ids of B's results. B's own id is no canary: the model wrote it itself. */
  const leaks = (text: string) => [b.name, ...idsOf(resultsOf(b.id))].filter((canary) => text.includes(canary)).length;

  const [account] = facts.accounts;
  if (account === undefined) throw new TypeError('the world has an account');
  const person = new Person(account, a);
  const scope = `launch/patient patient/Observation.rs ${managed ? MANAGED : ''}`.trim();
  const authorize = () => run.smart.authorize({ launch: 'patient', scope, open: person.open });
  const url = run.urlOf(server);
  const desk = await run.desk(name, [{ name: server, resource: url, kind: 'hmcp' }]);
  const manager = managed ? facts.manager.resource : undefined;
  const session = await openSession({ agent: desk, grant: await authorize(), manager });
  const refused: unknown[] = [];
  session.events.on('refused', ({ refusal }) => {
    refused.push([refusal?.code, refusal?.check]);
    process.stdout.write(`${explain(refusal)}\n`);
  });

  const script = new Script({ name: tool, args: {} });
  const assistant = await connect(session, url, script);
  /** Everything that the model was shown, and everything the framework answered. */
  const ask = async (): Promise<string> => {
    const from = script.shown.length;
    const answer = JSON.stringify(await assistant.ask('What do the laboratory results say?'));
    return `${script.shown.slice(from).join('\n')}\n${answer}`;
  };
  const served = async (patient: string, other: string): Promise<string> => {
    const text = await ask();
    checks.is('every result of the patient who is open', seen(text, patient), idsOf(resultsOf(patient)));
    checks.is('and none of another', seen(text, other), []);
    process.stdout.write(`served: ${seen(text, patient).length} results, to an agent of ${name}\n`);
    return text;
  };

  const ofA = await served(a.id, b.id);

  script.call = { name: tool, args: { patientId: b.id } }; // what a model might write
  const confused = await ask();
  checks.is('the refusal', refused, [[40903, 'argument']]);
  checks.is('the model is told of it', confused.includes('patient_mismatch'), true);
  checks.is('and is shown nothing', [seen(confused, a.id), seen(confused, b.id)], [[], []]);
  checks.is('nothing of B was seen', leaks(ofA + confused + screen.text()), 0);
  checks.is('a planted result of B would be found', leaks(confused + JSON.stringify(resultsOf(b.id)[0])) > 0, true);

  person.picks = b;
  const outcome = await session.switchPatient({ authorize, confirm: person.showDialog });
  checks.is('the switch', [outcome.result, session.epoch], ['committed', 2]);
  process.stdout.write('the person goes on to the next patient\n');

  script.call = { name: tool, args: {} };
  await served(b.id, a.id);

  const shown = script.shown.join('\n');
  checks.is('the model was shown no key of ours', keysOfOurs(shown), []);
  const planted = JSON.stringify(JSON.stringify({ _meta: { [META.context]: {} } })); // as text in a message
  checks.is('a planted one would be found', keysOfOurs(shown + planted), [META.context]);

  await assistant.close();
  await session.close();
}

function keysOfOurs(text: string): string[] {
  return Object.values(META).filter((key) => text.includes(key));
}

/** Everything this process writes to its screen, whoever writes it. */
interface Screen {
  text(): string;
}

function recordScreen(): Screen {
  const seen: string[] = [];
  for (const stream of [process.stdout, process.stderr]) {
    const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
    stream.write = (...args: unknown[]) => {
      seen.push(String(args[0]));
      return write(...args);
    };
  }
  return { text: () => seen.join('') };
}
