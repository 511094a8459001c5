import { HmcpError } from '@hmcp/core';
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

  /** Settles it by a refusal. Anything but a refusal becomes one: what an SDK throws holds bodies of responses. */
  async refuse(error: unknown): Promise<HmcpError> {
    const { ledger, hop } = this;
    const unreadable = () => ledger.refusal(hop.scope, 50301, 'peer', 'the peer could not be reached or read');
    return this.fail(await ledger.refused(hop, error instanceof HmcpError ? error : unreadable()));
  }

  /** Settles it because of what came back. */
  async drop(code: 40901 | 40903, reason: string): Promise<HmcpError> {
    return this.fail(await this.ledger.dropped(this.hop, code, reason));
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
