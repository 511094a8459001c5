/** Where the clock of a testbed begins: after everything in the shipped charts. */
const BEGIN = Date.UTC(2026, 5, 1, 8);

/** Time as everything in a testbed knows it: it passes only by hand. */
export interface TestClock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Lets time pass, milliseconds; waits that end meanwhile end. @throws {TypeError} for what is negative or not finite */
  advance(ms: number): void;
  /** Resolves when that much time has passed, or as soon as `signal` aborts. */
  wait(ms: number, signal?: AbortSignal): Promise<void>;
}

/** A clock that stands at 2026-06-01, 08:00 UTC. */
export function testClock(): TestClock {
  let at = BEGIN;
  const waiting = new Set<{ readonly until: number; readonly wake: () => void }>();
  return {
    now: () => at,
    advance(ms) {
      if (!(Number.isFinite(ms) && ms >= 0))
        throw new TypeError('time passes forward: "ms" must be a number of milliseconds, and not be negative');
      at += ms;
      for (const entry of [...waiting]) if (entry.until <= at) entry.wake();
    },
    wait: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted || ms <= 0) return resolve();
        const entry = {
          until: at + ms,
          wake: () => {
            waiting.delete(entry);
            signal?.removeEventListener('abort', entry.wake);
            resolve();
          },
        };
        waiting.add(entry);
        signal?.addEventListener('abort', entry.wake, { once: true });
      }),
  };
}
