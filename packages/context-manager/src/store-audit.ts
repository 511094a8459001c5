import { open } from 'node:fs/promises';
import { type AuditVerification, type StoredRecord, verifyAuditLines } from '@hmcp/audit';
import Database from 'libsql';

const MAGIC = 'SQLite format 3\0';
const PAGE = 1000;

/** True when a file is a SQLite database, by its first bytes. @throws system errors when it cannot be read */
export async function isSqliteFile(file: string): Promise<boolean> {
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAGIC.length), 0, MAGIC.length, 0);
    return bytesRead === MAGIC.length && buffer.toString('latin1') === MAGIC;
  } finally {
    await handle.close();
  }
}

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
  const database = new Database(file, { readonly: true, fileMustExist: true });
  try {
    return await verifyAuditLines(file, storeAuditLines(database), options);
  } finally {
    database.close();
  }
}
