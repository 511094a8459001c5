import type { Session, SwitchAnswer, SwitchDialog, SwitchReport } from '@hmcp/agent';
import type { Grant } from '@hmcp/auth';
import type { Banner } from './banner.js';

/** Where a switch stands: a dialog waits for the person, or it has ended. */
export type SwitchStep = { readonly dialog: SwitchDialog } | { readonly report: SwitchReport };

/** Longest wait for the person's answer, milliseconds; the manager's own limit is the same. */
const MOST_WAIT_MS = 120_000;

/**
 * A switch of a visit, told in pages: the session asks through a callback, a browser answers with its next form. The dialog is
 * put to nobody but the person at this page; each of its rounds takes one answer, from whichever tab comes first.
 */
export class VisitSwitch {
  /** Names this switch in the form of its dialog. No secret. */
  readonly id = crypto.randomUUID();
  /** Whom the new grant names. */
  readonly banner: Banner;
  readonly grant: Grant;
  /** The end; never rejects. */
  readonly ended: Promise<SwitchReport>;
  #answer: ((answer: SwitchAnswer) => void) | undefined;
  #told: SwitchStep | undefined;
  #waiting: ((step: SwitchStep) => void)[] = [];
  #stopped = false;

  /** @param settle is told the end before anybody who waits for it */
  constructor(options: {
    readonly session: Pick<Session, 'switchPatient' | 'epoch'>;
    readonly grant: Grant;
    readonly banner: Banner;
    readonly settle: (report: SwitchReport) => void;
  }) {
    this.banner = options.banner;
    this.grant = options.grant;
    this.ended = this.#run(options.session, options.settle);
  }

  /** The dialog that waits, if one does. */
  get dialog(): SwitchDialog | undefined {
    return this.#told !== undefined && 'dialog' in this.#told ? this.#told.dialog : undefined;
  }

  /** The dialog that waits or the next one, or the end. */
  next(): Promise<SwitchStep> {
    if (this.#told !== undefined) return Promise.resolve(this.#told);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Gives the person's answer to this round of the dialog, unless it has one; then what comes of it. */
  answer(round: number, answer: SwitchAnswer): Promise<SwitchStep> {
    if (this.dialog?.round === round) this.#give(answer);
    return this.next();
  }

  /** Gives the switch up while it still can be: whatever is asked from now on is declined. Resolves to how it ended. */
  stop(): Promise<SwitchReport> {
    this.#stopped = true;
    if (this.dialog !== undefined) this.#give('decline');
    return this.ended;
  }

  async #run(session: Pick<Session, 'switchPatient' | 'epoch'>, settle: (report: SwitchReport) => void): Promise<SwitchReport> {
    let handed = false;
    const authorize = async (): Promise<Grant> => {
      handed = true;
      return this.grant;
    };
    let report: SwitchReport;
    try {
      report = await session.switchPatient({ authorize, confirm: (dialog) => this.#ask(dialog) });
    } catch (error) {
      report = this.#refused(session.epoch, error);
      // A session that was never handed the grant does not revoke it either.
      const revoked = !handed && (await revokedNow(this.grant));
      report = { ...report, revoked };
    }
    settle(report);
    this.#say({ report });
    return report;
  }

  #refused(epoch: number, error: unknown): SwitchReport {
    const nothing = { saved: 0, lost: 0, indeterminate: [], evicted: [], revoked: false };
    return { result: 'refused', reason: 'refused', switchId: this.id, epoch, ...nothing, error };
  }

  #ask(dialog: SwitchDialog): Promise<SwitchAnswer> {
    if (this.#stopped) return Promise.resolve('decline');
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#give('decline'), MOST_WAIT_MS);
      timer.unref();
      this.#answer = (answer) => {
        clearTimeout(timer);
        resolve(answer);
      };
      this.#say({ dialog });
    });
  }

  #give(answer: SwitchAnswer): void {
    const give = this.#answer;
    this.#answer = undefined;
    this.#told = undefined;
    give?.(answer);
  }

  #say(step: SwitchStep): void {
    this.#told = step;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const tell of waiting) tell(step);
  }
}

async function revokedNow(grant: Grant): Promise<boolean> {
  return grant.revoke().then(
    () => true,
    () => false,
  );
}
