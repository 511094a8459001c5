import { parseArgs } from 'node:util';
import { explainSwitch, openSession, type SwitchReport } from '@hmcp/agent';
import type { Grant } from '@hmcp/auth';
import { readSessions, type Session } from '@hmcp/context-manager';
import { explain, HmcpError } from '@hmcp/core';
import { type CommandIo, EXIT, stateFolder, UsageError } from './command.js';
import { accountNamed, openDeveloper, placeInList, readWorld, tellFailure } from './developer.js';
import { askAtTerminal, typedLines } from './typed-form.js';
import type { WorldFacts } from './world.js';

const HELP = `hmcp context show [SID] [--state DIR] [--ids] [--json]
hmcp context switch [--from N] [--to N] [--account NAME] [--state DIR] [--json]

show    the sessions of a "hmcp dev" world, or one of them: state, epoch, members, a switch under way. Reads the manager's store,
        also while it is in use or after it ended; nobody is named.
switch  opens a session on one patient and switches it to another, as a person does: signs in twice, picks, types two identifiers
        of the patient being opened at this terminal. The session stays open.

  --state DIR   the state folder of the world (default: HMCP_STATE, else .hmcp)
  --ids         also patient ids and the person's user name
  --from N      whose record is opened first: a place in the list of "hmcp patients", from 1 (default 1)
  --to N        whose record is opened next (default 2)
  --account     who signs in (default: the first account)
  --json        one line of JSON for each session, or for the outcome

Exit codes: 0 shown, or switched · 1 no such session, or the switch did not happen (the reason is on stderr) · 3 no world runs on
that state folder · 64 the command line is not understood
`;

/** `hmcp context`: look at sessions, and switch the patient of one. @see protocol section 6 */
export async function contextCommand(argv: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      state: { type: 'string' },
      account: { type: 'string' },
      from: { type: 'string', default: '1' },
      to: { type: 'string', default: '2' },
      ids: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    io.stdout.write(HELP);
    return EXIT.ok;
  }
  const [verb, sid, ...more] = positionals;
  if ((verb !== 'show' && verb !== 'switch') || more.length > 0 || (verb === 'switch' && sid !== undefined))
    throw new UsageError('say "show", with at most one session, or "switch"');
  const places = { from: placeInList('from', values.from), to: placeInList('to', values.to) };
  const state = stateFolder(values.state, io);
  let issuer = '';
  try {
    const facts = await readWorld(state);
    issuer = facts.issuer;
    if (verb === 'show') return await show(facts, sid, values, io);
    return await switchPatient({ facts, state, ...places, username: values.account, json: values.json }, io);
  } catch (error) {
    const refusal = HmcpError.from(error);
    if (refusal === undefined) return tellFailure(`hmcp context ${verb}`, error, { issuer, state }, io);
    if (values.json) io.stdout.write(`${JSON.stringify({ type: 'refused', code: refusal.code, check: refusal.check })}\n`);
    io.stderr.write(`${explain(refusal)}\n`);
    return EXIT.notice;
  }
}

async function show(
  { manager }: WorldFacts,
  sid: string | undefined,
  { ids, json }: { readonly ids: boolean; readonly json: boolean },
  io: CommandIo,
): Promise<number> {
  const sessions = (await readSessions(manager.store)).filter((session) => sid === undefined || session.sid === sid);
  for (const session of sessions)
    io.stdout.write(json ? `${JSON.stringify({ type: 'session', ...facts(session, ids) })}\n` : told(session, ids));
  if (sessions.length > 0) return EXIT.ok;
  io.stderr.write(`hmcp context show: ${sid === undefined ? 'no session was opened here' : 'there is no such session'}\n`);
  return EXIT.notice;
}

/** What may be said of a session. */
function facts(session: Session, ids: boolean) {
  const { sid, state, epoch, rev, client, participants, members, pending, permits, subject, owner, decided } = session;
  const last = decided.at(-1)?.outcome;
  return {
    sid,
    state,
    epoch,
    rev,
    client,
    named: participants,
    members: members.map(({ clientId, role, delivery }) => ({ clientId, role, delivery })),
    permits: permits.length,
    ...(pending === undefined ? {} : { switching: { switchId: pending.switchId, kind: pending.parameters.kind } }),
    ...(last === undefined ? {} : { last: { switchId: last.switchId, kind: last.kind, result: last.result, epoch: last.epoch } }),
    ...(ids ? { patient: subject?.patient, owner: owner.subject } : {}),
  };
}

