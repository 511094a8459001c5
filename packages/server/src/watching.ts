import type { SealClaims } from '@hmcp/core';
import type { AgentEnv } from './define-agent.js';
import { fenceOf } from './fence.js';

interface Listening {
  readonly uris: ReadonlySet<string>;
  end(): void;
}

/** Who of a connection is told that a resource changed: while the token lives that allowed it, and its epoch stands. */
export class Watching {
  readonly #env: AgentEnv;
  /** Open `subscriptions/listen` requests of a pipe, which the SDK never answers but with a notification. */
  readonly #listening = new Map<string | number, Listening>();
  /** URIs a 2025-era client subscribed to, until when (milliseconds); inside a session while its epoch stands. */
  readonly #subscribed = new Map<string, { readonly until: number; readonly leave: () => void }>();

  constructor(env: AgentEnv) {
    this.#env = env;
  }

  listens(id: string | number): boolean {
    return this.#listening.has(id);
  }

  /** Begins a listen request. @param ends takes off whatever would end it */
  listen(id: string | number, uris: ReadonlySet<string>, ends: () => void): void {
    this.#listening.set(id, { uris, end: ends });
  }

  /** Ends a listen request; false when there is none. */
  unlisten(id: string | number): boolean {
    this.#listening.get(id)?.end();
    return this.#listening.delete(id);
  }

  subscribe(uri: string, until: number, seal: SealClaims | undefined): void {
    this.unsubscribe(uri);
    let passed = false;
    const end = (): void => {
      passed = true;
      this.#subscribed.delete(uri);
    };
    const leave = seal === undefined ? () => {} : fenceOf(this.#env).epochs.enter(seal, { epoch: seal.epoch, end });
    if (!passed) this.#subscribed.set(uri, { until, leave });
  }

  unsubscribe(uri: string): void {
    this.#subscribed.get(uri)?.leave();
    this.#subscribed.delete(uri);
  }

  isWatched(uri: string): boolean {
    if ([...this.#listening.values()].some(({ uris }) => uris.has(uri))) return true;
    const { until } = this.#subscribed.get(uri) ?? { until: 0 };
    const stands = (this.#env.now ?? Date.now)() < until;
    if (!stands) this.unsubscribe(uri);
    return stands;
  }

  /** The connection is gone. */
  clear(): void {
    for (const { end } of this.#listening.values()) end();
    this.#listening.clear();
    for (const uri of [...this.#subscribed.keys()]) this.unsubscribe(uri);
  }
}
