import { HmcpError, type NamedPatient } from '@hmcp/core';
import type { CallFrame } from './call-frame.js';
import type { Hop, HopLedger } from './hop-ledger.js';

/** One request about a patient on its way: settled once, by its answer or by exactly one refusal. */
export class BoundRequest {
  readonly hop: Hop;
  readonly ledger: HopLedger;
  readonly frame: CallFrame | undefined;
  /** The token it was sent with; its cancellation uses it again. */
  token: string | undefined;
  progressToken: unknown;
  readonly #over = new AbortController();
  readonly #cut = new AbortController();
  #queue: Promise<void> = Promise.resolve();

  constructor(ledger: HopLedger, hop: Hop, frame: CallFrame | undefined) {
    this.ledger = ledger;
    this.hop = hop;
    this.frame = frame;
  }

  /** Its progress and its answer are judged in the order they came; a fault in judging leaves one undelivered. */
  enqueue(work: () => Promise<void>): void {
    this.#queue = this.#queue.then(work).catch(() => this.ledger.warn('a message of a peer could not be handled'));
  }

  /** Aborts when it is settled: nothing about it has to be watched any more. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Aborts when its connection is no longer worth keeping. */
  get cut(): AbortSignal {
    return this.#cut.signal;
  }

  /** It is settled, or is about to be. */
  end(): void {
    this.#over.abort();
  }

  /**
   * Settles it because its session went on to another patient. Its connection stays for `lateMs` milliseconds, so that a late
   * answer is seen and recorded; then it is cut.
   */
  async supersede(lateMs: number): Promise<HmcpError> {
    const timer = setTimeout(() => this.#cut.abort(), lateMs);
    timer.unref();
    return this.refuse(this.ledger.refusal(this.hop.scope, 40901, 'result', 'the session went on to another patient'));
  }

  /** An answer came after all: nobody gets it. */
  async tooLate(): Promise<void> {
    await this.ledger.dropped(this.hop, 40901, 'the answer came after the session went on to another patient');
  }

  /** Settles it by a refusal. Anything but a refusal becomes one: what an SDK throws holds bodies of responses. */
  async refuse(error: unknown): Promise<HmcpError> {
    const { ledger, hop } = this;
    const unreadable = () => ledger.refusal(hop.scope, 50301, 'peer', 'the peer could not be reached or read');
    return this.fail(await ledger.refused(hop, error instanceof HmcpError ? error : unreadable()));
  }

  /** Settles it because of what came back. @param named whom it was compared by */
  async drop(code: 40901 | 40903, reason: string, named: readonly NamedPatient[] = []): Promise<HmcpError> {
    return this.fail(await this.ledger.dropped(this.hop, code, reason, named));
  }

  /** Tells the call how it ended: an SDK client in between would wrap the refusal, or lose it. */
  fail(error: HmcpError): HmcpError {
    if (this.frame !== undefined) this.frame.failure = error;
    return error;
  }

  /** Nobody waits any more: the scope ended, the time passed, or the caller turned away. */
  abandon(): void {
    const { ledger, hop, frame } = this;
    this.enqueue(async () => {
      if (hop.scope.closed) await this.drop(40901, 'the request ended before its answer came');
      else if (frame === undefined || frame.signal?.aborted === true) await ledger.cancelled(hop);
      else await this.refuse(ledger.refusal(hop.scope, 50301, 'peer', 'no answer in time'));
    });
    if (frame !== undefined) frame.settled = this.#queue;
  }
}
