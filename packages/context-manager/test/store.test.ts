import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import type { AuditRecord } from '@hmcp/core';
import Database from 'libsql';
import { afterEach, describe, expect, it } from 'vitest';
import { abort, begin, join } from '../src/machine.js';
import type { Session } from '../src/session-row.js';
import { memoryStore } from '../src/store/memory.js';
import { openToRead } from '../src/store/open-to-read.js';
import { readSessions } from '../src/store/read-sessions.js';
import { openSqliteStore } from '../src/store/sqlite.js';
import { type ContextStore, StoreUnavailable } from '../src/store.js';
import { verifyStoreAudit } from '../src/store-audit.js';
import { at, next, session, to } from './support/rows.js';

const BY = 'https://manager.example/mcp';
const record = (event: AuditRecord['event'], more: Partial<AuditRecord> = {}): AuditRecord => ({
  event,
  outcome: 0,
  by: BY,
  ...more,
});

const folders: string[] = [];
const stores: ContextStore[] = [];
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

async function file(): Promise<string> {
  const folder = await mkdtemp(path(tmpdir(), 'hmcp-store-'));
  folders.push(folder);
  return path(folder, 'state', 'sessions.sqlite');
}

async function sqlite(at?: string): Promise<ContextStore> {
  const store = await openSqliteStore({ file: at ?? (await file()), by: BY, now: () => 1_800_000_000_000 });
  stores.push(store);
  return store;
}

const engines: readonly [string, () => Promise<ContextStore>][] = [
  ['memory', async () => memoryStore()],
  ['SQLite', () => sqlite()],
];

describe.each(engines)('a %s store', (_, make) => {
  it('gives back what was written, by session and by the key of its opening', async () => {
    const store = await make();
    expect(await store.create(session(), 'key', record('session.opened'))).toBe('done');
    expect(await store.read('ctx_1')).toEqual(session());
    expect(await store.readOpened('key')).toEqual(session());
    expect(await store.read('ctx_2')).toBeUndefined();
    expect(await store.readOpened('other')).toBeUndefined();
  });

  it('adds a session once for a key, and a key once for a session', async () => {
    const store = await make();
    await store.create(session(), 'key', record('session.opened'));
    expect(await store.create({ ...session(), sid: 'ctx_2' }, 'key', record('session.opened'))).toBe('exists');
    expect(await store.create(session(), 'key2', record('session.opened'))).toBe('exists');
    expect(await store.read('ctx_2')).toBeUndefined();
  });

  it('of a hundred writers with the same version one wins', async () => {
    const store = await make();
    await store.create(session(), 'key', record('session.opened'));
    const rows = Array.from({ length: 100 }, (__, i) => next(begin(session(), to('B', { switchId: `s${i}` }), at())));
    const results = await Promise.all(rows.map((row) => store.compareAndSet(row, record('switch.begun'))));
    expect(results.filter((result) => result === 'done')).toHaveLength(1);
    expect((await store.read('ctx_1'))?.pending?.switchId).toBe('s0');
  });

  it('writes nothing of an unknown session', async () => {
    const store = await make();
    expect(await store.compareAndSet(next(begin(session(), to('B'), at())), record('switch.begun'))).toBe('conflict');
    expect(await store.read('ctx_1')).toBeUndefined();
  });

  it('knows which sessions are undecided, and tells who watches', async () => {
    const store = await make();
    await store.create(session(), 'key', record('session.opened'));
    expect(await store.undecided()).toEqual([]);
    let told = 0;
    const unwatch = store.watch('ctx_1', () => {
      told += 1;
    });
    const pending = next(begin(session(), to('B'), at()));
    await store.compareAndSet(pending, record('switch.begun'));
    expect(await store.undecided()).toEqual(['ctx_1']);
    await store.compareAndSet(pending, record('switch.begun'));
    unwatch();
    await store.compareAndSet(next(abort(pending, { switchId: 's1', reason: 'aborted' }, at())), record('switch.aborted'));
    expect(told).toBe(1);
    expect(await store.undecided()).toEqual([]);
  });
});

