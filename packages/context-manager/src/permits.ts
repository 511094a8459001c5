import { type At, moved, type Refused, refused, type Step } from './machine.js';
import type { Permit, Session } from './session-row.js';
import { MAX_PERMITS } from './timing.js';

/** What an effector asks a permit for. `epoch` is the seal's, `permit` a fresh id. */
export interface PermitRequest {
  readonly permit: string;
  readonly clientId: string;
  readonly epoch: number;
  readonly intent: { readonly id: string; readonly epoch: number };
  readonly operation: string;
  readonly effectKey: string;
  readonly ttlMs: number;
}

/** Refuses what was sealed or meant at another epoch: 40901 an earlier one, 40903 one that never was. */
function fence(session: Session, epoch: number, intentEpoch: number): Refused | undefined {
  if (session.state === 'closed') return refused(41001, 'session', 'the session is closed');
  if (epoch > session.epoch) return refused(40903, 'seal', 'the seal is of an epoch that never was');
  if (epoch < session.epoch) return refused(40901, 'epoch', 'the epoch has passed');
  if (intentEpoch !== epoch) return refused(40901, 'epoch', 'the intent was made at another epoch');
  return undefined;
}

/** The permit of this effect that can still be alive. */
function sameEffect(session: Session, asked: PermitRequest, now: number): Permit | undefined {
  return session.permits.find(
    (permit) =>
      permit.expiresAt > now &&
      permit.clientId === asked.clientId &&
      permit.intent === asked.intent.id &&
      permit.operation === asked.operation &&
      permit.effectKey === asked.effectKey,
  );
}

/**
 * Grants the right to one effect, only while ACTIVE at exactly this epoch: 42301 from prepare to decision. The same effect gets
 * the same permit while it lives; one that was redeemed is not given twice (42802).
 * @see protocol section 6
 */
export function permit(session: Session, asked: PermitRequest, at: At): Step {
  const passed = fence(session, asked.epoch, asked.intent.epoch);
  if (passed) return passed;
  const member = session.members.find(({ clientId }) => clientId === asked.clientId);
  if (member?.role !== 'effector') return refused(40301, 'session', 'the client is no effector of this session');
  if (session.state !== 'active') return refused(42301, 'permit', 'a switch is being decided');
  const granted = sameEffect(session, asked, at.now);
  if (granted) return granted.used ? refused(42802, 'permit', 'the permit was used') : { is: 'same', session };
  // What can no longer be alive by anybody's clock is forgotten here.
  const live = session.permits.filter(({ expiresAt }) => expiresAt + at.timing.skewMs >= at.now);
  if (live.length >= MAX_PERMITS) return refused(50301, 'permit', 'too many permits are live');
  const { permit: id, clientId, epoch, intent, operation, effectKey } = asked;
  const expiresAt = at.now + Math.min(asked.ttlMs, at.timing.permitMs);
  const fresh: Permit = { permit: id, clientId, epoch, intent: intent.id, operation, effectKey, expiresAt, used: false };
  return moved(session, { permits: [...live, fresh] }, at, { event: 'permit.granted', permit: id, intent: intent.id });
}

/** The permit a {@link permit} step gave, or had given before. */
export function grantedPermit(session: Session, asked: PermitRequest, now: number): Permit | undefined {
  return sameEffect(session, asked, now);
}

/**
 * Uses a permit up at the server that received it: once, while it lives, for the same intent. Also during a switch, whose commit
 * waits for it. 42802 otherwise.
 */
export function redeem(
  session: Session,
  given: { readonly permit: string; readonly epoch: number; readonly intent: PermitRequest['intent'] },
  at: At,
): Step {
  const passed = fence(session, given.epoch, given.intent.epoch);
  if (passed) return passed;
  const found = session.permits.find((one) => one.permit === given.permit);
  if (!found || found.intent !== given.intent.id || found.epoch !== given.epoch)
    return refused(42802, 'permit', 'no such permit for this intent');
  if (found.used) return refused(42802, 'permit', 'the permit was used');
  if (found.expiresAt <= at.now) return refused(42802, 'permit', 'the permit has expired');
  const permits = session.permits.map((one) => (one === found ? { ...one, used: true } : one));
  return moved(session, { permits }, at, { event: 'permit.redeemed', permit: found.permit, intent: found.intent });
}

/** Gives a permit back; one that is not there (any more) changes nothing. Only its holder can. */
export function release(session: Session, given: { readonly permit: string; readonly clientId: string }, at: At): Step {
  const found = session.permits.find((one) => one.permit === given.permit && one.clientId === given.clientId);
  if (!found) return { is: 'same', session };
  const permits = session.permits.filter((one) => one !== found);
  return moved(session, { permits }, at, { event: 'permit.released', permit: found.permit, intent: found.intent });
}