function told(session: Session, ids: boolean): string {
  const { sid, state, epoch, client, named, members, permits, switching, last, patient, owner } = facts(session, ids);
  const joined = members.map(({ clientId, role, delivery }) => `${clientId} (${role}, ${delivery})`).join(', ') || 'nobody yet';
  const rows: [string, string][] = [
    ['state', `${state}, epoch ${epoch}`],
    ['bound to', client],
    ['may join', named.join(', ') || 'nobody'],
    ['joined', joined],
    ...(permits === 0 ? [] : [['permits', String(permits)] as [string, string]]),
    ...(switching === undefined ? [] : [['under way', `${switching.kind} ${switching.switchId}`] as [string, string]]),
    ...(last === undefined ? [] : [['last', `${last.kind} ${last.result}, epoch ${last.epoch}`] as [string, string]]),
    ...(ids
      ? ([
          ['patient', patient ?? 'none'],
          ['person', owner ?? ''],
        ] as [string, string][])
      : []),
  ];
  return `${sid}\n${rows.map(([what, value]) => `  ${what.padEnd(10)}${value}\n`).join('')}`;
}

interface Switch {
  readonly facts: WorldFacts;
  readonly state: string;
  readonly from: number;
  readonly to: number;
  readonly username: string | undefined;
  readonly json: boolean;
}

async function switchPatient({ facts, state, from, to, username, json }: Switch, io: CommandIo): Promise<number> {
  const account = accountNamed(facts, username);
  const { manager } = facts;
  const developer = await openDeveloper(facts, state, []);
  // With --json the one line on stdout is the outcome: the person is spoken to on stderr.
  const speak = json ? io.stderr : io.stdout;
  const grants: Grant[] = [];
  const launch = async (place: number): Promise<Grant> => {
    const grant = await developer.launch(account, place);
    grants.push(grant);
    return grant;
  };
  try {
    const grant = await launch(from);
    const session = await openSession({
      agent: developer.agent,
      grant,
      manager: manager.resource,
      participants: manager.participants,
    });
    speak.write(`Session ${session.sid ?? ''} is open, epoch ${session.epoch}.\n`);
    const lines = typedLines(io.stdin);
    const report = await session.switchPatient({
      authorize: () => launch(to),
      confirm: (dialog) => askAtTerminal(dialog, lines, speak),
    });
    if (json) io.stdout.write(`${JSON.stringify(outcome(session.sid, report))}\n`);
    else io.stdout.write(`\n${sentence(report)}\nLook at it: hmcp context show ${session.sid ?? ''} --state ${state}\n`);
    if (report.result === 'committed' || report.result === 'unchanged') return EXIT.ok;
    const refusal = HmcpError.from(report.error);
    if (refusal !== undefined) io.stderr.write(`${explain(refusal)}\n`);
    return EXIT.notice;
  } finally {
    // The session is left to be looked at; nobody acts in it any more.
    await Promise.all(grants.map((grant) => grant.revoke().catch(() => undefined)));
    await developer.close();
  }
}

function outcome(sid: string | undefined, report: SwitchReport) {
  const { result, reason, switchId, epoch, saved, lost, evicted, revoked } = report;
  return { type: 'switch', sid, switchId, result, reason, epoch, saved, lost, evicted, revoked };
}

function sentence(report: SwitchReport): string {
  const { result, epoch, saved, lost, evicted, revoked } = report;
  if (result === 'pending') return explainSwitch(report);
  if (result !== 'committed') return `${explainSwitch(report)} Epoch ${epoch}.`;
  const work = saved + lost === 0 ? '' : ` Unsaved items: ${saved} saved, ${lost} lost.`;
  const left = evicted.length === 0 ? '' : ` Left the session: ${evicted.join(', ')}.`;
  return `Switched: epoch ${epoch}.${work}${left} The first grant was ${revoked ? 'revoked' : 'not revoked'}.`;
}
