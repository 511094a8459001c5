/** A permit this process holds for one request or more: the same effect asked again gets the same permit. */
export interface HeldHere {
  requests: number;
  /** Nobody can say whether its effect happened, or it is not this request's to say. */
  unknown: boolean;
}

/** The permit of one request: obtained before its handler, given back after its answer. */
export class PermitHold {
  readonly permit: string;
  /** What the one call that causes the effect may carry on; absent when it came from a caller, who handed it on already. */
  #handOn: string | undefined;
  readonly #isLive: () => boolean;
  readonly #giveBack: () => Promise<void>;
  readonly #held: Map<string, HeldHere>;
  readonly #shared: HeldHere;
  #running = 0;
  #closed = false;
  #returned: Promise<void> | undefined;
  #idle: (() => void)[] = [];

  constructor(options: {
    permit: string;
    redeemed: boolean;
    held: Map<string, HeldHere>;
    isLive: () => boolean;
    giveBack: () => Promise<void>;
  }) {
    this.permit = options.permit;
    this.#held = options.held;
    this.#shared = options.held.get(options.permit) ?? { requests: 0, unknown: false };
    this.#shared.requests += 1;
    options.held.set(options.permit, this.#shared);
    this.#handOn = options.redeemed ? undefined : options.permit;
    this.#isLive = options.isLive;
    this.#giveBack = options.giveBack;
  }

  /** True while an effect may begin. */
  get usable(): boolean {
    return !this.#closed && this.#isLive();
  }

  /** True while an effect is being caused. */
  get busy(): boolean {
    return this.#running > 0;
  }

  /** The permit, once: for the envelope of the call that causes the effect. */
  take(): string | undefined {
    const permit = this.#handOn;
    this.#handOn = undefined;
    return permit;
  }

  /** Lets the permit run out by itself: its effect may still arrive somewhere. A switch waits for that. */
  leave(): void {
    this.#shared.unknown = true;
  }

  /** An effect begins. Call the result when it ended; `unknown` when nobody can say whether it happened. */
  begin(): (unknown: boolean) => void {
    this.#running += 1;
    return (unknown) => {
      this.#running -= 1;
      if (unknown) this.leave();
      if (this.#running > 0) return;
      for (const resolve of this.#idle.splice(0)) resolve();
    };
  }

  /**
   * Lets no further effect begin, waits for the running one, and gives the permit back once no other request of this process
   * holds it; one that was left runs out by itself.
   */
  close(): Promise<void> {
    this.#closed = true;
    this.#returned ??= this.#return();
    return this.#returned;
  }

  async #return(): Promise<void> {
    await this.#whenIdle();
    this.#shared.requests -= 1;
    if (this.#shared.requests > 0) return;
    this.#held.delete(this.permit);
    if (!this.#shared.unknown) await this.#giveBack();
  }

  async #whenIdle(): Promise<void> {
    if (this.busy) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }
}
