import { type Agent, openSession, type Session, type SwitchAnswer } from '@hmcp/agent';
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

/** One person at the portal, from sign-in to close, on one patient at a time. */
export class Visit {
  readonly #options: VisitOptions;
  readonly #now: () => number;
  #page: string = crypto.randomUUID();
  #banner: Banner;
  #switching: VisitSwitch | undefined;
  #grant: Grant;
  readonly #session: Session;
  /** Epoch of the session that the chart shown is of. */
  #epoch: number;
  /** What the last switch goes to, while its end is not known. */
  #next: { readonly grant: Grant; readonly banner: Banner } | undefined;
  #renewing: Promise<void> | undefined;

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
    const { agent, grant, manager, participants } = options;
    const managed = manager === undefined ? {} : { manager, participants };
    return new Visit(options, await openSession({ agent, grant, ...managed }));
  }

  /** Whom the person is on. */
  get banner(): Banner {
    this.#follow();
    return this.#banner;
  }

  /**
   * Names the chart that is open in the forms of its pages, so that a page of an earlier patient cannot ask about this one.
   * Another one after a switch. No secret.
   */
  get page(): string {
    this.#follow();
    return this.#page;
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
   * @throws {HmcpError} the refusal of a hop; 40901 when another chart was opened meanwhile
   */
  async ask(question: { readonly reason: string; readonly laboratory?: string | undefined }): Promise<Assessment> {
    const { reason, laboratory } = question;
    const asked = { reason, ...(laboratory === undefined ? {} : { laboratory }) };
    return this.#onThisPage((session) => session.call('triage', assess, asked));
  }

  /** Asks a laboratory itself. Errors as {@link ask}. */
  async results(laboratory: string): Promise<z.output<typeof listResults.output>> {
    return this.#onThisPage((session) => session.call(laboratory, listResults, { category: 'laboratory' }));
  }

  /** Drafts an order for the patient of this visit. Errors as {@link ask}. */
  async draft(order: z.input<typeof draftOrder.input>): Promise<z.output<typeof draftOrder.output>> {
    return this.#onThisPage((session) => session.call('orders', draftOrder, order));
  }

  /** Signs a draft. Errors as {@link ask}. */
  async sign(draft: string): Promise<z.output<typeof signOrder.output>> {
    return this.#onThisPage((session) => session.call('orders', signOrder, { draft }));
  }

  /** Begins to go to the patient of a new grant; the person has yet to confirm. One switch at a time. */
  async beginSwitch(grant: Grant, banner: Banner): Promise<SwitchStep> {
    while (this.#renewing !== undefined || this.#switching !== undefined) {
      await this.#renewing?.catch(() => undefined);
      await this.#switching?.answer('decline');
    }
    const switching = new VisitSwitch(this.#session, banner, {
      authorize: async () => {
        this.#follow();
        this.#next = { grant, banner };
        return grant;
      },
      ended: ({ result }) => {
        this.#follow();
        this.#switching = undefined;
        if (result !== 'pending') this.#next = undefined;
      },
    });
    this.#switching = switching;
    return switching.next();
  }

  /** The person's answer to the dialog of a switch; `undefined` when that switch is over. */
  async answerSwitch(id: string, answer: SwitchAnswer): Promise<SwitchStep | undefined> {
    const switching = this.#switching;
    return switching?.id === id ? switching.answer(answer) : undefined;
  }

  /**
   * The chart shown is that of the session at every moment: the session goes on before anybody is told, and where nobody can say
   * the end of a switch, with a later call.
   */
  #follow(): void {
    if (this.#session.epoch === this.#epoch || this.#next === undefined) return;
    this.#epoch = this.#session.epoch;
    this.#grant = this.#next.grant;
    this.#banner = this.#next.banner;
    this.#page = crypto.randomUUID();
    this.#next = undefined;
  }

  /** Asks about the chart that is open now, or not at all. */
  async #onThisPage<T>(ask: (session: Session) => Promise<T>): Promise<T> {
    const { page } = this;
    const demand = (): void => {
      if (this.page === page) return;
      throw new HmcpError(40901, { by: this.#options.agent.by, check: 'epoch' }, { reason: 'another chart was opened' });
    };
    await this.#renew();
    demand();
    const answer = await ask(this.#session);
    demand();
    return answer;
  }

  /** Ends the visit: calls under way are settled, the grant is revoked where that is possible. Never throws. */
  async close(): Promise<void> {
    await this.#session.close();
    this.#follow();
    await this.#grant.revoke().catch(() => undefined);
  }

  /** A new token of the same grant and the same patient; calls under way keep theirs. Never during a switch. */
  async #renew(): Promise<void> {
    const isDue = this.#grant.expiresAt * 1000 - this.#now() <= RENEW_SECONDS * 1000;
    if (isDue && this.#switching === undefined) {
      this.#renewing ??= this.#refresh(this.#grant).finally(() => {
        this.#renewing = undefined;
      });
    }
    await this.#renewing;
  }

  async #refresh(grant: Grant): Promise<void> {
    let renewed: Grant;
    try {
      renewed = await grant.refresh();
    } catch (error) {
      if (error instanceof SmartError) throw new VisitEnded('the sign-in has ended');
      throw error;
    }
    if (this.#grant !== grant) return;
    this.#session.renew(renewed);
    this.#grant = renewed;
  }
}
