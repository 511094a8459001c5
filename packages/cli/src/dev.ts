import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { RecordsError, recordsOf } from '@hmcp/clinic';
import { type CommandIo, EXIT, stateFolder, UsageError } from './command.js';
import { CLINIC_PARTIES, type ExtraParty, startWorld, WorldError, type WorldFacts } from './world.js';
import { CLINIC_AGENTS } from './world-plan.js';

const HELP = `hmcp dev [--data DIR] [--state DIR] [--agent NAME=PROGRAM]… [--child NAME=PROGRAM]…
         [--calls NAME=AGENT]… [--scope SCOPES] [--json]

Starts a small clinic on free loopback ports, each party its own process: a SMART authorization server with a patient picker,
a FHIR R4 API, a context manager, and the agents portal, triage, labs, medications and orders. Runs until Ctrl-C, SIGTERM or SIGHUP;
under npx also until npx is ended by SIGTERM. For development only: it refuses to start with NODE_ENV=production.

  --data DIR    a folder of FHIR R4 Bundles (default: HMCP_DATA, else the people this project ships)
  --state DIR   keys as JWK sets, configurations, audit (default: HMCP_STATE, else .hmcp); the next start reuses its keys, and
                its addresses where they are free
  --agent       adds an agent of yours: PROGRAM is started as "node PROGRAM CONFIG", reads its configuration from the JSON file
                CONFIG, listens on 127.0.0.1 and reports {type:"listening",port} with process.send
  --child       adds an agent of yours that its caller starts as a child and speaks to over its pipes: it is registered and its
                CONFIG is written to DIR/config/NAME.json, and that is all
  --calls       lets an added agent call another agent of the clinic, or an added one: it is among the "peers" of CONFIG
  --scope       what the added agents are registered with, space-separated; needed with --agent. No token for one of them, and
                none it gets for its own calls, holds more: a call that needs more is refused with 40302
  --json        print one line of JSON when everything listens: every URL, resource identifier, account, client and key file

Exit codes: 0 stopped · 1 a process of the clinic ended by itself · 3 the records cannot be read, or the state folder cannot be
used or is in use · 64 the command line is not understood, or NODE_ENV is production
`;

/** `hmcp dev`: the development world, until it is stopped. */
export async function devCommand(argv: string[], io: CommandIo): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      data: { type: 'string' },
      state: { type: 'string' },
      agent: { type: 'string', multiple: true, default: [] },
      child: { type: 'string', multiple: true, default: [] },
      calls: { type: 'string', multiple: true, default: [] },
      scope: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    io.stdout.write(HELP);
    return EXIT.ok;
  }
  if (io.env.NODE_ENV === 'production') {
    io.stderr.write('hmcp dev: this is a development world; it does not start with NODE_ENV=production\n');
    return EXIT.usage;
  }
  const extras = readExtras(values);
  const folder = values.data ?? (io.env.HMCP_DATA || undefined);
  const data = folder === undefined ? undefined : resolve(folder);
  const stop = new AbortController();
  const stopped = new Promise<'stopped'>((done) => stop.signal.addEventListener('abort', () => done('stopped')));
  const onSignal = (): void => stop.abort();
  for (const signal of ENDING) process.once(signal, onSignal);
  const unwatch = io.env.npm_command === undefined ? () => undefined : whenParentEnds(onSignal);
  try {
    const state = resolve(stateFolder(values.state, io));
    const world = await startWorld({ records: await recordsOf(data), data, state, extras, signal: stop.signal });
    io.stdout.write(
      values.json ? `${JSON.stringify({ type: 'ready', ...world.facts, call: callLine(world.facts) })}\n` : describe(world.facts),
    );
    const ended = await Promise.race([stopped, world.failed]);
    await world.close();
    if (ended === 'stopped') {
      // After the end, not before it: a write to a terminal that is gone ends this process.
      if (!values.json) io.stdout.write('\nStopped: every process of the clinic has ended.\n');
      return EXIT.ok;
    }
    io.stderr.write(`hmcp dev: ${ended}\n`);
    return EXIT.notice;
  } catch (error) {
    if (!(error instanceof RecordsError || error instanceof WorldError)) throw error;
    if (error.code === 'stopped') return EXIT.ok;
    io.stderr.write(`hmcp dev: ${error.message}\n`);
    return error.code === 'ended' ? EXIT.notice : EXIT.unreadable;
  } finally {
    unwatch();
    for (const signal of ENDING) process.off(signal, onSignal);
  }
}

