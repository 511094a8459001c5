import { type Agent, openSession, type Session, type SwitchAnswer } from '@hmcp/agent';
import { type Grant, SmartError } from '@hmcp/auth';
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
  readonly #sessions: Session[] = [];
  #grant: Grant;
  #session: Session;
  #next: Grant | undefined;

  private constructor(options: VisitOptions, session: Session) {
    this.#options = options;
    this.#banner = options.banner;
    this.#grant = options.grant;
    this.#now = options.now ?? Date.now;
    this.#session = session;
    this.#sessions.push(session);
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

  /** The switch the person is in the middle of. */
  get switching(): VisitSwitch | undefined {
    return this.#switching;
  }

  /** The session of this visit now. */
  get session(): Session {
    return this.#session;
  }

  /**
   * Asks triage about the patient of this visit.
   * @throws {VisitEnded} when the grant has ended and cannot be renewed
   * @throws {AuthorityUnavailable} when it has ended and nobody can be asked for another
   * @throws {HmcpError} the refusal of a hop
   */
  async ask(question: { readonly reason: string; readonly laboratory?: string | undefined }): Promise<Assessment> {
    await this.#renew();
    const { reason, laboratory } = question;
    return this.#session.call('triage', assess, { reason, ...(laboratory === undefined ? {} : { laboratory }) });
  }

  /** Asks a laboratory itself. Errors as {@link ask}. */
  async results(laboratory: string): Promise<z.output<typeof listResults.output>> {
    await this.#renew();
    return this.#session.call(laboratory, listResults, { category: 'laboratory' });
  }

  /** Drafts an order for the patient of this visit. Errors as {@link ask}. */
  async draft(order: z.input<typeof draftOrder.input>): Promise<z.output<typeof draftOrder.output>> {
    await this.#renew();
    return this.#session.call('orders', draftOrder, order);
  }

  /** Signs a draft. Errors as {@link ask}. */
  async sign(draft: string): Promise<z.output<typeof signOrder.output>> {
    await this.#renew();
    return this.#session.call('orders', signOrder, { draft });
  }

  /** Begins to go to the patient of a new grant; the person has yet to confirm. One switch at a time. */
  async beginSwitch(grant: Grant, banner: Banner): Promise<SwitchStep> {
    if (this.#switching !== undefined) await this.#settle(this.#switching, await this.#switching.answer('decline'), undefined);
    const switching = new VisitSwitch(this.#session, grant, banner);
    this.#switching = switching;
    this.#next = grant;
    return this.#settle(switching, await switching.next(), grant);
  }

  /** The person's answer to the dialog of a switch; `undefined` when that switch is over. */
  async answerSwitch(id: string, answer: SwitchAnswer): Promise<SwitchStep | undefined> {
    const switching = this.#switching;
    if (switching === undefined || switching.id !== id) return undefined;
    return this.#settle(switching, await switching.answer(answer), this.#next);
  }

  /** Once a switch has ended, the visit is on its patient, with new pages; or where it was. */
  async #settle(switching: VisitSwitch, step: SwitchStep, grant: Grant | undefined): Promise<SwitchStep> {
    if ('dialog' in step || this.#switching !== switching) return step;
    this.#switching = undefined;
    this.#next = undefined;
    if (step.report.result === 'committed' && grant !== undefined) {
      this.#grant = grant;
      this.#banner = switching.banner;
      this.#page = crypto.randomUUID();
    }
    return step;
  }

  /** Ends the visit: calls under way are settled, the grant is revoked where that is possible. Never throws. */
  async close(): Promise<void> {
    await Promise.all(this.#sessions.map((session) => session.close()));
    await this.#grant.revoke().catch(() => undefined);
  }

  /** A new token of the same grant and the same patient; calls under way keep the session they began in. */
  async #renew(): Promise<void> {
    const grant = this.#grant;
    if (this.#switching !== undefined || grant.expiresAt * 1000 - this.#now() > RENEW_SECONDS * 1000) return;
    let renewed: Grant;
    try {
      renewed = await grant.refresh();
    } catch (error) {
      if (error instanceof SmartError) throw new VisitEnded('the sign-in has ended');
      throw error;
    }
    if (this.#grant !== grant) return;
    const session = await openVisitSession(this.#options, renewed);
    this.#sessions.push(session);
    this.#session = session;
    this.#grant = renewed;
  }
}

function openVisitSession({ agent, manager, participants }: VisitOptions, grant: Grant): Promise<Session> {
  return openSession({ agent, grant, ...(manager === undefined ? {} : { manager, participants }) });
}
