import { randomBytes } from 'node:crypto';
import {
  type AbortArguments,
  type AbortReason,
  type CloseArguments,
  HmcpError,
  type SwitchArguments,
  type SwitchResult,
} from '@hmcp/core';
import type * as z from 'zod';
import { canConfirm, type Dialog, dialogFor, judge, type UnsavedNotice } from './confirmation.js';
import { type Identifiers, IdentifiersFailure, type ReadIdentifiers } from './identifiers.js';
import { abort, answer, ask, begin, commit, outcomeOf, type Proposal, proceed, progress, type Step } from './machine.js';
import { type Caller, digest, type Office } from './office.js';
import { mayEnd, maySwitch } from './rights.js';
import type { Pending, Session } from './session-row.js';
import { StoreUnavailable } from './store.js';
import type { Underway } from './underway.js';

/** How the connection can carry a dialog, and what came back on it. */
export interface Conversation {
  /** False on a connection that cannot ask a person anything (2025-era stateless, or a client without form elicitation). */
  readonly canAsk: boolean;
  /** The state of the dialog that is answered, as the client echoed it, and the response: both untrusted. */
  readonly answered?: { readonly nonce: string; readonly response: unknown } | undefined;
}

/** What a switch comes to for now: a result, or a dialog to put to the person. `nonce` is the opaque request state. */
export type Switched =
  | { readonly is: 'result'; readonly result: SwitchResult }
  | { readonly is: 'dialog'; readonly dialog: Dialog; readonly nonce: string };

/** Times a switch that is being finished is tried again when the store does not answer. */
const MAX_STORE_FAILURES = 20;
const STORE_PAUSE_MS = 500;

/** Where a switch stands, and what comes next. */
interface Seen {
  readonly row: Session;
  readonly next: 'result' | 'finish' | 'ask' | 'proceed';
}

/** Proposing, confirming, draining and deciding a switch. Every method throws `HmcpError` for a refusal. @see protocol section 6 */
export class Switching {
  readonly #office: Office;
  readonly #identifiers: ReadIdentifiers;
  /** Switches that are being drained and committed by this process; nobody's going away stops them. */
  readonly #finishing = new Map<string, Promise<void>>();
  readonly #underway: Underway;
  readonly #onFailure: (error: unknown) => void;

  constructor(parts: {
    readonly office: Office;
    readonly identifiers: ReadIdentifiers;
    readonly underway: Underway;
    readonly onFailure: (error: unknown) => void;
  }) {
    this.#office = parts.office;
    this.#identifiers = parts.identifiers;
    this.#underway = parts.underway;
    this.#onFailure = parts.onFailure;
  }

