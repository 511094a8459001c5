import { access, constants } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import Database from 'libsql';

/**
 * Opens a session store, in use or not, so that no statement can write to it and no file is made where there is none. libsql takes
 * the options `readonly` and `fileMustExist`, and ignores both. It is not opened with `mode=ro`: SQLite would never take away its
 * `-shm` and `-wal` beside a store that nobody writes.
 * @throws system errors when there is no such file, or it cannot be read
 */
export async function openToRead(file: string): Promise<Database.Database> {
  await access(file, constants.R_OK);
  const database = new Database(`${pathToFileURL(file).href}?mode=rw`);
  database.pragma('query_only = 1');
  return database;
}
