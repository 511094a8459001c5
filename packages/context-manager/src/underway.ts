/** Work that comes to its end, and is recorded, before its store may be closed. */
export class Underway {
  readonly #work = new Set<Promise<unknown>>();

  /** Counts work until it has ended, however it ends. */
  add<T>(work: Promise<T>): Promise<T> {
    const counted = work.finally(() => this.#work.delete(counted));
    this.#work.add(counted);
    return counted;
  }

  /** Resolves when nothing is under way, what began meanwhile included. */
  async idle(): Promise<void> {
    while (this.#work.size > 0) await Promise.allSettled(this.#work);
  }
}
