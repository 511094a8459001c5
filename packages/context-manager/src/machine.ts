import type {
  AbortReason,
  AuditEventName,
  AuditRecord,
  Check,
  Drained,
  HmcpErrorCode,
  ParticipantRole,
  SwitchKind,
  SwitchOutcome,
  Vote,
} from '@hmcp/core';
import type { Decided, Member, Pending, Session, Subject, SwitchParameters } from './session-row.js';
import { MAX_DECIDED, MAX_TRIES, type Timing } from './timing.js';

/** Who asked, as it stands in the audit; the machine adds what happened. */
export type Actor = Omit<AuditRecord, 'event' | 'outcome'>;

/**
 * What a decision comes to. `moved`: write `next` and `record` in one transaction. `same`: nothing to write, the answer is in the
 * row. `refused`: answer with the code.
 */
export type Step =
  | { readonly is: 'moved'; readonly next: Session; readonly record: AuditRecord }
  | { readonly is: 'same'; readonly session: Session }
  | Refused;
/** A coded refusal. */
export interface Refused {
  readonly is: 'refused';
  readonly code: HmcpErrorCode;
  readonly check: Check;
  /** Fixed words, for the local audit. */
  readonly reason: string;
}

/** What every decision is given besides the row. `now` in ms. */
export interface At {
  readonly now: number;
  readonly timing: Timing;
  readonly by: Actor;
}

/** A refusal of the machine. */
export function refused(code: HmcpErrorCode, check: Check, reason: string): Refused {
  return { is: 'refused', code, check, reason };
}

/** The next row with its audit record. Every write goes through here, so none is without a record. */
export function moved(
  from: Session,
  change: Partial<Session>,
  at: At,
  said: { readonly event: AuditEventName } & Partial<AuditRecord>,
): Step {
  const next = { ...from, ...change, version: from.version + 1 };
  const record: AuditRecord = {
    outcome: 0,
    ...at.by,
    sid: from.sid,
    epoch: next.epoch,
    ...(next.subject === null ? {} : { pk: next.subject.pk }),
    ...said,
  };
  return { is: 'moved', next, record };
}

/** What `open` begins with. */
export interface Opening {
  readonly sid: string;
  readonly owner: Session['owner'];
  readonly client: string;
  readonly subject: Subject;
  readonly participants: readonly string[];
}

/** A new session: ACTIVE on its first patient, epoch 1. @see protocol section 6 */
export function open(opening: Opening, at: At): { readonly session: Session; readonly record: AuditRecord } {
  const { sid, owner, client, subject, participants } = opening;
  const session: Session = {
    v: 1,
    sid,
    version: 1,
    rev: 1,
    epoch: 1,
    state: 'active',
    owner,
    client,
    subject,
    participants: [...new Set(participants)],
    members: [],
    permits: [],
    decided: [],
    openedAt: at.now,
    openedPk: subject.pk,
  };
  const record: AuditRecord = { ...at.by, event: 'session.opened', outcome: 0, sid, epoch: 1, pk: subject.pk };
  return { session, record };
}

/** A client that `open` named joins, or joins again. Whoever joins during a switch is not asked to vote on it. */
export function join(
  session: Session,
  who: { readonly clientId: string; readonly role: ParticipantRole; readonly delivery: Member['delivery'] },
  at: At,
): Step {
  if (session.state === 'closed') return closed();
  const { clientId, role, delivery } = who;
  if (!session.participants.includes(clientId)) return refused(40301, 'session', 'the client was not named for this session');
  const known = session.members.find((member) => member.clientId === clientId);
  if (known?.role === role && known.delivery === delivery) return { is: 'same', session };
  const member: Member = { clientId, role, delivery, joinedEpoch: known?.joinedEpoch ?? session.epoch };
  const members = [...session.members.filter((other) => other.clientId !== clientId), member];
  return moved(session, { members }, at, { event: 'session.joined' });
}

