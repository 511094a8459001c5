import type { Stillness } from './stillness.js';

/** A call that a test stops on its way. */
export interface Held {
  /**
   * Resolves when a call has got there. Rejects, naming agent and tool, once none can be waited for: what sessions were asked for has
   * ended since the hold was made and nothing is on its way, the hold was released, or the testbed closed.
   */
  readonly reached: Promise<void>;
  /** Lets it go on; before a call has got there, nothing is held any more. */
  release(): void;
}

/** Where a call is stopped: before the agent is asked, or with its answer made. */
export type HoldAt = 'request' | 'answer';

interface Wanted {
  readonly to: string;
  readonly operation: string;
  readonly at: HoldAt;
  taken: boolean;
  /** A test looks at whether it was reached. */
  awaited: boolean;
  /** Pieces of work that had ended when it was made. */
  readonly since: number;
  arrive(): void;
  readonly arrived: Promise<void>;
  /** Says why no call will get there; does nothing once one did. */
  miss(why: string): void;
  readonly released: Promise<void>;
  release(): void;
}

/** A call's own stop: nothing, when nobody holds it. */
export interface Stop {
  /** Resolves when the call may pass this place. */
  pass(at: HoldAt): Promise<void>;
}

const NOWHERE: Stop = { pass: async () => undefined };

/** The calls a test holds. Nothing here knows of time. */
export class Holds {
  readonly #wanted = new Set<Wanted>();
  readonly #stillness: Stillness;
  #underWay = 0;
  #ended = 0;

  constructor(stillness: Stillness) {
    this.#stillness = stillness;
  }

  /** Holds the next call of an operation; each hold stops one call. */
  add(to: string, operation: string, at: HoldAt): Held {
    const arrived = signal();
    const released = signal();
    arrived.given.catch(() => undefined); // most tests never look
    const wanted: Wanted = {
      to,
      operation,
      at,
      taken: false,
      awaited: false,
      since: this.#ended,
      arrive: arrived.give,
      arrived: arrived.given,
      miss: (why) => {
        const missed = wanted.taken ? 'was called, and never got an answer to hold' : 'was not called';
        arrived.refuse(new Error(`"${operation}" at "${to}" ${missed} before ${why}: look at the trace for an earlier refusal`));
      },
      released: released.given,
      release: () => {
        this.#wanted.delete(wanted);
        wanted.miss('it was released');
        released.give();
      },
    };
    this.#wanted.add(wanted);
    const look = (): Promise<void> => {
      wanted.awaited = true;
      void this.#doubt(wanted);
      return wanted.arrived;
    };
    return {
      get reached() {
        return look();
      },
      release: wanted.release,
    };
  }

  /** Takes notice of what a session was asked for: while some of it is under way, a held call may still come. */
  during(work: Promise<unknown>): void {
    this.#underWay += 1;
    const ended = (): void => {
      this.#underWay -= 1;
      this.#ended += 1;
      for (const wanted of this.#wanted) void this.#doubt(wanted);
    };
    work.then(ended, ended);
  }

  /** A test waits, and what it waits for may have ended: when nothing happens any more either, it waits in vain. */
  async #doubt(wanted: Wanted): Promise<void> {
    const inVain = (): boolean => wanted.awaited && this.#underWay === 0 && this.#ended > wanted.since;
    if (!inVain()) return;
    await this.#stillness.settled(wanted.arrived);
    if (inVain()) wanted.miss('everything sessions were asked for had ended');
  }

  /** The stop of a call that has just been sent. */
  of(to: string, operation: string): Stop {
    const wanted = [...this.#wanted].find((one) => !one.taken && one.to === to && one.operation === operation);
    if (wanted === undefined) return NOWHERE;
    wanted.taken = true;
    return {
      async pass(at) {
        if (at !== wanted.at) return;
        wanted.arrive();
        await wanted.released;
      },
    };
  }

  /** Lets everything go, for the testbed closes. */
  releaseAll(): void {
    for (const wanted of [...this.#wanted]) {
      wanted.miss('the testbed closed');
      wanted.release();
    }
  }
}

/** A promise to be settled once: what comes after that does nothing. */
function signal(): { readonly given: Promise<void>; give(): void; refuse(error: Error): void } {
  let give = (): void => undefined;
  let refuse = (_: Error): void => undefined;
  const given = new Promise<void>((resolve, reject) => {
    give = resolve;
    refuse = reject;
  });
  return { given, give: () => give(), refuse: (error) => refuse(error) };
}
