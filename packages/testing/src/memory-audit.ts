import { type AuditVerification, beginChain, continueChain, verifyAuditLines } from '@hmcp/audit';
import type { AuditRecord, AuditSink } from '@hmcp/core';

/** An audit log in memory: the lines, hashes and refusals of a file's. */
export interface MemoryAudit extends AuditSink {
  readonly by: string;
  readonly records: readonly AuditRecord[];
  /** Verifies the chain as `hmcp audit verify` does. */
  verify(): Promise<AuditVerification>;
}

/** Makes a {@link MemoryAudit}. @param onRecord told of every record, in order */
export function memoryAudit(options: {
  readonly by: string;
  readonly now: () => number;
  readonly onRecord?: ((record: AuditRecord) => void) | undefined;
}): MemoryAudit {
  const { by, now, onRecord } = options;
  const records: AuditRecord[] = [];
  const header = beginChain(by, now());
  const lines: Buffer[] = [header.line];
  let { position } = header;
  let closed = false;
  return {
    by,
    records,
    async append(record) {
      if (closed) throw new Error('the audit log is closed');
      const next = continueChain(position, [{ record, t: now() }]);
      lines.push(...next.lines);
      position = next.position;
      const kept = structuredClone(record);
      records.push(kept);
      onRecord?.(kept);
    },
    verify: () => verifyAuditLines(`audit of ${by}`, lines),
    close: async () => {
      closed = true;
    },
  };
}