describe('the SQLite store', () => {
  async function events(at: string): Promise<(string | undefined)[]> {
    const found: (string | undefined)[] = [];
    const verdict = await verifyStoreAudit(at, { onRecord: ({ event }) => found.push(event) });
    expect(verdict).toMatchObject({ ok: true });
    return found;
  }

  it('keeps the record of a change in the chain, in the order of the changes, and verifies', async () => {
    const place = await file();
    const store = await sqlite(place);
    await store.create(session(), 'key', record('session.opened'));
    await store.audit.append(record('request.served'));
    const row = next(begin(session(), to('B'), at()));
    await store.compareAndSet(row, record('switch.begun', { switchId: 's1', level: 'C2', evicted: ['x'] }));
    await store.compareAndSet(row, record('switch.begun'));
    expect(await events(place)).toEqual(['audit.start', 'session.opened', 'request.served', 'switch.begun']);
    await store.close();
    expect(await verifyStoreAudit(place)).toMatchObject({
      ok: true,
      records: 5,
      runs: 1,
      interrupted: 0,
      live: false,
      warnings: [],
    });
  });

  it('goes on with rows and chain after a restart', async () => {
    const place = await file();
    const first = await sqlite(place);
    await first.create(session(), 'key', record('session.opened'));
    await first.close();
    const second = await sqlite(place);
    expect(await second.read('ctx_1')).toEqual(session());
    expect(await events(place)).toEqual(['audit.start', 'session.opened', 'audit.stop', 'audit.start']);
  });

  it('a change whose record cannot be written does not happen', async () => {
    const place = await file();
    const store = await sqlite(place);
    await store.create(session(['reader', 'labs']), 'key', record('session.opened'));
    const row = next(join(session(['reader', 'labs']), { clientId: 'labs', role: 'effector', delivery: 'pull' }, at()));
    const bad = record('session.joined', { epoch: 1.5 });
    await expect(store.compareAndSet(row, bad)).rejects.toBeInstanceOf(StoreUnavailable);
    expect((await store.read('ctx_1'))?.version).toBe(1);
    expect(await events(place)).toEqual(['audit.start', 'session.opened']);
  });

  it('its audit takes no change and no removal; what is changed beneath it is evidence', async () => {
    const place = await file();
    const store = await sqlite(place);
    await store.create(session(), 'key', record('session.opened'));
    await store.close();
    const database = new Database(place);
    expect(() => database.prepare('DELETE FROM audit WHERE seq = 2').run()).toThrow('append only');
    expect(() => database.prepare("UPDATE audit SET line = x'00'").run()).toThrow('append only');
    database.exec('DROP TRIGGER audit_is_not_removed');
    database.prepare('DELETE FROM audit WHERE seq = 1').run();
    database.close();
    expect(await verifyStoreAudit(place)).toMatchObject({ ok: false, seq: 1 });
    await expect(openSqliteStore({ file: place, by: BY })).rejects.toMatchObject({ kind: 'broken' });
  });

  it('is opened to read under any path, with nothing written', async () => {
    const place = path((await file()).replace('sessions.sqlite', 'a #1?mode=rwc%20é'), 'sessions.sqlite');
    await (await sqlite(place)).create(session(), 'key', record('session.opened'));
    expect(await readSessions(place)).toEqual([session()]);
    const database = await openToRead(place);
    expect(() => database.exec('DELETE FROM session')).toThrow('readonly');
    database.close();
    expect(await readSessions(place)).toEqual([session()]);
  });

  it.each([
    ['sessions', readSessions],
    ['audit', verifyStoreAudit],
  ])('that is not there cannot be read for its %s, and is not made', async (_, read) => {
    const place = await file();
    await expect(read(place)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(stat(place)).rejects.toMatchObject({ code: 'ENOENT' });
    await mkdir(path(place, '..'));
    await expect(read(place)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(stat(place)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('has one writer', async () => {
    const place = await file();
    await sqlite(place);
    await expect(openSqliteStore({ file: place, by: BY })).rejects.toMatchObject({ kind: 'locked' });
  });

  it('is for its owner’s eyes', async () => {
    const place = await file();
    await sqlite(place);
    expect((await stat(place)).mode & 0o077).toBe(0);
  });

  it('refuses a file of another version', async () => {
    const place = await file();
    await (await sqlite(place)).close();
    const database = new Database(place);
    database.exec('PRAGMA user_version = 2');
    database.close();
    await expect(openSqliteStore({ file: place, by: BY })).rejects.toBeInstanceOf(TypeError);
  });

  it('closed, answers nothing', async () => {
    const store = await sqlite();
    await store.close();
    await expect(store.read('ctx_1')).rejects.toBeInstanceOf(StoreUnavailable);
    await expect(store.audit.append(record('request.served'))).rejects.toBeInstanceOf(StoreUnavailable);
  });

  it('a row that is no session row is not served', async () => {
    const place = await file();
    const store = await sqlite(place);
    await store.create({ ...session(), state: 'asleep' } as unknown as Session, 'key', record('session.opened'));
    await expect(store.read('ctx_1')).rejects.toBeInstanceOf(StoreUnavailable);
  });
});
