import type { Clock } from '../../src/clock.js';

/** A fixed moment: no test reads the machine's clock. */
export const T0 = 1_800_000_000_000;

/** A clock a test moves by hand; whoever waits is woken when its time has come. */
export interface HandClock extends Clock {
  advance(ms: number): void;
  /** How many wait. */
  readonly waiting: number;
}

export function handClock(start = T0): HandClock {
  let at = start;
  const waiting = new Set<{ until: number; wake: () => void }>();
  return {
    now: () => at,
    get waiting() {
      return waiting.size;
    },
    wait: (ms, signal) =>
      new Promise((resolve) => {
        if (signal.aborted || ms <= 0) return resolve();
        const entry = {
          until: at + ms,
          wake: () => {
            waiting.delete(entry);
            resolve();
          },
        };
        waiting.add(entry);
        signal.addEventListener('abort', entry.wake, { once: true });
      }),
    advance(ms) {
      at += ms;
      for (const entry of [...waiting]) if (entry.until <= at) entry.wake();
    },
  };
}