/** What `switch` and `close` propose. */
export interface Proposal extends SwitchParameters {
  readonly switchId: string;
  readonly effectors: boolean;
  readonly grantExpiresAt?: number | undefined;
}

/**
 * Proposes a switch: PREPARING, from which on no permit is granted. The same `switchId` gets the same switch or its outcome.
 * Refused: 40904 same id with other parameters, 41001 closed, 40902 another switch, 41201 other epoch.
 */
export function begin(session: Session, proposal: Proposal, at: At): Step {
  const { switchId, effectors, grantExpiresAt, ...asked } = proposal;
  const before = session.decided.find(({ outcome }) => outcome.switchId === switchId);
  if (before) return sameParameters(before.parameters, asked) ? { is: 'same', session } : reused();
  if (session.state === 'closed') return closed();
  const { pending, subject } = session;
  if (pending) {
    if (pending.switchId !== switchId) return refused(40902, 'session', 'another switch holds the session');
    return sameParameters(pending.parameters, asked) ? { is: 'same', session } : reused();
  }
  if (asked.expectedEpoch !== session.epoch) return refused(41201, 'epoch', 'the expected epoch is not the current one');
  const parameters = { ...asked, kind: kindOf(asked, subject) };
  if (sameSubject(subject, asked.target)) {
    const outcome = emptyOutcome(switchId, parameters.kind, 'unchanged', session.epoch);
    return moved(session, { decided: remember(session, { outcome, parameters, at: at.now }, at) }, at, {
      event: 'switch.unchanged',
      switchId,
    });
  }
  const { now, timing } = at;
  const next: Pending = {
    switchId,
    parameters,
    begunAt: now,
    deadline: now + timing.switchMs,
    voteBy: now + timing.voteMs,
    asked: session.members.map(({ clientId }) => clientId),
    votes: {},
    effectors,
    tries: 0,
    drained: {},
    ...(grantExpiresAt === undefined ? {} : { grantExpiresAt }),
  };
  return moved(session, { state: 'preparing', pending: next, rev: session.rev + 1 }, at, {
    event: 'switch.begun',
    switchId,
    ...toPk(parameters),
  });
}

/** A participant's vote: the first counts, unless it is later a veto. After the survey, or for a switch gone by, it changes nothing. */
export function vote(
  session: Session,
  said: { readonly clientId: string; readonly switchId: string; readonly vote: Vote },
  at: At,
): Step {
  const { clientId, switchId } = said;
  const pending = ofSwitch(session, switchId);
  if (!pending || session.state !== 'preparing') return { is: 'same', session };
  if (!pending.asked.includes(clientId)) return refused(40301, 'session', 'the client was not asked to vote');
  if (pending.votes[clientId] && said.vote.vote !== 'veto') return { is: 'same', session };
  if (pending.votes[clientId]?.vote === 'veto') return { is: 'same', session };
  const votes = { ...pending.votes, [clientId]: said.vote };
  return moved(session, { pending: { ...pending, votes } }, at, { event: 'switch.vote', switchId, vote: said.vote.vote });
}

/** What a switch waits for, or can do next. */
export type Progress =
  | { readonly can: 'wait'; readonly until: number }
  /** The survey is over: ask the person, or go on to draining where there is nothing to ask. */
  | { readonly can: 'ask' | 'drain' | 'commit' }
  | { readonly can: 'abort'; readonly reason: AbortReason };

