import type { AuditRecord, AuditSink } from '@hmcp/core';
import type { Session } from './session-row.js';

/**
 * The store could not be asked, or it is unknown whether a write happened: the row must be read again before anything is
 * believed. Answered 50301.
 */
export class StoreUnavailable extends Error {
  constructor(options?: ErrorOptions) {
    super('the session store did not answer', options);
    this.name = 'StoreUnavailable';
  }
}

/**
 * Where sessions live. Reads are linearizable; a write and its audit record become durable together or not at all.
 * Every method may reject with {@link StoreUnavailable}; then a write may or may not have happened.
 * @see protocol section 6
 */
export interface ContextStore {
  /** False for a store that forgets; refused in production. */
  readonly durable: boolean;
  /** Adds a session under the key of its opening; `exists` when there is one for the key already. */
  create(session: Session, openKey: string, record: AuditRecord): Promise<'done' | 'exists'>;
  read(sid: string): Promise<Session | undefined>;
  readOpened(openKey: string): Promise<Session | undefined>;
  /** Replaces the row when its `version` is `next.version - 1`, with the record of the change. */
  compareAndSet(next: Session, record: AuditRecord): Promise<'done' | 'conflict'>;
  /** Sessions with a pending switch. */
  undecided(): Promise<readonly string[]>;
  /** Calls `changed` after each write of a session by this process. @returns a function that ends it */
  watch(sid: string, changed: () => void): () => void;
  /** For records that go with no change of a session; the same chain. Closing it is the store's. */
  readonly audit: AuditSink;
  close(): Promise<void>;
}
