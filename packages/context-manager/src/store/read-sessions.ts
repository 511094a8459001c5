import { Session } from '../session-row.js';
import { openToRead } from './open-to-read.js';

/**
 * Every session in a store, in the order they were opened. Reads only; a store in use is welcome. For whoever may read the file:
 * its rows name patients.
 * @throws system errors when the file cannot be read, `SqliteError` of libsql when it is no session store
 */
export async function readSessions(file: string): Promise<readonly Session[]> {
  const database = await openToRead(file);
  try {
    const rows = database.prepare('SELECT row FROM session ORDER BY rowid').all() as { row: string }[];
    return rows.map(({ row }) => Session.parse(JSON.parse(row)));
  } finally {
    database.close();
  }
}