/** What is to be done about a pending switch at this moment; `undefined` when there is none. Pure reading. */
export function progress(session: Session, now: number, timing: Timing): Progress | undefined {
  const { pending } = session;
  if (!pending) return undefined;
  if (now >= pending.deadline) return { can: 'abort', reason: 'deadline' };
  if (session.state === 'preparing') {
    const vetoed = Object.values(pending.votes).some((one) => one.vote === 'veto');
    if (vetoed && pending.parameters.kind !== 'close') return { can: 'abort', reason: 'vetoed' };
    const all = pending.asked.every((clientId) => pending.votes[clientId] !== undefined);
    if (!all && now < pending.voteBy) return { can: 'wait', until: pending.voteBy };
    return { can: pending.parameters.kind === 'switch' ? 'ask' : 'drain' };
  }
  if (session.state === 'confirming') {
    if (pending.confirmBy !== undefined && now >= pending.confirmBy) return { can: 'abort', reason: 'deadline' };
    return { can: 'wait', until: Math.min(pending.confirmBy ?? pending.deadline, pending.deadline) };
  }
  // Until then the person's next call brings a grant of its own.
  if (pending.grantExpiresAt !== undefined && now >= pending.grantExpiresAt) return { can: 'abort', reason: 'authorization' };
  const ends = session.permits.map((permit) => permit.expiresAt + timing.skewMs + 1).filter((end) => end > now);
  const all = followers(pending).every((clientId) => pending.drained[clientId] !== undefined);
  if (!all && pending.drainBy !== undefined && now < pending.drainBy) return { can: 'wait', until: pending.drainBy };
  return ends.length === 0 ? { can: 'commit' } : { can: 'wait', until: Math.max(...ends) };
}

/** Aborts what is over time, whoever looks; `undefined` when nothing is. */
export function expire(session: Session, at: At): Step | undefined {
  const next = progress(session, at.now, at.timing);
  return next?.can === 'abort' && session.pending
    ? abort(session, { switchId: session.pending.switchId, reason: next.reason }, at)
    : undefined;
}

/**
 * A dialog is put to the person: CONFIRMING. Its nonce replaces any earlier one. C2 where anybody in the session can cause
 * effects, else C1.
 */
export function ask(session: Session, dialog: { readonly switchId: string; readonly nonceHash: string }, at: At): Step {
  const pending = ofSwitch(session, dialog.switchId);
  if (!pending) return { is: 'same', session };
  const surveyed = session.state === 'preparing' && progress(session, at.now, at.timing)?.can === 'ask';
  if (!surveyed && session.state !== 'confirming') return { is: 'same', session };
  const level = pending.effectors || session.members.some(({ role }) => role === 'effector') ? 'C2' : 'C1';
  const confirmBy = pending.confirmBy ?? Math.min(at.now + at.timing.userMs, pending.deadline);
  const next = { ...pending, nonceHash: dialog.nonceHash, level: pending.level ?? level, confirmBy } as const;
  return moved(session, { state: 'confirming', pending: next, rev: session.rev + (surveyed ? 1 : 0) }, at, {
    event: 'switch.asked',
    switchId: pending.switchId,
    level: next.level,
  });
}

/** The person's answer to the dialog with this nonce, already judged. */
export interface Answer {
  readonly switchId: string;
  readonly nonceHash: string;
  readonly right: boolean;
  /** The end of the grant that came with the answer. */
  readonly grantExpiresAt?: number | undefined;
}

/**
 * The nonce is used up. A right answer: DRAINING; from here the caller's going away cancels nothing. A wrong one may be given
 * again, to a new dialog, until the third: aborted. A nonce that is not the current one: 42201.
 */
export function answer(session: Session, given: Answer, at: At): Step {
  const pending = ofSwitch(session, given.switchId);
  if (!pending || session.state === 'draining') return { is: 'same', session };
  if (session.state !== 'confirming' || pending.nonceHash === undefined || pending.nonceHash !== given.nonceHash) {
    return refused(42201, 'confirmation', 'the answer belongs to no open dialog');
  }
  const { nonceHash: _, ...rest } = pending;
  if (given.right) {
    const { grantExpiresAt } = given;
    return toDraining(session, { ...rest, ...(grantExpiresAt === undefined ? {} : { grantExpiresAt }) }, at);
  }
  const tries = pending.tries + 1;
  const wrong = { event: 'switch.answered', outcome: 4, code: 42201, check: 'confirmation' } as const;
  const reason = 'an identifier of the dialog was not answered rightly';
  if (tries >= MAX_TRIES) return abort(session, { switchId: given.switchId, reason: 'confirmation' }, at);
  return moved(session, { pending: { ...rest, tries } }, at, {
    ...wrong,
    reason,
    switchId: given.switchId,
    level: pending.level,
  });
}

