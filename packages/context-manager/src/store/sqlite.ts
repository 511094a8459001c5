import { chmod, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  AuditFailure,
  beginChain,
  type ChainPosition,
  continueChain,
  lockForWriting,
  RefusalFold,
  type TimedRecord,
  verifyAuditLines,
} from '@hmcp/audit';
import type { AuditRecord, AuditSink } from '@hmcp/core';
import Database from 'libsql';
import { Session } from '../session-row.js';
import { type ContextStore, StoreUnavailable } from '../store.js';
import { storeAuditLines } from '../store-audit.js';
import { Watchers } from './watchers.js';

/** Options of {@link openSqliteStore}. */
export interface SqliteStoreOptions {
  /** Path of the database; made, with its folder, when there is none. */
  readonly file: string;
  /** Resource identifier of the manager, `by` of the chain's own records. */
  readonly by: string;
  /** Wall clock in ms. @default Date.now */
  readonly now?: (() => number) | undefined;
}

const SCHEMA = `
  CREATE TABLE session (
    sid TEXT PRIMARY KEY,
    open_key TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    row TEXT NOT NULL
  ) STRICT;
  CREATE INDEX session_pending ON session (pending) WHERE pending = 1;
  CREATE TABLE audit (seq INTEGER PRIMARY KEY, line BLOB NOT NULL) STRICT;
  CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'append only'); END;
  CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'append only'); END;
  PRAGMA user_version = 1;
`;

/**
 * Sessions in one SQLite file, WAL and `synchronous=FULL`: an acknowledged commit survives `kill -9` and a power cut. The audit
 * record of a change is a row of the same transaction, with the very bytes of the JSONL chain. One process writes a file; the whole
 * chain is verified before anything is served.
 * @throws {AuditFailure} `locked`: another process has the file; `broken`: its audit is not what was written
 * @throws {TypeError} when the database will not be durable, or is of another version
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<ContextStore> {
  const { file, by, now = Date.now } = options;
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const unlock = await lockForWriting(file);
  let database: Database.Database | undefined;
  try {
    database = new Database(file);
    await chmod(file, 0o600);
    demandDurability(database);
    prepareSchema(database, by, now());
    const verdict = await verifyAuditLines(file, storeAuditLines(database));
    if (!verdict.ok) throw new AuditFailure('broken', `${file}, audit line ${verdict.line}: ${verdict.reason}`);
    const store = new SqliteStore({ database, unlock, by, now });
    await store.audit.append({ event: 'audit.start', outcome: 0, by });
    return store;
  } catch (error) {
    database?.close();
    await unlock();
    throw error;
  }
}

/** @throws {TypeError} unless commits are synced before they are acknowledged */
function demandDurability(database: Database.Database): void {
  database.pragma('busy_timeout = 5000');
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  const value = (name: string): unknown => Object.values(database.prepare(`PRAGMA ${name}`).get() as object)[0];
  if (value('journal_mode') !== 'wal' || value('synchronous') !== 2) {
    throw new TypeError('the session store must be in WAL mode with synchronous=FULL');
  }
}

function prepareSchema(database: Database.Database, by: string, t: number): void {
  const { user_version: version } = database.prepare('PRAGMA user_version').get() as { user_version: number };
  if (version === 1) return;
  if (version !== 0) throw new TypeError('the session store was written by another version');
  database
    .transaction(() => {
      database.exec(SCHEMA);
      database.prepare('INSERT INTO audit (seq, line) VALUES (0, ?)').run([beginChain(by, t).line]);
    })
    .immediate();
}

class SqliteStore implements ContextStore {
  readonly durable = true;
  readonly audit: AuditSink;
  readonly #database: Database.Database;
  readonly #unlock: () => Promise<void>;
  readonly #by: string;
  readonly #now: () => number;
  readonly #watchers = new Watchers();
  readonly #fold = new RefusalFold();
  #closed = false;

