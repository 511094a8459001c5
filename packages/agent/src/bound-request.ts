import { HmcpError, type NamedPatient } from '@hmcp/core';
import { outsideScope, type RequestScope } from '@hmcp/core/request-scope';
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

  readonly #origin: RequestScope | undefined;
  readonly #done: () => void;

  /**
   * @param written.origin the scope it was written in, if any; what belongs to it is delivered there
   * @param written.done is called when it is settled and nothing of it is left to deliver or to record
   */
  constructor(
    ledger: HopLedger,
    hop: Hop,
    frame: CallFrame | undefined,
    written: { readonly origin: RequestScope | undefined; readonly done: () => void } = {
      origin: hop.scope,
      done: () => undefined,
    },
  ) {
    this.ledger = ledger;
    this.hop = hop;
    this.frame = frame;
    this.#origin = written.origin;
    this.#done = written.done;
  }

  /** Its progress and its answer are judged in the order they came; a fault in judging leaves one undelivered. */
  enqueue(work: () => Promise<void>): Promise<void> {
    this.#queue = this.#queue.then(work).catch(() => this.ledger.warn('a message of a peer could not be handled'));
    return this.#queue;
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

  /** Hands something over where it was asked for: a client outside every request stays outside. */
  deliver(handOver: () => void): void {
    if (this.#origin === undefined) outsideScope(handOver);
    else this.#origin.run(handOver);
  }

  /** Settles it by the last piece of `work`. */
  settle(work: () => Promise<void>): void {
    void this.enqueue(() => work().finally(this.#done));
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

  /** Settles it because its scope ended before its answer came. */
  outlived(): Promise<HmcpError> {
    return this.drop(40901, 'the request ended before its answer came');
  }

  /** The same where nobody waits: its connection is cut. */
  async cutShort(): Promise<HmcpError> {
    const refusal = await this.outlived();
    this.#cut.abort();
    return refusal;
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
    this.#giveUp(async () => {
      if (frame === undefined || frame.signal?.aborted === true) await ledger.cancelled(hop);
      else await this.refuse(ledger.refusal(hop.scope, 50301, 'peer', 'no answer in time'));
    });
  }

  /** Its connection ended: no answer can come. */
  lost(): void {
    const { ledger, hop } = this;
    this.#giveUp(async () => {
      await this.refuse(ledger.refusal(hop.scope, 50301, 'peer', 'the connection ended before the answer came'));
    });
  }

  #giveUp(otherwise: () => Promise<void>): void {
    this.settle(async () => {
      if (this.hop.scope.closed) await this.outlived();
      else await otherwise();
    });
    if (this.frame !== undefined) this.frame.settled = this.#queue;
  }
}
