/** A call that a test stops on its way. */
export interface Held {
  /** Resolves when a call has got there. */
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
  arrive(): void;
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

  /** Holds the next call of an operation; each hold stops one call. */
  add(to: string, operation: string, at: HoldAt): Held {
    const arrived = signal();
    const released = signal();
    const wanted: Wanted = {
      to,
      operation,
      at,
      taken: false,
      arrive: arrived.give,
      released: released.given,
      release: () => {
        this.#wanted.delete(wanted);
        released.give();
      },
    };
    this.#wanted.add(wanted);
    return { reached: arrived.given, release: wanted.release };
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

  /** Lets everything go. */
  releaseAll(): void {
    for (const wanted of [...this.#wanted]) wanted.release();
  }
}

function signal(): { readonly given: Promise<void>; give(): void } {
  let give = (): void => undefined;
  const given = new Promise<void>((resolve) => {
    give = resolve;
  });
  return { given, give: () => give() };
}
