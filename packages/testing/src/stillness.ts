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
      await new Promise((resolve) => setImmediate(resolve));
      await crypto.subtle.digest('SHA-256', new Uint8Array(1));
      still = this.#happened === before ? still + 1 : 0;
    }
  }
}
