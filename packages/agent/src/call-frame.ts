import { AsyncLocalStorage } from 'node:async_hooks';

/**
 * What a call in progress knows that the messages it causes do not say, handed to its transport through
 * `AsyncLocalStorage`: an SDK client between the two passes no values of ours.
 */
export interface CallFrame {
  /** Scopes the contract needs at the peer and onward. */
  readonly scope: string;
  /** False for an operation that declares `patientScope: "none"`: it gets no envelope, and binds its answer to nobody. */
  readonly aboutPatient: boolean;
  /** The contract's own name for the patient, by which its answer may say whose it is too. */
  readonly patientArgument?: string | null | undefined;
  /** Milliseconds the call may take. */
  readonly timeoutMs: number;
  /** Permit this call uses up; added to its envelope alone. */
  readonly permit?: string | undefined;
  /** The caller's own signal, to tell its decision from a timeout. */
  readonly signal: AbortSignal | undefined;
  /** The refusal that settled the call: an SDK client would wrap it, or lose it. */
  failure?: Error;
  /** Resolves when the record of an abandoned call is written. */
  settled?: Promise<unknown>;
  /** True when the connection is no longer good (an expired session, another protocol revision). */
  stale?: boolean;
}

/** The call that the running code carries out, if any. */
export const callFrame = new AsyncLocalStorage<CallFrame>();

/** What the HTTP request of one message carries. */
export interface Sending {
  readonly token: string | undefined;
  readonly traceparent: string | undefined;
  /** Cuts the connection of a request that nobody waits for any more. */
  readonly signal?: AbortSignal | undefined;
}

/** The message being sent; read by the transport's `fetch`, the only place that can set `Authorization`. */
export const sending = new AsyncLocalStorage<Sending>();
