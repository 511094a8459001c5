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

const storage = new AsyncLocalStorage<RequestScope | undefined>();
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
  /** Made for whoever asks first: many requests never do. */
  #controller: AbortController | undefined;
  #callerGone: (() => void) | undefined;
  #reason: unknown;

  constructor(facts: ScopeFacts) {
    this.facts = facts;
    const { signal } = facts;
    if (signal === undefined) return;
    if (signal.aborted) this.#end(() => signal.reason);
    else {
      this.#callerGone = () => this.#end(() => signal.reason);
      signal.addEventListener('abort', this.#callerGone, { once: true });
    }
  }

  /** Aborts when the request ends: released, refused, cancelled or its token expired. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#closed) this.#controller.abort(this.#reason ?? ended());
    }
    return this.#controller.signal;
  }

  /** True once the answer was released or refused, or the request cancelled. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Runs `fn` with this scope as {@link currentScope}, through every `await` it makes. */
  run<T>(fn: () => T): T {
    return storage.run(this, fn);
  }

  /** Ends the scope. Idempotent. */
  close(): void {
    this.#end(undefined);
  }

  /** @param because the caller's own reason, when it was the caller who ended it */
  #end(because: (() => unknown) | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#callerGone !== undefined) this.facts.signal?.removeEventListener('abort', this.#callerGone);
    this.#reason = because?.();
    this.#controller?.abort(this.#reason ?? ended());
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

  /**
   * Marks a delivered value (JSON: plain objects and lists) and everything inside it as this scope's; what another scope was
   * given before stays that scope's. Returns the value.
   */
  tag<T>(value: T): T {
    walkObjects(value, isPlain, (object) => {
      if (!owners.has(object)) owners.set(object, this);
      return false;
    });
    return value;
  }

  /**
   * True when the value holds an object delivered in another scope: a shared cache or batcher mixed two requests. Looks into
   * instances, Maps and Sets too. A copy of a row's own texts and numbers leaves no trace; the compartment check is for those.
   */
  holdsForeign(value: unknown): boolean {
    return walkObjects(value, isAny, (object) => {
      const owner = owners.get(object);
      return owner !== undefined && owner !== this;
    });
  }
}

function ended(): DOMException {
  return new DOMException('the request this work belonged to has ended', 'AbortError');
}

/** The scope of the request this code runs for; `undefined` outside any. */
export function currentScope(): RequestScope | undefined {
  return storage.getStore();
}

/** Runs `fn` outside every scope: for work that belongs to the process, such as fetching keys. */
export function outsideScope<T>(fn: () => T): T {
  return storage.run(undefined, fn); // `exit` takes the hooks of the whole process off and puts them on again
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
   * @param options.permit goes into the envelope of this one call, which causes the effect it is for
   * @throws {HmcpError} the refusal of whichever hop refused, unchanged, or this process's own
   */
  call<I extends z.ZodObject, O extends z.ZodType>(
    peer: string,
    contract: PatientTool<I, O>,
    args: z.input<I>,
    options?: {
      readonly signal?: AbortSignal | undefined;
      readonly timeoutMs?: number | undefined;
      readonly permit?: string | undefined;
    },
  ): Promise<z.output<O>>;
}

/** Beyond this depth or number a value is no plain tree of JSON: it may hold itself, or one part in many places. */
const TREE_DEPTH = 200;
const TREE_OBJECTS = 100_000;

/** Visits every object inside `value` that `enters` admits; stops and returns true when `found` says so. */
function walkObjects(value: unknown, enters: (object: object) => boolean, found: (object: object) => boolean): boolean {
  return walkTree(value, enters, found) ?? walkGraph(value, enters, found);
}

/** Remembers nothing, and so is quick; `undefined` when that would not do. */
function walkTree(value: unknown, enters: (object: object) => boolean, found: (object: object) => boolean): boolean | undefined {
  let left = TREE_OBJECTS;
  const visit = (object: object, depth: number): boolean | undefined => {
    if (!enters(object)) return false;
    left -= 1;
    if (depth > TREE_DEPTH || left < 0 || object instanceof Map || object instanceof Set) return undefined;
    if (found(object)) return true;
    for (const inner of Array.isArray(object) ? object : Object.values(object)) {
      if (typeof inner !== 'object' || inner === null) continue;
      const verdict = visit(inner, depth + 1);
      if (verdict !== false) return verdict;
    }
    return false;
  };
  return typeof value === 'object' && value !== null ? visit(value, 0) : false;
}

/** The same of anything: each object once. */
function walkGraph(value: unknown, enters: (object: object) => boolean, found: (object: object) => boolean): boolean {
  const seen = new Set<object>();
  const queue: unknown[] = [value];
  while (queue.length > 0) {
    const next = queue.pop();
    if (typeof next !== 'object' || next === null || seen.has(next) || !enters(next)) continue;
    seen.add(next);
    if (found(next)) return true;
    if (next instanceof Map) for (const [key, inner] of next) queue.push(key, inner);
    else if (next instanceof Set) for (const inner of next) queue.push(inner);
    for (const inner of Object.values(next)) queue.push(inner);
  }
  return false;
}

/** An instance (a Response, a schema, a logger) belongs to the process: marking it would make every later request a stranger. */
function isPlain(object: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(object);
  return Array.isArray(object) || prototype === null || prototype === Object.prototype;
}

function isAny(): boolean {
  return true;
}
