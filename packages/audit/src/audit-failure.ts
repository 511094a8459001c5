/**
 * Why the audit store refuses.
 * - `locked`: another writer holds the log, or nobody can tell that it does not
 * - `broken`: the log on disk is not the one that was written; nothing is appended to it
 * - `full`: no space, or too many records waiting; may be repeated later
 * - `poisoned`: a write or sync failed in a way after which nothing can be promised; only a new start helps
 * - `closed`: the sink was closed
 */
export type AuditFailureKind = 'locked' | 'broken' | 'full' | 'poisoned' | 'closed';

/**
 * The audit store cannot make a record durable, so nothing may be released: the caller answers 50302. The message is for
 * the operator and stays in the process.
 * @see protocol section 8
 */
export class AuditFailure extends Error {
  readonly kind: AuditFailureKind;

  constructor(kind: AuditFailureKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AuditFailure';
    this.kind = kind;
  }
}
