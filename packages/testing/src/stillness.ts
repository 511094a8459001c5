/** As it was before a test put timers of its own in place of the real ones. */
const { setImmediate } = globalThis;

/** @throws {TypeError} when turns of the event loop would never come: a test replaced what a session waits with */
export function checkTurns(): void {
  if (globalThis.setImmediate === setImmediate) return;
  throw new TypeError(
    "`setImmediate` was replaced, and a switch would never end: vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'setInterval'] }) leaves it",
  );
}

/** The event loop has turned once. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Looks at nothing happening, in a row, before it is believed. */
const ROUNDS = 1000;

/**
 * Knows when nothing happens any more, without a timer. Between two messages of a testbed there is only computing, most of it in the
 * thread pool (signatures, hashes): a round goes once around the event loop and once through that pool, so that on a busy machine
 * rounds are as slow as the work they wait for.
 */
export class Stillness {
  #happened = 0;

  /** Something happened: a message left or arrived. */
  stir(): void {
    this.#happened += 1;
  }

  /** Resolves when the work has settled (however), or nothing happens any more. */
  async settled(work: Promise<unknown>): Promise<void> {
    let over = false;
    const done = (): void => {
      over = true;
    };
    work.then(done, done);
    for (let still = 0; !over && still < ROUNDS; ) {
      const before = this.#happened;
      await turn();
      await crypto.subtle.digest('SHA-256', new Uint8Array(1));
      still = this.#happened === before ? still + 1 : 0;
    }
  }
}
