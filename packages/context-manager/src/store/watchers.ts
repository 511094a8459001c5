/** Who waits for which session in this process. */
export class Watchers {
  readonly #bySid = new Map<string, Set<() => void>>();

  watch(sid: string, changed: () => void): () => void {
    const waiting = this.#bySid.get(sid) ?? new Set();
    this.#bySid.set(sid, waiting);
    waiting.add(changed);
    return () => {
      waiting.delete(changed);
      if (waiting.size === 0 && this.#bySid.get(sid) === waiting) this.#bySid.delete(sid);
    };
  }

  notify(sid: string): void {
    for (const changed of [...(this.#bySid.get(sid) ?? [])]) changed();
  }
}