/** Goes on without a dialog, where there is nothing to ask: an encounter change, or a close. */
export function proceed(session: Session, { switchId }: { readonly switchId: string }, at: At): Step {
  const pending = ofSwitch(session, switchId);
  if (!pending || session.state !== 'preparing' || progress(session, at.now, at.timing)?.can !== 'drain')
    return { is: 'same', session };
  return toDraining(session, pending, at);
}

function toDraining(session: Session, pending: Pending, at: At): Step {
  const next = { ...pending, confirmedAt: at.now, drainBy: at.now + at.timing.drainMs };
  return moved(session, { state: 'draining', pending: next, rev: session.rev + 1 }, at, {
    event: 'switch.confirmed',
    switchId: pending.switchId,
    ...(pending.level === undefined ? {} : { level: pending.level }),
    ...toPk(pending.parameters),
  });
}

/** A participant has ended its live work. Later, or for another switch, it changes nothing. */
export function drained(
  session: Session,
  said: { readonly clientId: string; readonly switchId: string; readonly drained: Drained },
  at: At,
): Step {
  const { clientId, switchId } = said;
  const pending = ofSwitch(session, switchId);
  if (!pending || session.state !== 'draining' || pending.drained[clientId]) return { is: 'same', session };
  if (!pending.asked.includes(clientId)) return refused(40301, 'session', 'the client was not asked to drain');
  const next = { ...pending, drained: { ...pending.drained, [clientId]: said.drained } };
  return moved(session, { pending: next }, at, { event: 'switch.drained', switchId });
}

/**
 * The commit point: one step from epoch e to e + 1, with its record. Only from DRAINING, when nobody is waited for and no permit
 * can be alive. The caller has authorized the target once more just before.
 */
export function commit(session: Session, { switchId }: { readonly switchId: string }, at: At): Step {
  const pending = ofSwitch(session, switchId);
  if (!pending || session.state !== 'draining' || progress(session, at.now, at.timing)?.can !== 'commit')
    return { is: 'same', session };
  const { parameters } = pending;
  const gone = pending.asked.filter((clientId) => !followers(pending).includes(clientId) || !pending.drained[clientId]);
  const epoch = session.epoch + 1;
  const outcome = { ...tally(pending, emptyOutcome(switchId, parameters.kind, 'committed', epoch)), evicted: gone };
  const ends = parameters.kind === 'close';
  const { pending: _, ...rest } = session;
  return moved(
    rest,
    {
      epoch,
      rev: session.rev + 1,
      state: ends ? 'closed' : 'active',
      subject: parameters.target,
      members: ends ? [] : session.members.filter(({ clientId }) => !gone.includes(clientId)),
      permits: [],
      decided: remember(session, { outcome, parameters, at: at.now }, at),
      ...(ends ? { closedAt: at.now } : {}),
    },
    at,
    {
      event: 'switch.committed',
      switchId,
      ...(session.subject === null ? {} : { fromPk: session.subject.pk }),
      ...(gone.length === 0 ? {} : { evicted: gone }),
      ...(pending.confirmedAt === undefined ? {} : { waitedMs: at.now - pending.confirmedAt }),
    },
  );
}

