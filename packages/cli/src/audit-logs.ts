import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Folder of the audit logs in a state folder; one `<party>.jsonl` each. */
export const AUDIT_FOLDER = 'audit';

/**
 * The audit logs meant by a path: the file itself, `audit/*.jsonl` of a state folder, or `*.jsonl` of any other folder,
 * in the order of their names.
 * @throws system errors when the path cannot be read
 */
export async function auditLogsAt(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const names = await readdir(path, { withFileTypes: true });
  if (names.some((entry) => entry.name === AUDIT_FOLDER && entry.isDirectory())) return auditLogsAt(join(path, AUDIT_FOLDER));
  return names
    .filter((entry) => entry.isFile() && entry.name.endsWith('.jsonl'))
    .map((entry) => join(path, entry.name))
    .sort();
}
