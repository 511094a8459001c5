import Database from 'libsql';
import { Session } from '../session-row.js';

/**
 * Every session in a store, in the order they were opened. Reads only; a store in use is welcome. For whoever may read the file:
 * its rows name patients.
 * @throws {Database.SqliteError} when the file is no session store
 */
export async function readSessions(file: string): Promise<readonly Session[]> {
  const database = new Database(file, { readonly: true, fileMustExist: true });
  try {
    const rows = database.prepare('SELECT row FROM session ORDER BY rowid').all() as { row: string }[];
    return rows.map(({ row }) => Session.parse(JSON.parse(row)));
  } finally {
    database.close();
  }
}