/** Gives a switch up: same epoch, same patient. What is decided stays as it was. */
export function abort(session: Session, given: { readonly switchId: string; readonly reason: AbortReason }, at: At): Step {
  const { switchId, reason } = given;
  const pending = ofSwitch(session, switchId);
  if (!pending) {
    if (session.decided.some(({ outcome }) => outcome.switchId === switchId)) return { is: 'same', session };
    return session.state === 'closed' ? closed() : refused(41201, 'session', 'no such switch');
  }
  const { parameters } = pending;
  const outcome = { ...emptyOutcome(switchId, parameters.kind, 'aborted', session.epoch), reason };
  const { pending: _, ...rest } = session;
  const decided = remember(session, { outcome, parameters, at: at.now }, at);
  return moved(rest, { state: 'active', rev: session.rev + 1, decided }, at, {
    event: 'switch.aborted',
    outcome: 4,
    switchId,
    reason,
    ...(reason === 'confirmation' ? { code: 42201, check: 'confirmation' as const } : {}),
  });
}

/** The outcome of a switch, when it is decided. */
export function outcomeOf(session: Session, switchId: string): SwitchOutcome | undefined {
  return session.decided.find(({ outcome }) => outcome.switchId === switchId)?.outcome;
}

/** Members that voted to follow: those a drain waits for. */
export function followers(pending: Pending): string[] {
  return pending.asked.filter((clientId) => {
    const said = pending.votes[clientId]?.vote;
    return said !== undefined && said !== 'cannot_follow';
  });
}

/** The switch with this id when it is the pending one. */
function ofSwitch(session: Session, switchId: string): Pending | undefined {
  return session.pending?.switchId === switchId ? session.pending : undefined;
}

function closed(): Refused {
  return refused(41001, 'session', 'the session is closed');
}

function reused(): Refused {
  return refused(40904, 'session', 'the switch id was used with other parameters');
}

function samePerson(a: Subject | null, b: Subject | null): boolean {
  return a !== null && b !== null && a.pk === b.pk;
}

function sameSubject(a: Subject | null, b: Subject | null): boolean {
  return samePerson(a, b) && a?.encounter === b?.encounter;
}

/** `kind` follows from the subject at the time, so it is not compared. */
function sameParameters(a: SwitchParameters, b: SwitchParameters): boolean {
  const target = a.target === null ? b.target === null : sameSubject(a.target, b.target);
  return a.expectedEpoch === b.expectedEpoch && target && (a.kind === 'close') === (b.kind === 'close');
}

function kindOf({ kind, target }: SwitchParameters, subject: Subject | null): SwitchKind {
  if (kind === 'close') return 'close';
  return samePerson(subject, target) ? 'encounter' : 'switch';
}

/** The patient a proposal goes to, as the audit names it. */
function toPk({ target }: SwitchParameters): { toPk?: string } {
  return target === null ? {} : { toPk: target.pk };
}

function emptyOutcome(switchId: string, kind: SwitchKind, result: SwitchOutcome['result'], epoch: number): SwitchOutcome {
  return { switchId, kind, result, epoch, evicted: [], saved: 0, lost: 0, indeterminate: [] };
}

/** What became of unsaved work; what was not reported saved counts as lost. */
function tally(pending: Pending, outcome: SwitchOutcome): SwitchOutcome {
  const announced = Object.values(pending.votes).reduce((sum, { unsaved }) => sum + unsaved.length, 0);
  let saved = 0;
  for (const [clientId, reported] of Object.entries(pending.drained)) {
    const own = new Set(pending.votes[clientId]?.unsaved.map(({ id }) => id));
    saved += new Set(reported.saved.filter((id) => own.has(id))).size;
  }
  const indeterminate = Object.values(pending.drained).flatMap((reported) => reported.indeterminate);
  return { ...outcome, saved, lost: announced - saved, indeterminate: indeterminate.slice(0, 64) };
}

function remember(session: Session, decided: Decided, { now, timing }: At): Decided[] {
  const kept = session.decided.filter(({ at }) => now - at < timing.retentionMs);
  return [...kept, decided].slice(-MAX_DECIDED);
}
