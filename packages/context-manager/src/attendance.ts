import { createSealVerifier, SealError, type SealVerifier } from '@hmcp/auth';
import {
  type DrainedParams,
  type GetParams,
  type JoinParams,
  type OpenArguments,
  type PermitParams,
  type PermitResult,
  type RedeemParams,
  type ReleaseParams,
  type RenewParams,
  type SealClaims,
  type SessionFacts,
  sealMismatch,
  type VoteParams,
} from '@hmcp/core';
import type * as z from 'zod';
import { drained, join, open, type Refused, refused, vote } from './machine.js';
import { factsFor } from './messages.js';
import { type Caller, digest, freshId, type Office } from './office.js';
import { grantedPermit, permit, redeem, release } from './permits.js';
import { isOwner, mayAsk, mayCauseEffects, mayOpen, participation } from './rights.js';
import type { Permit, Session } from './session-row.js';

/** A seal may be renewed for this long after it expired, in seconds. @see protocol section 2.3 */
const RENEWABLE_SECONDS = 900;

/** Opening a session and taking part in one. Every method throws `HmcpError` for a refusal. @see protocol section 6 */
export class Attendance {
  readonly #office: Office;
  readonly #seals: SealVerifier;

  /** @param self how this manager's own seals are verified when they come back */
  constructor(office: Office, self: Parameters<typeof createSealVerifier>[0]) {
    this.#office = office;
    this.#seals = createSealVerifier(self);
  }

  async open(args: z.output<typeof OpenArguments>, caller: Caller): Promise<SessionFacts> {
    const office = this.#office;
    office.demand(mayOpen(caller.token), caller);
    if (!args.participants.every((clientId) => office.client(clientId)))
      throw office.refusal({ code: 40301, check: 'session', reason: 'an unknown client was named' }, caller);
    const { subject } = await office.authorize(args.target, caller);
    const { issuer, subject: sub, clientId } = caller.token;
    const opening = {
      sid: freshId('ctx'),
      owner: { issuer, subject: sub },
      client: clientId,
      subject,
      participants: args.participants,
    };
    const { session, record } = open(opening, office.sessions.at(await office.actor(caller)));
    const openKey = digest(JSON.stringify([issuer, sub, clientId, args.idempotencyKey]));
    const opened = await office.sessions.create(session, openKey, record);
    const same = opened.openedPk === subject.pk && String(opened.participants) === String(session.participants);
    if (!same) throw office.refusal({ code: 40904, check: 'session', reason: 'the key was used to open something else' }, caller);
    return this.#facts(opened, caller, undefined);
  }

  async join({ sid, role, delivery }: z.output<typeof JoinParams>, caller: Caller): Promise<SessionFacts> {
    const office = this.#office;
    const { clientId } = caller.token;
    await this.#attend(sid, caller);
    if (delivery === 'push' && office.client(clientId)?.endpoint === undefined)
      throw office.refusal({ code: 40301, check: 'session', reason: 'no address is registered for the client' }, caller);
    if (role === 'effector') office.demand(mayCauseEffects(office.client(clientId)), caller);
    const by = await office.actor(caller);
    const applied = await office.sessions.apply(sid, by, (session, at) => join(session, { clientId, role, delivery }, at));
    return this.#facts(office.settled(applied, caller), caller, undefined);
  }

  async get({ sid, switchId, rev, waitMs }: z.output<typeof GetParams>, caller: Caller): Promise<SessionFacts> {
    const office = this.#office;
    await this.#attend(sid, caller);
    const until = office.parts.clock.now() + waitMs;
    const found = await office.sessions.until(
      sid,
      (session, now) => {
        const news = rev === undefined || session.rev > rev;
        return waitMs === 0 || news || now >= until
          ? { session }
          : { lookAt: Math.min(until, session.pending?.deadline ?? until) };
      },
      caller.signal,
    );
    return this.#facts(found?.session ?? (await office.session(sid, caller)), caller, switchId);
  }

  async vote({ sid, switchId, ...said }: z.output<typeof VoteParams>, caller: Caller): Promise<SessionFacts> {
    const office = this.#office;
    await this.#attend(sid, caller);
    const given = { clientId: caller.token.clientId, switchId, vote: said };
    const applied = await office.sessions.apply(sid, await office.actor(caller), (session, at) => vote(session, given, at));
    return this.#facts(office.settled(applied, caller), caller, switchId);
  }

  async drained({ sid, switchId, ...said }: z.output<typeof DrainedParams>, caller: Caller): Promise<SessionFacts> {
    const office = this.#office;
    await this.#attend(sid, caller);
    const given = { clientId: caller.token.clientId, switchId, drained: said };
    const applied = await office.sessions.apply(sid, await office.actor(caller), (session, at) => drained(session, given, at));
    return this.#facts(office.settled(applied, caller), caller, switchId);
  }