  async switch(args: z.output<typeof SwitchArguments>, caller: Caller, conversation: Conversation): Promise<Switched> {
    const office = this.#office;
    const { sid, switchId, expectedEpoch } = args;
    const session = await office.session(sid, caller);
    office.demand(maySwitch(caller.token, session), caller);
    // A right that is gone while the dialog is open ends the switch.
    const lost = (error: unknown): Promise<never> => this.#lost(error, session, switchId, caller);
    const { subject, grantExpiresAt } = await office.authorize(args.target, caller).catch(lost);
    const effectors = session.participants.some((clientId) => office.client(clientId)?.effector === true);
    const proposal: Proposal = { switchId, kind: 'switch', expectedEpoch, target: subject, effectors, grantExpiresAt };
    const who = await this.#beforePrepare(session, proposal, caller, conversation).catch(lost);
    const by = await office.actor(caller);
    const began = office.settled(await office.sessions.apply(sid, by, (row, at) => begin(row, proposal, at)), caller);
    const waiting = began.pending?.switchId === switchId ? began.pending : undefined;
    if (waiting && conversation.answered && who) await this.#answered(args, waiting, conversation.answered, who, caller);
    return this.#advance(sid, switchId, caller, {
      ask: async (row) => this.#dialog(row, switchId, who, caller),
      authorize: async () => {
        await office.authorize(args.target, caller);
        if (waiting?.parameters.kind === 'switch') await this.#read(proposal, caller);
      },
    });
  }

  async close({ sid, switchId, expectedEpoch }: z.output<typeof CloseArguments>, caller: Caller): Promise<SwitchResult> {
    const office = this.#office;
    office.demand(mayEnd(caller.token, await office.session(sid, caller)), caller);
    const proposal: Proposal = { switchId, kind: 'close', expectedEpoch, target: null, effectors: false };
    const by = await office.actor(caller);
    office.settled(await office.sessions.apply(sid, by, (row, at) => begin(row, proposal, at)), caller);
    const done = await this.#advance(sid, switchId, caller, {
      ask: () => Promise.reject(new TypeError('a close asks nobody')),
      authorize: async () => undefined,
    });
    if (done.is === 'dialog') throw new TypeError('a close asks nobody');
    return done.result;
  }

  async abort({ sid, switchId }: z.output<typeof AbortArguments>, caller: Caller): Promise<SwitchResult> {
    const office = this.#office;
    office.demand(mayEnd(caller.token, await office.session(sid, caller)), caller);
    const session = await this.#abort(sid, switchId, 'aborted', caller);
    return this.#result(session, switchId, caller);
  }

  /** Aborts what another run of this process left undecided: its grants are gone, and undecided means abort. */
  async recover(undecided: readonly string[]): Promise<void> {
    const { sessions } = this.#office;
    for (const sid of undecided) {
      await sessions.apply(sid, sessions.at().by, (row, at) =>
        row.pending ? abort(row, { switchId: row.pending.switchId, reason: 'restart' }, at) : { is: 'same', session: row },
      );
    }
  }

  /**
   * Whoever cannot confirm this switch is refused before anybody is asked to prepare for it. Gives the identifiers a dialog needs,
   * read with the caller's token, which also shows that it may open this patient.
   */
  async #beforePrepare(
    session: Session,
    proposal: Proposal,
    caller: Caller,
    { canAsk }: Conversation,
  ): Promise<Identifiers | undefined> {
    const office = this.#office;
    const dry: Step = begin(session, proposal, office.sessions.at());
    if (dry.is === 'refused') throw office.refusal(dry, caller);
    const row = dry.is === 'moved' ? dry.next : dry.session;
    if (row.pending?.switchId !== proposal.switchId || row.pending.parameters.kind !== 'switch') return undefined;
    const cannot = (reason: string): HmcpError => office.refusal({ code: 42201, check: 'confirmation', reason }, caller);
    if (office.client(caller.token.clientId)?.humanUi !== true) throw cannot('a page of the manager would have to be used');
    if (!canAsk) throw cannot('the connection cannot carry a dialog');
    const who = await this.#read(proposal, caller);
    const level = row.pending.level ?? levelOf(row, row.pending);
    if (!canConfirm(level, who)) throw cannot('the record has too few identifiers');
    return who;
  }

  async #lost(error: unknown, { sid, pending }: Session, switchId: string, caller: Caller): Promise<never> {
    const denied = error instanceof HmcpError && error.code === 40302;
    if (denied && pending?.switchId === switchId) await this.#abort(sid, switchId, 'authorization', caller);
    throw error;
  }

  async #read({ target }: Proposal, caller: Caller): Promise<Identifiers> {
    if (target === null) throw new TypeError('no target');
    try {
      return await this.#identifiers(target, caller);
    } catch (error) {
      if (!(error instanceof IdentifiersFailure)) throw error;
      const denied = { code: 40302, check: 'policy', reason: 'the patient could not be read' } as const;
      const unavailable = { code: 50301, check: 'policy', reason: 'the FHIR server did not answer' } as const;
      throw this.#office.refusal(error.kind === 'denied' ? denied : unavailable, caller);
    }
  }

  async #answered(
    { sid, switchId }: z.output<typeof SwitchArguments>,
    pending: Pending,
    { nonce, response }: NonNullable<Conversation['answered']>,
    who: Identifiers,
    caller: Caller,
  ): Promise<void> {
    const office = this.#office;
    const verdict = judge(pending.level ?? 'C2', response, who);
    if (verdict === 'declined') {
      // Only the person in front of the open dialog can decline it.
      if (pending.nonceHash === digest(nonce)) await this.#abort(sid, switchId, 'declined', caller);
      return;
    }
    const given = {
      switchId,
      nonceHash: digest(nonce),
      right: verdict === 'right',
      grantExpiresAt: caller.token.expiresAt * 1000,
    };
    const applied = await office.sessions.apply(sid, await office.actor(caller), (row, at) => answer(row, given, at));
    office.settled(applied, caller);
  }

  async #dialog(session: Session, switchId: string, who: Identifiers | undefined, caller: Caller): Promise<Switched | undefined> {
    if (who === undefined) throw new TypeError('a dialog without identifiers');
    const office = this.#office;
    const nonce = randomBytes(32).toString('base64url');
    const by = await office.actor(caller);
    const dialog = { switchId, nonceHash: digest(nonce) };
    const applied = await office.sessions.apply(session.sid, by, (row, at) => ask(row, dialog, at));
    const { pending } = office.settled(applied, caller);
    if (pending?.nonceHash !== dialog.nonceHash || pending.level === undefined) return undefined;
    return { is: 'dialog', nonce, dialog: dialogFor(pending.level, who, this.#notices(pending), pending.tries > 0) };
  }

  #notices({ votes }: Pending): UnsavedNotice[] {
    return Object.entries(votes).flatMap(([clientId, { unsaved }]) => {
      const savable = unsaved.filter((item) => item.savable).length;
      const name = this.#office.client(clientId)?.name ?? 'A participant';
      return unsaved.length === 0 ? [] : [{ name, savable, lost: unsaved.length - savable }];
    });
  }

  /** Moves a switch on for as long as it needs nobody but participants and the clock. */
  async #advance(
    sid: string,
    switchId: string,
    caller: Caller,
    steps: { readonly ask: (row: Session) => Promise<Switched | undefined>; readonly authorize: () => Promise<void> },
  ): Promise<Switched> {
    const { sessions } = this.#office;
    const by = await this.#office.actor(caller);
    for (;;) {
      const seen = await sessions.until<Seen>(
        sid,
        (row, now) => {
          if (row.pending?.switchId !== switchId) return { row, next: 'result' };
          if (row.state === 'draining') return { row, next: 'finish' };
          const found = progress(row, now, sessions.at().timing);
          if (row.state === 'confirming' || found?.can === 'ask') return { row, next: 'ask' };
          if (found?.can === 'drain') return { row, next: 'proceed' };
          return { lookAt: found?.can === 'wait' ? found.until : now };
        },
        caller.signal,
      );
      if (seen === undefined) return { is: 'result', result: await this.#unknown(sid, switchId, caller) };
      const { row, next } = seen;
      if (next === 'result') return { is: 'result', result: await this.#result(row, switchId, caller) };
      if (next === 'proceed') await sessions.apply(sid, by, (now, at) => proceed(now, { switchId }, at));
      if (next === 'ask') {
        const dialog = await steps.ask(row);
        if (dialog) return dialog;
      }
      if (next === 'finish') {
        await this.#finish(sid, switchId, caller, steps.authorize);
        const after = await sessions.read(sid);
        if (after?.pending?.switchId === switchId) return { is: 'result', result: this.#pending(after, switchId) };
      }
    }
  }

  /** Drains and commits, once, whoever waits for it. */
  #finish(sid: string, switchId: string, caller: Caller, authorize: () => Promise<void>): Promise<void> {
    const key = `${sid} ${switchId}`;
    const running = this.#finishing.get(key);
    if (running) return running;
    const finishing = this.#underway.add(
      this.#persist(() => this.#drainAndCommit(sid, switchId, caller, authorize))
        .catch((error: unknown) => this.#onFailure(error))
        .finally(() => this.#finishing.delete(key)),
    );
    this.#finishing.set(key, finishing);
    return finishing;
  }

  /** A store that does not answer is asked again for a while: nobody else would finish a switch that was confirmed. */
  async #persist(finish: () => Promise<void>): Promise<void> {
    for (let failures = 0; ; ) {
      try {
        return await finish();
      } catch (error) {
        failures += 1;
        if (!(error instanceof StoreUnavailable) || failures > MAX_STORE_FAILURES) throw error;
      }
      await this.#office.parts.clock.wait(STORE_PAUSE_MS, new AbortController().signal);
    }
  }

  async #drainAndCommit(sid: string, switchId: string, caller: Caller, authorize: () => Promise<void>): Promise<void> {
    const { sessions } = this.#office;
    const by = await this.#office.actor(caller);
    for (;;) {
      const seen = await sessions.until<{ readonly ready: boolean }>(sid, (row, now) => {
        if (row.pending?.switchId !== switchId || row.state !== 'draining') return { ready: false };
        const next = progress(row, now, sessions.at().timing);
        return next?.can === 'wait' ? { lookAt: next.until } : { ready: next?.can === 'commit' };
      });
      if (seen?.ready !== true) return;
      // Asked again at the last moment: a right that was withdrawn while the dialog was open is a right withdrawn.
      const fault = await authorize().then(
        () => undefined,
        (error: unknown): AbortReason => (error instanceof HmcpError && error.code !== 50301 ? 'authorization' : 'unavailable'),
      );
      if (fault !== undefined) {
        await this.#abort(sid, switchId, fault, caller);
        return;
      }
      const applied = await sessions.apply(sid, by, (row, at) => commit(row, { switchId }, at));
      if (applied?.is !== 'row' || applied.session.pending?.switchId !== switchId) return;
    }
  }

  async #abort(sid: string, switchId: string, reason: AbortReason, caller: Caller): Promise<Session> {
    const office = this.#office;
    const by = await office.actor(caller);
    const applied = await office.sessions.apply(sid, by, (row, at) => abort(row, { switchId, reason }, at));
    return office.settled(applied, caller);
  }

  async #result(session: Session, switchId: string, caller: Caller): Promise<SwitchResult> {
    const outcome = outcomeOf(session, switchId);
    const { sid, rev } = session;
    if (outcome === undefined) return this.#pending(session, switchId);
    if (outcome.reason === 'confirmation')
      throw this.#office.refusal({ code: 42201, check: 'confirmation', reason: 'the third answer was wrong too' }, caller);
    const seal = session.epoch === outcome.epoch ? await this.#office.seal(session, caller) : undefined;
    return { ...outcome, sid, rev, ...(seal === undefined ? {} : { seal }) };
  }

  async #unknown(sid: string, switchId: string, caller: Caller): Promise<SwitchResult> {
    return this.#pending(await this.#office.session(sid, caller), switchId);
  }

  #pending({ sid, rev, epoch, pending }: Session, switchId: string): SwitchResult {
    const kind = pending?.parameters.kind ?? 'switch';
    return { sid, rev, switchId, kind, result: 'pending', epoch, evicted: [], saved: 0, lost: 0, indeterminate: [] };
  }
}

/** The level the machine will ask at, should nobody else join. */
function levelOf(session: Session, { effectors }: Pending): 'C1' | 'C2' {
  return effectors || session.members.some(({ role }) => role === 'effector') ? 'C2' : 'C1';
}