/** SIGHUP: the terminal was closed. */
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Milliseconds between two looks at whether the parent is still there. */
const LOOK_MS = 1000;

/** `kill` of npx ends the shell in which npm runs this, and tells this program nothing. @returns what ends the watch */
function whenParentEnds(tell: () => void): () => void {
  const { ppid } = process;
  const timer = setInterval(() => {
    if (process.ppid !== ppid) tell();
  }, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}

interface AddedAgents {
  readonly agent: readonly string[];
  readonly child: readonly string[];
  readonly calls: readonly string[];
  readonly scope?: string | undefined;
}

function readExtras({ agent, child, calls, scope }: AddedAgents): ExtraParty[] {
  const added = [...agent.map((given) => ['--agent', given] as const), ...child.map((given) => ['--child', given] as const)];
  const taken = new Set(CLINIC_PARTIES);
  const extras = added.map(([option, given]) => {
    if (scope === undefined) throw new UsageError(`"${option}" needs "--scope"`);
    const [, name, program] = /^([a-z][a-z0-9-]{0,63})=(.+)$/.exec(given) ?? [];
    if (name === undefined || program === undefined)
      throw new UsageError(`"${option}" takes NAME=PROGRAM, NAME as [a-z][a-z0-9-]*`);
    if (taken.has(name)) throw new UsageError(`the world has a party "${name}" already`);
    taken.add(name);
    // The address of a child is only a name for it; nobody listens there.
    return {
      name,
      module: resolve(program),
      scope,
      calls: new Set<string>(),
      childOf: option === '--child' ? 'portal' : undefined,
    };
  });
  const callable = new Set([...CLINIC_AGENTS, ...extras.filter(({ childOf }) => childOf === undefined).map(({ name }) => name)]);
  for (const given of calls) {
    const [, name, called] = /^([^=]+)=([^=]+)$/.exec(given) ?? [];
    const caller = extras.find((extra) => extra.name === name);
    if (caller === undefined || called === undefined || called === name || !callable.has(called))
      throw new UsageError('"--calls" takes NAME=AGENT, NAME as given with "--agent", AGENT another agent');
    caller.calls.add(called);
  }
  return extras.map((extra) => ({ ...extra, calls: [...extra.calls] }));
}

/** A command line that makes one served call in the world, ready to paste. */
export function callLine({ state }: Pick<WorldFacts, 'state'>): string {
  return `npx hmcp call labs list-results '{"category":"laboratory"}' --state ${shellWord(state)}`;
}

/** A word as a POSIX shell takes it, quoted only when it must be. */
function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function describe(facts: WorldFacts): string {
  const width = Math.max(...facts.parties.map(({ name }) => name.length));
  const parties = facts.parties.map(({ name, url }) => `  ${name.padEnd(width)}  ${url}`);
  const accounts = facts.accounts.map(({ username, password, name }) => `  ${username} / ${password}   ${name}`);
  return `The clinic is ready. Records: ${facts.records}

${parties.join('\n')}

Sign in at ${facts.portal}/launch as
${accounts.join('\n')}

Whom they can pick, with FHIR ids: npx hmcp patients --state ${shellWord(facts.state)}
Audit and keys: ${facts.state}
Try: ${callLine(facts)}
Stop with Ctrl-C. From elsewhere: kill ${process.pid}
`;
}