  async renew(
    { seal }: z.output<typeof RenewParams>,
    caller: Caller,
  ): Promise<{ readonly seal: string; readonly session: Session }> {
    const office = this.#office;
    const claims = await this.#claims(seal, caller, RENEWABLE_SECONDS);
    const session = await office.session(claims.sid, caller);
    if (session.state === 'closed')
      throw office.refusal({ code: 41001, check: 'session', reason: 'the session is closed' }, caller);
    if (session.epoch !== claims.epoch || session.state === 'draining')
      throw office.refusal({ code: 40901, check: 'epoch', reason: 'the epoch has passed or is about to' }, caller);
    const renewed = await office.seal(session, caller);
    if (renewed === undefined)
      throw office.refusal({ code: 40302, check: 'policy', reason: 'the token is not of the patient of the session' }, caller);
    return { seal: renewed, session };
  }

  async permit(params: z.output<typeof PermitParams>, caller: Caller): Promise<PermitResult> {
    const office = this.#office;
    const { seal, intent, operation, effectKey, ttlMs } = params;
    const claims = await this.#claims(seal, caller, 0);
    const { epoch, sid } = claims;
    const { clientId } = caller.token;
    const asked = { permit: freshId('pm'), clientId, epoch, intent, operation, effectKey, ttlMs };
    const by = await office.actor(caller);
    // A row may say that it joined as one before its registration was changed.
    const unregistered = mayCauseEffects(office.client(clientId));
    const applied = await office.sessions.apply(sid, by, (session, at) => {
      const step = permit(session, asked, at);
      return step.is === 'refused' ? step : (unregistered ?? step);
    });
    const session = office.settled(applied, caller, intent.id);
    const granted = grantedPermit(session, asked, office.parts.clock.now());
    return this.#permit(granted, session, caller, intent.id);
  }

  async redeem({ seal, intent, permit: id }: z.output<typeof RedeemParams>, caller: Caller): Promise<PermitResult> {
    const office = this.#office;
    const { epoch, sid } = await this.#claims(seal, caller, 0);
    const given = { permit: id, epoch, intent };
    const applied = await office.sessions.apply(sid, await office.actor(caller), (session, at) => redeem(session, given, at));
    const session = office.settled(applied, caller, intent.id);
    return this.#permit(
      session.permits.find((one) => one.permit === id),
      session,
      caller,
      intent.id,
    );
  }

  async release({ sid, permit: id }: z.output<typeof ReleaseParams>, caller: Caller): Promise<Session> {
    const office = this.#office;
    await this.#attend(sid, caller);
    const given = { permit: id, clientId: caller.token.clientId };
    const applied = await office.sessions.apply(sid, await office.actor(caller), (session, at) => release(session, given, at));
    return office.settled(applied, caller);
  }

  async #facts(session: Session, caller: Caller, switchId: string | undefined): Promise<SessionFacts> {
    const seal = await this.#office.seal(session, caller);
    return { ...factsFor(session, caller.token.clientId, switchId), ...(seal === undefined ? {} : { seal }) };
  }

  #permit(granted: Permit | undefined, { sid }: Session, caller: Caller, intent: string): PermitResult {
    const left = (granted?.expiresAt ?? 0) - this.#office.parts.clock.now();
    if (granted === undefined || left <= 0)
      throw this.#office.refusal({ code: 42802, check: 'permit', reason: 'the permit has expired' }, caller, intent);
    const { permit: id, epoch, operation, effectKey, expiresAt } = granted;
    return { permit: id, sid, epoch, operation, effectKey, ttlMs: left, expiresAt };
  }

  async #attend(sid: string, caller: Caller): Promise<void> {
    const standing = participation(caller.token, await this.#office.session(sid, caller));
    if (typeof standing !== 'string') throw this.#office.refusal(standing, caller);
  }

  /** What one of this manager's own seals says, for the token it came with. */
  async #claims(seal: string, caller: Caller, expiredForSeconds: number): Promise<SealClaims> {
    const office = this.#office;
    const { token } = caller;
    const check = async (): Promise<SealClaims | Refused> => {
      const fault = mayAsk(token);
      if (fault) return fault;
      const { claims } = await this.#seals.verify(seal, { expiredForSeconds });
      const { sub_iss, sub } = claims;
      if (!isOwner(token, { owner: { issuer: sub_iss, subject: sub } }))
        return refused(40903, 'equality', 'seal and token name different people');
      const mismatch = sealMismatch(claims, token);
      return mismatch === undefined ? claims : { is: 'refused', ...mismatch };
    };
    const found = await check().catch((error: unknown): Refused => {
      if (!(error instanceof SealError)) throw error;
      // Beyond renewal, an old seal is an old epoch.
      const code = error.code === 40101 && expiredForSeconds > 0 ? 40901 : error.code;
      return refused(code, 'seal', error.reason);
    });
    if ('is' in found) throw office.refusal(found, caller);
    return found;
  }
}
