import type { Session, SwitchAnswer, SwitchDialog, SwitchReport } from '@hmcp/agent';
import type { Grant } from '@hmcp/auth';
import type { Banner } from './banner.js';

/** Where a switch stands: a dialog waits for the person, or it has ended. */
export type SwitchStep = { readonly dialog: SwitchDialog } | { readonly report: SwitchReport };

/** Longest wait for the person's answer, milliseconds; the manager's own limit is the same. */
const MOST_WAIT_MS = 120_000;

/**
 * A switch of a visit, told in pages: the session asks through a callback, a browser answers with its next form. The dialog is
 * put to nobody but the person at this page.
 */
export class VisitSwitch {
  /** Names this switch in the form of its dialog. No secret. */
  readonly id = crypto.randomUUID();
  /** Whom the new grant names. */
  readonly banner: Banner;
  #answer: ((answer: SwitchAnswer) => void) | undefined;
  #told: SwitchStep | undefined;
  #waiting: Promise<SwitchStep> | undefined;
  #tell: ((step: SwitchStep) => void) | undefined;

  /** @param visit.ended is told before anybody who waits */
  constructor(
    session: Session,
    banner: Banner,
    visit: { readonly authorize: () => Promise<Grant>; readonly ended: (report: SwitchReport) => void },
  ) {
    this.banner = banner;
    const end = (report: SwitchReport): void => {
      visit.ended(report);
      this.#say({ report });
    };
    void session
      .switchPatient({ authorize: visit.authorize, confirm: (dialog) => this.#ask(dialog) })
      .then(end, (error: unknown) =>
        end({
          result: 'refused',
          reason: 'refused',
          switchId: this.id,
          epoch: session.epoch,
          saved: 0,
          lost: 0,
          indeterminate: [],
          evicted: [],
          revoked: false,
          error,
        }),
      );
  }

  /** The dialog that waits, if one does. */
  get dialog(): SwitchDialog | undefined {
    return this.#told !== undefined && 'dialog' in this.#told ? this.#told.dialog : undefined;
  }

  /** The next dialog, or the end: the same for everybody who waits. */
  next(): Promise<SwitchStep> {
    if (this.#told !== undefined) return Promise.resolve(this.#told);
    this.#waiting ??= new Promise((resolve) => {
      this.#tell = resolve;
    });
    return this.#waiting;
  }

  /** Gives the person's answer to the dialog that waits; then what comes of it. */
  answer(answer: SwitchAnswer): Promise<SwitchStep> {
    const give = this.#answer;
    if (give !== undefined) {
      this.#answer = undefined;
      this.#told = undefined;
      give(answer);
    }
    return this.next();
  }

  #ask(dialog: SwitchDialog): Promise<SwitchAnswer> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, MOST_WAIT_MS, 'decline');
      timer.unref();
      this.#answer = (answer) => {
        clearTimeout(timer);
        resolve(answer);
      };
      this.#say({ dialog });
    });
  }

  #say(step: SwitchStep): void {
    this.#told = step;
    const tell = this.#tell;
    this.#tell = undefined;
    this.#waiting = undefined;
    tell?.(step);
  }
}
