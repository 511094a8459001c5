import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type AuditVerification, type StoredRecord, verifyAudit } from '@hmcp/audit';

/** Folder of the audit logs in a state folder; one `<party>.jsonl` each. */
export const AUDIT_FOLDER = 'audit';

/** A session store holds its audit in itself; beside the folder of the logs. */
const STORE = '.sqlite';
const SQLITE_MAGIC = 'SQLite format 3\0';

/**
 * The audit logs meant by a path: the file itself, `audit/*.jsonl` and the session stores (`*.sqlite`) of a state folder, or
 * those of any other folder, in the order of their names.
 * @throws system errors when the path cannot be read
 */
export async function auditLogsAt(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const entries = await readdir(path, { withFileTypes: true });
  const named = (end: string): string[] =>
    entries.filter((entry) => entry.isFile() && entry.name.endsWith(end)).map((entry) => join(path, entry.name));
  const isState = entries.some((entry) => entry.name === AUDIT_FOLDER && entry.isDirectory());
  const logs = isState ? await auditLogsAt(join(path, AUDIT_FOLDER)) : named('.jsonl');
  return [...logs, ...named(STORE)].sort();
}

/**
 * Verifies a log wherever its chain is kept: a JSONL file, or the session store of a context manager.
 * @param options.onRecord is given each record once it is verified
 * @throws system errors, or a database's, when the log cannot be read
 * @see protocol section 8
 */
export async function verifyLog(
  file: string,
  options: { readonly onRecord?: (record: StoredRecord) => void } = {},
): Promise<AuditVerification> {
  if (!(await isSqlite(file))) return verifyAudit(file, options);
  // Only who has a session store needs the database.
  const { verifyStoreAudit } = await import('@hmcp/context-manager/store-audit');
  return verifyStoreAudit(file, options);
}

async function isSqlite(file: string): Promise<boolean> {
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(SQLITE_MAGIC.length), 0, SQLITE_MAGIC.length, 0);
    return buffer.toString('latin1', 0, bytesRead) === SQLITE_MAGIC;
  } finally {
    await handle.close();
  }
}
