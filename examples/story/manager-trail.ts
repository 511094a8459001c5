import { verifyStoreAudit } from '@hmcp/context-manager/store-audit';
import type { AuditRecord } from '@hmcp/core';

/** Follows the audit a context manager keeps inside its session store. */
export class ManagerTrail {
  readonly #store: string;
  #seen = 0;

  constructor(store: string) {
    this.#store = store;
  }

  /** What was decided since the last look. */
  async next(): Promise<AuditRecord[]> {
    const records: AuditRecord[] = [];
    await verifyStoreAudit(this.#store, { onRecord: (record) => records.push(record as unknown as AuditRecord) });
    const fresh = records.slice(this.#seen);
    this.#seen = records.length;
    return fresh;
  }
}
