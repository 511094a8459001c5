import type { AuditSink } from '@hmcp/core';

/** The life of one process of an agent: what asks, writes or answers in its name does so only while it lasts. */
export class Life {
  /** Rejects when it is over, as a connection does whose other side went away. */
  readonly over: Promise<never>;
  #end: () => void = () => undefined;
  #ended = false;
  #doom: (() => void) | undefined;

  constructor() {
    this.over = new Promise((_, reject) => {
      this.#end = () => reject(new TypeError('fetch failed'));
    });
    this.over.catch(() => undefined);
  }

  /** From now on, going to the next hop ends it. Resolves when it has. */
  doom(): Promise<void> {
    return new Promise((resolve) => {
      this.#doom = resolve;
    });
  }

  /** Ends it. */
  end(): void {
    this.#ended = true;
    this.#end();
    this.#doom?.();
  }

  /** It is going to the next hop. @throws {TypeError} when that is its end */
  leave(): void {
    if (this.#doom !== undefined) this.end();
    this.last();
  }

  /** @throws {TypeError} when it is over */
  last(): void {
    if (this.#ended) throw new TypeError('this process has ended');
  }
}

/** An audit that takes records of a process while it lives. */
export function auditWhile(life: Life, audit: AuditSink): AuditSink {
  return {
    append: async (record) => {
      life.last();
      await audit.append(record);
    },
    close: () => audit.close(),
  };
}

/** The network of a process while it lives; `aside` are not the next hop. */
export function fetchWhile(life: Life, fetch: typeof globalThis.fetch, aside: readonly string[]): typeof globalThis.fetch {
  const origins = new Set(aside.map((url) => new URL(url).origin));
  return async (input, init) => {
    const { origin } = new URL(input instanceof Request ? input.url : input);
    if (origins.has(origin)) life.last();
    else life.leave();
    return Promise.race([fetch(input, init), life.over]);
  };
}
