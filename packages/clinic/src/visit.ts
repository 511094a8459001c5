import { type Agent, openSession, type Session } from '@hmcp/agent';
import { type Grant, SmartError } from '@hmcp/auth';
import { type Assessment, assess } from './contracts.js';

/** Who the person is on; shown on every page of a visit. */
export interface Banner {
  readonly name: string;
  readonly birthDate: string;
}

/** What a visit is opened with. */
export interface VisitOptions {
  readonly agent: Agent;
  readonly grant: Grant;
  readonly banner: Banner;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
}

/** A grant is renewed before a call when it ends within this time, in seconds: longer than a call may take. */
const RENEW_SECONDS = 60;

/** The grant behind a visit can no longer be renewed; the person has to sign in again. */
export class VisitEnded extends Error {
  override readonly name = 'VisitEnded';
}

/** One person on one patient at the portal, from sign-in to close. Never another patient: that is another visit. */
export class Visit {
  /** Names this visit in the forms of its pages, so that a page of an earlier patient cannot ask about this one. No secret. */
  readonly page = crypto.randomUUID();
  readonly banner: Banner;
  readonly #agent: Agent;
  readonly #now: () => number;
  readonly #sessions: Session[] = [];
  #grant: Grant;
  #session: Session;

  private constructor({ agent, grant, banner, now = Date.now }: VisitOptions, session: Session) {
    this.banner = banner;
    this.#agent = agent;
    this.#grant = grant;
    this.#now = now;
    this.#session = session;
    this.#sessions.push(session);
  }

  /** @throws {HmcpError} 42801 when the grant names no patient */
  static async open(options: VisitOptions): Promise<Visit> {
    return new Visit(options, await openSession({ agent: options.agent, grant: options.grant }));
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

  /** Ends the visit: calls under way are settled, the grant is revoked where that is possible. Never throws. */
  async close(): Promise<void> {
    await Promise.all(this.#sessions.map((session) => session.close()));
    await this.#grant.revoke().catch(() => undefined);
  }

  /** A new token of the same grant and the same patient; calls under way keep the session they began in. */
  async #renew(): Promise<void> {
    const grant = this.#grant;
    if (grant.expiresAt * 1000 - this.#now() > RENEW_SECONDS * 1000) return;
    let renewed: Grant;
    try {
      renewed = await grant.refresh();
    } catch (error) {
      if (error instanceof SmartError) throw new VisitEnded('the sign-in has ended');
      throw error;
    }
    if (this.#grant !== grant) return;
    const session = await openSession({ agent: this.#agent, grant: renewed });
    this.#sessions.push(session);
    this.#session = session;
    this.#grant = renewed;
  }
}
