import { type Agent, openSession, type Session, type SwitchAnswer, type SwitchReport } from '@hmcp/agent';
import { type Grant, SmartError } from '@hmcp/auth';
import { HmcpError } from '@hmcp/core';
import type * as z from 'zod';
import type { Banner } from './banner.js';
import { type Assessment, assess, draftOrder, listResults, signOrder } from './contracts.js';
import { type SwitchStep, VisitSwitch } from './visit-switch.js';

/** What a visit is opened with. */
export interface VisitOptions {
  readonly agent: Agent;
  readonly grant: Grant;
  readonly banner: Banner;
  /** Resource identifier of the context manager that holds the session. @default none: a session of this process alone */
  readonly manager?: string | undefined;
  /** Client identifiers of agents that may join the session. @default [] */
  readonly participants?: readonly string[] | undefined;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
}

/** A grant is renewed before a call when it ends within this time, in seconds: longer than a call may take. */
const RENEW_SECONDS = 60;

/** The grant behind a visit can no longer be renewed; the person has to sign in again. */
export class VisitEnded extends Error {
  override readonly name = 'VisitEnded';
}

/** How long closing waits for a switch that is being decided, in milliseconds. */
const CLOSING_WAIT_MS = 5_000;

/** One person at the portal, from sign-in to close, on one patient at a time. */
export class Visit {
  readonly #options: VisitOptions;
  readonly #now: () => number;
  #page: string = crypto.randomUUID();
  #banner: Banner;
  #grant: Grant;
  readonly #session: Session;
  /** Of the session, where banner and page stand. */
  #epoch: number;
  #switching: VisitSwitch | undefined;
  /** A switch nobody could say the end of. */
  #unknown: VisitSwitch | undefined;
  /** Renewals and beginnings of switches, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  private constructor(options: VisitOptions, session: Session) {
    this.#options = options;
    this.#banner = options.banner;
    this.#grant = options.grant;
    this.#now = options.now ?? Date.now;
    this.#session = session;
    this.#epoch = session.epoch;
  }

  /** @throws {HmcpError} 42801 when the grant names no patient; with a manager, its refusal */
  static async open(options: VisitOptions): Promise<Visit> {
    return new Visit(options, await openVisitSession(options, options.grant));
  }

  /** Whom the person is on. */
  get banner(): Banner {
    return this.#banner;
  }

  /**
   * Names the chart that is open in the forms of its pages, so that a page of an earlier patient cannot ask about this one.
   * Another one after a switch. No secret.
   */
  get page(): string {
    return this.#page;
  }

  /** True from the person's confirmation until it is known whether the switch happened: nothing of either patient is shown. */
  get undecided(): boolean {
    return this.#unknown !== undefined || (this.#switching !== undefined && this.#switching.dialog === undefined);
  }

  /** The switch the person is in the middle of. */
  get switching(): VisitSwitch | undefined {
    return this.#switching;
  }

  /** The session of this visit. */
  get session(): Session {
    return this.#session;
  }

  /**
   * Asks triage about the patient of this visit.
   * @throws {VisitEnded} when the grant has ended and cannot be renewed
   * @throws {AuthorityUnavailable} when it has ended and nobody can be asked for another
   * @throws {HmcpError} the refusal of a hop; 40901 when the visit went on to another patient, or may have
   */
  async ask(question: { readonly reason: string; readonly laboratory?: string | undefined }): Promise<Assessment> {
    const { reason, laboratory } = question;
    const args = { reason, ...(laboratory === undefined ? {} : { laboratory }) };
    return this.#about((session) => session.call('triage', assess, args));
  }

  /** Asks a laboratory itself. Errors as {@link ask}. */
  async results(laboratory: string): Promise<z.output<typeof listResults.output>> {
    return this.#about((session) => session.call(laboratory, listResults, { category: 'laboratory' }));
  }

  /** Drafts an order for the patient of this visit. Errors as {@link ask}. */
  async draft(order: z.input<typeof draftOrder.input>): Promise<z.output<typeof draftOrder.output>> {
    return this.#about((session) => session.call('orders', draftOrder, order));
  }

  /** Signs a draft. Errors as {@link ask}. */
  async sign(draft: string): Promise<z.output<typeof signOrder.output>> {
    return this.#about((session) => session.call('orders', signOrder, { draft }));
  }

