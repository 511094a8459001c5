import { readdir, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { type AuditVerification, type StoredRecord, verifyAudit } from '@hmcp/audit';
import { isSqliteFile, verifyStoreAudit } from '@hmcp/context-manager/store-audit';

/** Folder of the audit logs in a state folder; one `<party>.jsonl` each. */
export const AUDIT_FOLDER = 'audit';

/**
 * The audit logs meant by a path: the file itself, `audit/*.jsonl` and the session stores (`*.sqlite`, which hold the audit of a
 * context manager) of a state folder, or `*.jsonl` and `*.sqlite` of any other folder, in the order of their names.
 * @throws system errors when the path cannot be read
 */
export async function auditLogsAt(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const entries = await readdir(path, { withFileTypes: true });
  const state = entries.some((entry) => entry.name === AUDIT_FOLDER && entry.isDirectory());
  const kinds = state ? ['.sqlite'] : ['.jsonl', '.sqlite'];
  const logs = entries.filter((entry) => entry.isFile() && kinds.includes(extname(entry.name)));
  const inside = state ? await auditLogsAt(join(path, AUDIT_FOLDER)) : [];
  return [...inside, ...logs.map((entry) => join(path, entry.name)).sort()];
}

/** Verifies one log, JSONL or the chain inside a session store. @throws system errors when it cannot be read */
export async function verifyLog(
  file: string,
  options: { readonly onRecord?: (record: StoredRecord) => void } = {},
): Promise<AuditVerification> {
  return (await isSqliteFile(file)) ? verifyStoreAudit(file, options) : verifyAudit(file, options);
}

/** The party whose log a file is, by its name. */
export function partyOf(file: string): string {
  return basename(file, extname(file));
}
