import { type DecidedParams, type DrainParams, PARTICIPANT_METHODS, type PrepareParams, type SessionFacts } from '@hmcp/core';
import { followers, outcomeOf } from './machine.js';
import type { Pending, Session } from './session-row.js';

/** One message to a participant that asked to be told. */
export type Message =
  | { readonly to: string; readonly method: typeof PARTICIPANT_METHODS.prepare; readonly params: PrepareParams }
  | { readonly to: string; readonly method: typeof PARTICIPANT_METHODS.drain; readonly params: DrainParams }
  | { readonly to: string; readonly method: typeof PARTICIPANT_METHODS.decided; readonly params: DecidedParams };

/**
 * What participants are told because a session went from one row to the next. None of it has to arrive: silence is eviction, and
 * whoever misses the decision learns the epoch from the next request or `get`.
 * @see protocol section 6
 */
export function messages(before: Session, after: Session): Message[] {
  const told = before.members.filter(({ delivery }) => delivery === 'push').map(({ clientId }) => clientId);
  const { pending } = after;
  if (after.state === 'preparing' && before.state !== 'preparing' && pending) {
    const params = proposal(after, pending);
    return told
      .filter((to) => pending.asked.includes(to))
      .map((to) => ({ to, method: PARTICIPANT_METHODS.prepare, params }) as const);
  }
  if (after.state === 'draining' && before.state !== 'draining' && pending) {
    return told
      .filter((to) => followers(pending).includes(to))
      .map((to) => ({
        to,
        method: PARTICIPANT_METHODS.drain,
        params: { ...proposal(after, pending), save: savable(pending, to) },
      }));
  }
  if (before.pending && !pending) {
    const { switchId } = before.pending;
    const outcome = outcomeOf(after, switchId);
    if (outcome === undefined || outcome.result === 'unchanged') return [];
    const { kind, result, epoch } = outcome;
    const params = { sid: after.sid, rev: after.rev, switchId, kind, result, epoch };
    return told.map((to) => ({ to, method: PARTICIPANT_METHODS.decided, params }) as const);
  }
  return [];
}

/**
 * What one reader is told of a session, without a seal. `expects` says whether this client is waited for, and for what.
 * @param switchId whose outcome is wanted; without it, the last one
 */
export function factsFor(session: Session, clientId: string | undefined, switchId: string | undefined): SessionFacts {
  const { sid, epoch, rev, state, pending, decided } = session;
  const outcome = switchId === undefined ? decided.at(-1)?.outcome : outcomeOf(session, switchId);
  const facts = { sid, epoch, rev, state, ...(outcome === undefined ? {} : { outcome }) };
  if (!pending) return facts;
  const expects = clientId === undefined ? undefined : expected(session, pending, clientId);
  return {
    ...facts,
    pending: {
      switchId: pending.switchId,
      kind: pending.parameters.kind,
      deadline: pending.deadline,
      ...(expects === undefined ? {} : { expects }),
      save: expects === 'drained' && clientId !== undefined ? savable(pending, clientId) : [],
    },
  };
}

function expected(session: Session, pending: Pending, clientId: string): 'vote' | 'drained' | undefined {
  if (session.state === 'preparing') {
    return pending.asked.includes(clientId) && pending.votes[clientId] === undefined ? 'vote' : undefined;
  }
  if (session.state !== 'draining') return undefined;
  return followers(pending).includes(clientId) && pending.drained[clientId] === undefined ? 'drained' : undefined;
}

function proposal(session: Session, pending: Pending): PrepareParams {
  const { sid, rev, epoch } = session;
  return { sid, rev, switchId: pending.switchId, epoch, kind: pending.parameters.kind, deadline: pending.deadline };
}

/** Everything that can be saved is: nothing of the patient being left is thrown away unasked. */
function savable(pending: Pending, clientId: string): string[] {
  return (pending.votes[clientId]?.unsaved ?? []).filter((item) => item.savable).map(({ id }) => id);
}
