import type { AuditRecord, AuditSink } from '@hmcp/core';

/** Something to write lines to. */
export interface Disk {
  readonly lines: string[];
  full: boolean;
}

/** An empty disk. */
export function diskOf(): Disk {
  return { lines: [], full: false };
}

/** A sink of one's own: each record is on the disk before `append` resolves. */
export function openSink(disk: Disk): AuditSink {
  let closed = false;
  return {
    async append(record: AuditRecord) {
      if (closed || disk.full) throw new Error('the archive takes nothing');
      disk.lines.push(JSON.stringify(record));
    },
    async close() {
      closed = true;
    },
  };
}