  constructor(parts: { database: Database.Database; unlock: () => Promise<void>; by: string; now: () => number }) {
    this.#database = parts.database;
    this.#unlock = parts.unlock;
    this.#by = parts.by;
    this.#now = parts.now;
    this.audit = { append: async (record) => this.#append(record), close: async () => undefined };
  }

  async create(session: Session, openKey: string, record: AuditRecord): Promise<'done' | 'exists'> {
    return this.#write(() => {
      const found = this.#database.prepare('SELECT 1 FROM session WHERE sid = ? OR open_key = ?').get(session.sid, openKey);
      if (found !== undefined) return 'exists';
      this.#database
        .prepare('INSERT INTO session (sid, open_key, version, pending, row) VALUES (?, ?, ?, ?, ?)')
        .run(session.sid, openKey, session.version, 0, JSON.stringify(session));
      this.#chain([{ record, t: this.#now() }]);
      return 'done';
    });
  }

  async read(sid: string): Promise<Session | undefined> {
    return this.#row('SELECT row FROM session WHERE sid = ?', sid);
  }

  async readOpened(openKey: string): Promise<Session | undefined> {
    return this.#row('SELECT row FROM session WHERE open_key = ?', openKey);
  }

  async compareAndSet(next: Session, record: AuditRecord): Promise<'done' | 'conflict'> {
    const result = this.#write(() => {
      const { changes } = this.#database
        .prepare('UPDATE session SET version = ?, pending = ?, row = ? WHERE sid = ? AND version = ?')
        .run(next.version, next.pending === undefined ? 0 : 1, JSON.stringify(next), next.sid, next.version - 1);
      if (changes !== 1) return 'conflict';
      this.#chain([{ record, t: this.#now() }]);
      return 'done';
    });
    if (result === 'done') this.#watchers.notify(next.sid);
    return result;
  }

  async undecided(): Promise<readonly string[]> {
    return this.#ask(() => {
      const rows = this.#database.prepare('SELECT sid FROM session WHERE pending = 1').all() as { sid: string }[];
      return rows.map(({ sid }) => sid);
    });
  }

  watch(sid: string, changed: () => void): () => void {
    return this.#watchers.watch(sid, changed);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    const t = this.#now();
    const last = { record: { event: 'audit.stop', outcome: 0, by: this.#by } as const, t };
    try {
      this.#write(() => this.#chain([...this.#fold.drain().map((record) => ({ record, t })), last]));
    } finally {
      this.#closed = true;
      // What was written stands in the one file then, and not beside it.
      this.#database.pragma('wal_checkpoint(TRUNCATE)');
      this.#database.close();
      await this.#unlock();
    }
  }

  #append(record: AuditRecord): void {
    const t = this.#now();
    const due = this.#fold.due(t);
    const admitted = this.#fold.admit(record, t) ? [record] : [];
    const records = [...due, ...admitted].map((one) => ({ record: one, t }));
    if (records.length === 0) return;
    try {
      this.#write(() => this.#chain(records));
    } catch (error) {
      for (const summary of due) this.#fold.restore(summary);
      this.#fold.distrust();
      throw error;
    }
  }

  /** Adds lines at the end of the chain as it stands in this transaction. */
  #chain(records: readonly TimedRecord[]): void {
    const end = this.#database.prepare('SELECT line FROM audit ORDER BY seq DESC LIMIT 1').get() as { line: Uint8Array };
    const { lines, position } = continueChain(positionOf(end.line), records);
    const insert = this.#database.prepare('INSERT INTO audit (seq, line) VALUES (?, ?)');
    for (const [i, line] of lines.entries()) insert.run(position.seq - lines.length + 1 + i, line);
  }

  #row(query: string, key: string): Session | undefined {
    return this.#ask(() => {
      const found = this.#database.prepare(query).get(key) as { row: string } | undefined;
      return found === undefined ? undefined : Session.parse(JSON.parse(found.row));
    });
  }

  #write<T>(change: () => T): T {
    return this.#ask(() => this.#database.transaction(change).immediate());
  }

  #ask<T>(question: () => T): T {
    if (this.#closed) throw new StoreUnavailable();
    try {
      return question();
    } catch (cause) {
      throw new StoreUnavailable({ cause });
    }
  }
}

/** The line was hashed as it stands when the file was opened or written, so it is read without being checked again. */
function positionOf(line: Uint8Array): ChainPosition {
  const { chain, seq, b, h } = JSON.parse(Buffer.from(line).toString('utf8')) as ChainLine;
  return { chain, seq, batch: b, hash: Buffer.from(h, 'base64url') };
}

interface ChainLine {
  readonly chain: string;
  readonly seq: number;
  readonly b: number;
  readonly h: string;
}
