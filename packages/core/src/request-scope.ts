import { AsyncLocalStorage } from 'node:async_hooks';
import type * as z from 'zod';
import type { VerifiedToken } from './access-token.js';
import type { Envelope } from './envelope.js';
import { HmcpError } from './errors.js';
import type { PatientContext } from './patient-context.js';
import type { PatientTool } from './patient-tool.js';

/**
 * Everything a process may know about the request it is serving (or, at an orchestrator, the act it is carrying out):
 * one patient, one intent, one token. There is no other place to ask for a patient.
 * @see protocol sections 0 and 3
 */
export interface ScopeFacts {
  readonly context: PatientContext;
  /** The verified token of the inbound request, or of the orchestrator's grant. */
  readonly token: VerifiedToken | undefined;
  /** The token itself, to be exchanged for the next hop; never forwarded or logged. */
  readonly accessToken: string;
  /** Forwarded unchanged to every `hmcp` peer. */
  readonly envelope: Envelope;
  /** Resource identifier of this process. */
  readonly by: string;
  /** Hop number of this process; 0 at an orchestrator. */
  readonly hop: number;
  readonly txn?: string | undefined;
  readonly traceparent?: string | undefined;
  /** Aborts when the inbound request ends or its token expires. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Calls declared peers in the scope of the request in hand; what a server hands to its handlers and an agent implements.
 * Rejects with {@link HmcpError}. `timeoutMs` is 30 000 by default.
 * @see protocol section 3
 */
export interface Outbound {
  call<I extends z.ZodObject, O extends z.ZodType>(
    peer: string,
    contract: PatientTool<I, O>,
    args: z.input<I>,
    options?: { signal?: AbortSignal | undefined; timeoutMs?: number | undefined },
  ): Promise<z.output<O>>;
}

const storage = new AsyncLocalStorage<RequestScope>();
const owners = new WeakMap<object, RequestScope>();

/**
 * The life of one request in this process. Closes when its answer is released or refused; a closed scope makes no calls.
 * Results delivered in it are tagged, so that an object of one request cannot be answered to another.
 * @see protocol section 3
 */
export class RequestScope {
  readonly facts: ScopeFacts;
  /** Refusals of downstream hops met while serving; the guard answers with the first one. */
  readonly refusals: HmcpError[] = [];
  #closed = false;
  readonly #controller = new AbortController();

  constructor(facts: ScopeFacts) {
    this.facts = facts;
    const { signal } = facts;
    if (signal?.aborted) this.#controller.abort(signal.reason);
    else
      signal?.addEventListener('abort', () => this.#controller.abort(signal.reason), {
        once: true,
        signal: this.#controller.signal,
      });
  }

  /** Aborts when the request ends: released, refused, cancelled or its token expired. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** True once the answer was released or refused. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Runs `fn` with this scope as {@link currentScope}, through every `await` it makes. */
  run<T>(fn: () => T): T {
    return storage.run(this, fn);
  }

  /** Ends the scope. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#controller.abort(new DOMException('the request this work belonged to has ended', 'AbortError'));
  }

  /** @throws {HmcpError} 40901 when the scope has ended: work that outlives its request makes no calls */
  assertOpen(): void {
    if (!this.#closed) return;
    const { by, hop, envelope } = this.facts;
    throw new HmcpError(
      40901,
      { by, check: 'epoch', intent: envelope.intent.id, ...(hop > 0 ? { hop } : {}) },
      { reason: 'closed scope' },
    );
  }

  /** Marks an object and everything inside it as delivered in this scope. Returns it. */
  tag<T>(value: T): T {
    walkObjects(value, (object) => {
      if (!owners.has(object)) owners.set(object, this);
    });
    return value;
  }

  /** True when the value holds an object delivered in another scope: a shared cache or batcher mixed two requests. */
  holdsForeign(value: unknown): boolean {
    let foreign = false;
    walkObjects(value, (object) => {
      const owner = owners.get(object);
      if (owner !== undefined && owner !== this) foreign = true;
    });
    return foreign;
  }
}

/** The scope of the request this code runs for; `undefined` outside any. */
export function currentScope(): RequestScope | undefined {
  return storage.getStore();
}

/** Runs `fn` outside every scope: for work that belongs to the process, such as fetching keys. */
export function outsideScope<T>(fn: () => T): T {
  return storage.exit(fn);
}

function walkObjects(value: unknown, visit: (object: object) => void): void {
  const seen = new Set<object>();
  const queue: unknown[] = [value];
  while (queue.length > 0) {
    const next = queue.pop();
    if (typeof next !== 'object' || next === null || seen.has(next)) continue;
    seen.add(next);
    visit(next);
    for (const inner of Object.values(next)) queue.push(inner);
  }
}

/**
 * How code that serves a request calls the next server: in the {@link currentScope}, so it names no patient.
 * A handler gets `call` bound to the agent its process has; `@hmcp/agent` implements it.
 * @see protocol section 3
 */
export interface Outbound {
  /**
   * Calls a tool of a declared peer and gives its checked answer.
   * @param options.signal the caller's own reason to stop; the scope's end always stops the call
   * @param options.timeoutMs milliseconds to wait; default 30 000, less when the token of this request ends before
   * @throws {HmcpError} the refusal of whichever hop refused, unchanged, or this process's own
   */
  call<I extends z.ZodObject, O extends z.ZodType>(
    peer: string,
    contract: PatientTool<I, O>,
    args: z.input<I>,
    options?: { readonly signal?: AbortSignal | undefined; readonly timeoutMs?: number | undefined },
  ): Promise<z.output<O>>;
}
