import { type AuditVerification, type StoredRecord, verifyAuditLines } from '@hmcp/audit';
import type Database from 'libsql';
import { openToRead } from './store/open-to-read.js';

const PAGE = 1000;

/** The lines of the audit in an open session store, from the header on. */
export function* storeAuditLines(database: Database.Database): Generator<Buffer> {
  const page = database.prepare('SELECT seq, line FROM audit WHERE seq > ? ORDER BY seq LIMIT ?');
  for (let last = -1; ; ) {
    const rows = page.all(last, PAGE) as { seq: number; line: Uint8Array }[];
    for (const { seq, line } of rows) {
      last = seq;
      yield Buffer.from(line);
    }
    if (rows.length < PAGE) return;
  }
}

/**
 * Verifies the audit chain inside a session store, as `verifyAudit` does a JSONL log. Reads only; a store in use is welcome.
 * @throws system errors when the file cannot be read, {@link Database} errors when it is no session store
 * @see protocol section 8
 */
export async function verifyStoreAudit(
  file: string,
  options: { readonly onRecord?: (record: StoredRecord) => void } = {},
): Promise<AuditVerification> {
  const database = await openToRead(file);
  try {
    return await verifyAuditLines(file, storeAuditLines(database), options);
  } finally {
    database.close();
  }
}