  /** Begins to go to the patient of a new grant; the person has yet to confirm. A switch that waits is given up for it. */
  beginSwitch(grant: Grant, banner: Banner): Promise<SwitchStep> {
    return this.#inTurn(async () => {
      await this.#switching?.stop();
      await this.look();
      const settle = (report: SwitchReport): void => this.#settle(switching, report);
      const switching: VisitSwitch = new VisitSwitch({ session: this.#session, grant, banner, settle });
      this.#switching = switching;
      return switching.next();
    });
  }

  /** The person's answer to one round of the dialog of a switch; `undefined` when that switch is over. */
  async answerSwitch(id: string, round: number, answer: SwitchAnswer): Promise<SwitchStep | undefined> {
    const switching = this.#switching;
    return switching === undefined || switching.id !== id ? undefined : switching.answer(round, answer);
  }

  /** Asks once more how a switch ended that nobody could say the end of. Never throws; {@link undecided} tells. */
  async look(): Promise<void> {
    const switching = this.#unknown;
    if (switching === undefined) return;
    const known = await this.#session.act(async () => true).catch(() => false);
    if (this.#unknown !== switching) return;
    if (this.#session.epoch !== this.#epoch) this.#adopt(switching);
    else if (known) this.#unknown = undefined;
  }

  /** Once a switch has ended, the visit is on its patient, with new pages; or where it was. */
  #settle(switching: VisitSwitch, { result }: SwitchReport): void {
    this.#switching = undefined;
    if (result === 'committed') this.#adopt(switching);
    if (result === 'pending') this.#unknown = switching;
  }

  #adopt({ grant, banner }: VisitSwitch): void {
    this.#unknown = undefined;
    this.#epoch = this.#session.epoch;
    this.#grant = grant;
    this.#banner = banner;
    this.#page = crypto.randomUUID();
  }

  /** Ends the visit: calls under way are settled, every grant it holds is revoked where that is possible. Never throws. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const switching = this.#switching;
    if (switching !== undefined) await Promise.race([switching.stop(), later(CLOSING_WAIT_MS)]);
    await this.#session.close();
    // Of a switch nobody can say the end of, both grants are ended; of any other, the session has ended one already.
    const open = [this.#unknown, this.#switching].flatMap((one) => (one === undefined ? [] : [one.grant]));
    await Promise.all([this.#grant, ...open].map((grant) => grant.revoke().catch(() => undefined)));
  }

  /** What was asked on the chart that is open is asked about it, and answered while it is open, or not at all. */
  async #about<T>(call: (session: Session) => Promise<T>): Promise<T> {
    const page = this.#page;
    await this.#renew();
    if (page !== this.#page || this.undecided) throw this.#overtaken('epoch');
    const answer = await call(this.#session);
    if (page !== this.#page) throw this.#overtaken('result');
    return answer;
  }

  #overtaken(check: 'epoch' | 'result'): HmcpError {
    return new HmcpError(40901, { by: this.#options.agent.by, check }, { reason: 'the visit went on, or may have' });
  }

  /** A new token of the same grant and the same patient; calls under way keep theirs. */
  #renew(): Promise<void> {
    if (!this.#due()) return Promise.resolve();
    return this.#inTurn(async () => {
      if (!this.#due()) return;
      let renewed: Grant;
      try {
        renewed = await this.#grant.refresh();
      } catch (error) {
        if (error instanceof SmartError) throw new VisitEnded('the sign-in has ended');
        throw error;
      }
      if (this.#closing !== undefined) {
        await renewed.revoke().catch(() => undefined);
        return;
      }
      this.#session.renew(renewed);
      this.#grant = renewed;
    });
  }

  #due(): boolean {
    if (this.#switching !== undefined || this.#unknown !== undefined || this.#closing !== undefined) return false;
    return this.#grant.expiresAt * 1000 - this.#now() <= RENEW_SECONDS * 1000;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work, work);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

function openVisitSession({ agent, manager, participants }: VisitOptions, grant: Grant): Promise<Session> {
  return openSession({ agent, grant, ...(manager === undefined ? {} : { manager, participants }) });
}
