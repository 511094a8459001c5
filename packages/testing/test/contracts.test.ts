import { mkdtemp, open as openFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FileAuditOptions, openFileAudit, verifyAudit } from '@hmcp/audit';
import type { AccessPolicy, AccessQuestion } from '@hmcp/auth';
import { type ContextStore, memoryStore, openSqliteStore, type Session } from '@hmcp/context-manager';
import { verifyStoreAudit } from '@hmcp/context-manager/store-audit';
import type { AuditRecord, AuditSink } from '@hmcp/core';
import {
  type AccessPolicyBench,
  type AuditSinkBench,
  accessPolicyContract,
  auditSinkContract,
  type ContextStoreBench,
  contextStoreContract,
} from '@hmcp/testing/contracts';
import { describe, expect, it } from 'vitest';
import { ACCESS_POLICY_RULES } from '../src/contracts/access-policy.js';
import { AUDIT_SINK_RULES } from '../src/contracts/audit-sink.js';
import { CONTEXT_STORE_RULES, DURABLE_STORE_RULES } from '../src/contracts/context-store.js';
import type { Rule } from '../src/contracts/rule.js';
import { memoryAudit } from '../src/memory-audit.js';

const BY = 'https://labs.example/mcp';

/** Where something is kept, and whether it takes anything just now. */
async function folderOf(): Promise<{ readonly folder: string; broken: boolean }> {
  return { folder: await mkdtemp(join(tmpdir(), 'hmcp-contract-')), broken: false };
}

type LogFileOf = NonNullable<FileAuditOptions['open']>;

async function fileBench(): Promise<AuditSinkBench> {
  const place = await folderOf();
  const file = join(place.folder, 'audit.jsonl');
  const open: LogFileOf = async (path) => {
    const handle = await openFile(path, 'r+');
    return {
      write: async (bytes, position) => (await handle.write(bytes, 0, bytes.length, position)).bytesWritten,
      datasync: async () => {
        if (place.broken) throw Object.assign(new Error('sync'), { code: 'EIO' });
        await handle.datasync();
      },
      truncate: (size) => handle.truncate(size),
      inspect: async () => ({ size: (await handle.stat()).size, named: true }),
      close: () => handle.close(),
    };
  };
  const sinks: AuditSink[] = [];
  return {
    async open() {
      const sink = await openFileAudit({ file, by: BY, open });
      sinks.push(sink);
      return sink;
    },
    async stored() {
      const records: AuditRecord[] = [];
      const verdict = await verifyAudit(file, { onRecord: (record) => records.push(record) });
      expect(verdict).toMatchObject({ ok: true });
      return records;
    },
    async fail() {
      place.broken = true;
    },
    async close() {
      for (const sink of sinks) await sink.close().catch(() => undefined);
      await rm(place.folder, { recursive: true });
    },
  };
}

async function memoryBench(): Promise<AuditSinkBench> {
  const records: AuditRecord[] = [];
  let broken = false;
  const now = (): number => {
    if (broken) throw new Error('no clock');
    return 1_800_000_000_000;
  };
  return {
    open: async () => memoryAudit({ by: BY, now, onRecord: (record) => records.push(record) }),
    stored: async () => records,
    fail: async () => {
      broken = true;
    },
    close: async () => undefined,
  };
}

interface SqliteBench extends Omit<ContextStoreBench, 'durable'> {
  readonly durable: NonNullable<ContextStoreBench['durable']>;
}

async function sqliteBench(): Promise<SqliteBench> {
  const place = await folderOf();
  const file = join(place.folder, 'sessions.sqlite');
  // Asked for in the transaction of a change, when its record is made: after the row was written.
  const now = (): number => {
    if (place.broken) throw new Error('no clock');
    return 1_800_000_000_000;
  };
  const stores: ContextStore[] = [];
  return {
    async open() {
      const store = await openSqliteStore({ file, by: BY, now });
      stores.push(store);
      return store;
    },
    async records() {
      const records: AuditRecord[] = [];
      expect(await verifyStoreAudit(file, { onRecord: (record) => records.push(record) })).toMatchObject({ ok: true });
      return records;
    },
    durable: {
      async failAudit() {
        place.broken = true;
        return async () => {
          place.broken = false;
        };
      },
    },
    async close() {
      place.broken = false;
      for (const store of stores) await store.close();
      await rm(place.folder, { recursive: true });
    },
  };
}

auditSinkContract('the file sink', fileBench);
auditSinkContract('the memory sink of a testbed', memoryBench);
auditSinkContract('the audit of the SQLite store', async () => {
  const { open, records, durable, close } = await sqliteBench();
  return {
    async open() {
      const store = await open();
      return { append: (record) => store.audit.append(record), close: () => store.close() };
    },
    stored: records,
    fail: async () => {
      await durable.failAudit();
    },
    close,
  };
});

contextStoreContract('the SQLite store', { durable: true, open: sqliteBench });
contextStoreContract('the memory store', {
  durable: false,
  async open() {
    const store = memoryStore();
    return { open: async () => store, records: async () => store.records, close: async () => undefined };
  },
});

const A1: AccessQuestion = {
  issuer: 'https://as.example',
  subject: 'Dr-1a',
  clientId: 'portal',
  fhirServer: 'https://fhir.example/r4',
  patient: 'Ab-1',
  operation: 'list-results',
  effect: false,
};

type Ask = (question: AccessQuestion, rights: () => Promise<ReadonlySet<string>>) => Promise<unknown>;

const keyOf = ({ issuer, subject, fhirServer, tenant, patient }: AccessQuestion): string =>
  JSON.stringify([issuer, subject, fhirServer, tenant ?? null, patient]);

/** A policy over a table of rights. */
function policyBench(ask: Ask): () => Promise<AccessPolicyBench> {
  return async () => {
    let broken = false;
    const table = new Set([keyOf(A1), keyOf({ ...A1, patient: 'Cd-2' })]);
    const rights = async (): Promise<ReadonlySet<string>> => {
      if (broken) throw new Error('the table does not answer');
      return table;
    };
    const policy: AccessPolicy = { decide: async (question) => (await ask(question, rights)) as 'allow' | 'deny' };
    return {
      policy,
      allowed: [A1, { ...A1, patient: 'Cd-2' }],
      denied: [{ ...A1, patient: 'Zz-9' }],
      fail: async () => {
        broken = true;
      },
      close: async () => undefined,
    };
  };
}

const byTable: Ask = async (question, rights) => ((await rights()).has(keyOf(question)) ? 'allow' : 'deny');

accessPolicyContract('a policy over a table of rights', policyBench(byTable));

/** The claims that do not hold. */
async function broken<B extends { close(): Promise<void> }>(
  rules: readonly Rule<B>[],
  open: () => Promise<B>,
): Promise<string[]> {
  const found: string[] = [];
  for (const { claim, check } of rules) {
    const bench = await open();
    await check(bench).catch(() => found.push(claim));
    await bench.close();
  }
  return found;
}

/** What a planted sink is made of: a list for what is stored, and a way to fail. */
interface Shelf {
  readonly stored: AuditRecord[];
  broken: boolean;
}

/** A sink that does all it must, by hand. */
function soundSink(shelf: Shelf): AuditSink {
  let closed = false;
  return {
    async append(record) {
      if (closed || shelf.broken) throw new Error('no');
      shelf.stored.push(structuredClone(record));
    },
    close: async () => {
      closed = true;
    },
  };
}

function shelfBench(make: (shelf: Shelf) => AuditSink): () => Promise<AuditSinkBench> {
  return async () => {
    const shelf: Shelf = { stored: [], broken: false };
    return {
      open: async () => make(shelf),
      stored: async () => shelf.stored,
      fail: async () => {
        shelf.broken = true;
      },
      close: async () => undefined,
    };
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the contract of audit sinks', () => {
  it('lets a sound sink pass', async () => {
    expect(await broken(AUDIT_SINK_RULES, shelfBench(soundSink))).toEqual([]);
  });

  it.each<[string, (shelf: Shelf) => AuditSink, string]>([
    [
      'acknowledges before it stores',
      (shelf) => {
        const sink = soundSink(shelf);
        return { ...sink, append: async (record) => void turn().then(() => sink.append(record).catch(() => undefined)) };
      },
      'has stored a record when append resolves',
    ],
    [
      'loses the order',
      (shelf) => {
        const sink = soundSink(shelf);
        let at = 0;
        return {
          ...sink,
          append: async (record) => {
            at += 1;
            if (at % 3 === 0) await turn();
            await sink.append(record);
          },
        };
      },
      'keeps the order of appends that are under way together, and loses none',
    ],
    [
      'keeps what it was given instead of a copy',
      (shelf) => ({ ...soundSink(shelf), append: async (record) => void shelf.stored.push(record) }),
      'keeps every member as it was when it was appended',
    ],
    [
      'drops members it does not know',
      (shelf) => {
        const sink = soundSink(shelf);
        return { ...sink, append: async ({ types: _, ...record }) => sink.append(record) };
      },
      'keeps every member as it was when it was appended',
    ],
    [
      'stores like records once',
      (shelf) => {
        const sink = soundSink(shelf);
        const seen = new Set<string>();
        return {
          ...sink,
          append: async (record) => {
            const text = JSON.stringify(record);
            if (!seen.has(text)) await sink.append(record);
            seen.add(text);
          },
        };
      },
      'keeps each of many records that are alike, unless they are refusals',
    ],
    [
      'drops refusals in a flood',
      (shelf) => {
        const sink = soundSink(shelf);
        let refusals = 0;
        return {
          ...sink,
          append: async (record) => {
            if (record.event === 'request.refused') refusals += 1;
            if (refusals < 100) await sink.append(record);
          },
        };
      },
      'never loses a distinct refusal in a flood of others, and counts what it folds',
    ],
    [
      'swallows a failure',
      (shelf) => {
        const sink = soundSink(shelf);
        return { ...sink, append: (record) => sink.append(record).catch(() => undefined) };
      },
      'rejects what cannot be made durable, then and later',
    ],
    [
      'reports a failure once',
      (shelf) => {
        const sink = soundSink(shelf);
        let failed = false;
        return {
          ...sink,
          append: (record) =>
            sink.append(record).catch((error: unknown) => {
              if (failed) return;
              failed = true;
              throw error;
            }),
        };
      },
      'rejects every one of those that are under way together when the place fails',
    ],
    [
      'closes before it is done',
      (shelf) => {
        const sink = soundSink(shelf);
        return {
          append: async (record) => {
            await turn();
            await turn();
            await sink.append(record);
          },
          close: async () => undefined,
        };
      },
      'settles and stores what is under way before it is closed',
    ],
    [
      'takes records after it was closed',
      (shelf) => ({ ...soundSink(shelf), close: async () => undefined }),
      'takes nothing after it was closed, and may be closed twice',
    ],
    [
      'begins anew when it is opened',
      (shelf) => {
        shelf.stored.length = 0;
        return soundSink(shelf);
      },
      'goes on behind what is there when it is opened again',
    ],
  ])('catches one that %s', async (_, make, claim) => {
    expect(await broken(AUDIT_SINK_RULES, shelfBench(make))).toContain(claim);
  });
});

describe('the contract of context stores', () => {
  type Change = (store: ContextStore, rows: Map<string, Session>) => Partial<ContextStore>;

  /** The memory store with something else in place of its own. */
  const planted = (change: Change) => async (): Promise<ContextStoreBench> => {
    const store = memoryStore();
    const rows = new Map<string, Session>();
    const changed = { ...store, ...change(store, rows) };
    return { open: async () => changed, records: async () => store.records, close: async () => undefined };
  };

  it('lets a sound store pass', async () => {
    expect(
      await broken(
        CONTEXT_STORE_RULES,
        planted(() => ({})),
      ),
    ).toEqual([]);
  });

  const force = async (store: ContextStore, next: Session, record: AuditRecord): Promise<'done' | 'conflict'> => {
    const before = await store.read(next.sid);
    return before === undefined ? 'conflict' : store.compareAndSet({ ...next, version: before.version + 1 }, record);
  };

  it.each<[string, Change, string]>([
    ['says it is durable', () => ({ durable: true }), 'says truly whether it keeps what it is given'],
    [
      'writes without comparing',
      (store) => ({ compareAndSet: (next, record) => force(store, next, record) }),
      'replaces a row by the next version only, and none that is not there',
    ],
    [
      'compares before it waits',
      (store) => ({
        compareAndSet: async (next, record) => {
          if ((await store.read(next.sid))?.version !== next.version - 1) return 'conflict';
          await turn();
          return force(store, next, record);
        },
      }),
      'lets one of a hundred writers win, and stores the row of that one',
    ],
    [
      'takes any later version',
      (store) => ({
        compareAndSet: async (next, record) => {
          const before = await store.read(next.sid);
          return before !== undefined && next.version > before.version ? force(store, next, record) : 'conflict';
        },
      }),
      'replaces a row by the next version only, and none that is not there',
    ],
    [
      'gives out its own rows',
      (store, rows) => ({
        create: async (session, key, record) => {
          rows.set(session.sid, session);
          return store.create(session, key, record);
        },
        read: async (sid) => rows.get(sid) ?? store.read(sid),
      }),
      'keeps its own copies: what a caller changes afterwards changes nothing',
    ],
    [
      'opens twice for a key',
      (store) => ({ create: (session, key, record) => store.create(session, `${key}${session.sid}`, record) }),
      'adds a session once for a key, and a key once for a session',
    ],
    [
      'records what did not happen',
      (store) => ({
        compareAndSet: async (next, record) => {
          const result = await store.compareAndSet(next, record);
          if (result === 'conflict') await store.audit.append(record);
          return result;
        },
      }),
      'keeps one record for each change, in the order of the changes, and none for what did not happen',
    ],
    ['forgets what is undecided', () => ({ undecided: async () => [] }), 'knows exactly the sessions with a pending switch'],
    [
      'never stops telling',
      (store) => ({
        watch: (sid, changed) => {
          store.watch(sid, changed);
          return () => undefined;
        },
      }),
      'tells each who watches a session of each of its writes, of nothing else, and no longer than asked',
    ],
  ])('catches one that %s', async (_, change, claim) => {
    expect(await broken(CONTEXT_STORE_RULES, planted(change))).toContain(claim);
  });

  /** The SQLite store with something else in place of its own. */
  const plantedSqlite = (change: (store: ContextStore) => Partial<ContextStore>) => async (): Promise<ContextStoreBench> => {
    const bench = await sqliteBench();
    const own = (store: ContextStore): ContextStore => ({
      durable: store.durable,
      audit: store.audit,
      create: (...given) => store.create(...given),
      read: (sid) => store.read(sid),
      readOpened: (key) => store.readOpened(key),
      compareAndSet: (...given) => store.compareAndSet(...given),
      undecided: () => store.undecided(),
      watch: (...given) => store.watch(...given),
      close: () => store.close(),
    });
    return {
      ...bench,
      async open() {
        const store = own(await bench.open());
        return { ...store, ...change(store) };
      },
    };
  };

  it.each<[string, (store: ContextStore) => Partial<ContextStore>, string]>([
    [
      'acknowledges a change it could not record',
      (store) => ({ compareAndSet: (...given) => store.compareAndSet(...given).catch(() => 'done' as const) }),
      'does not make a change whose record cannot be written, and tells nobody of it',
    ],
    [
      'goes on answering from memory once it is closed',
      (store) => ({ read: (sid) => store.read(sid).catch(() => undefined) }),
      'answers nothing once it is closed, and may be closed twice',
    ],
    [
      'keeps its rows in memory',
      () => {
        const memory = memoryStore();
        return { create: (...given) => memory.create(...given), read: (sid) => memory.read(sid) };
      },
      'has all of it when it is opened again',
    ],
  ])('catches a durable one that %s', async (_, change, claim) => {
    expect(await broken(DURABLE_STORE_RULES, plantedSqlite(change))).toContain(claim);
  });
});

describe('the contract of access policies', () => {
  let last: Promise<unknown> = Promise.resolve();
  const remembered = new Map<string, unknown>();
  const without =
    (member: 'issuer' | 'subject' | 'fhirServer' | 'tenant' | 'patient'): Ask =>
    (question, rights) =>
      byTable({ ...question, [member]: A1[member] }, rights);

  it.each<[string, Ask, string]>([
    [
      'allows when it could not ask',
      (...asked) => byTable(...asked).catch(() => 'allow'),
      'allows nothing while what it asks does not answer, not even what it allowed before',
    ],
    [
      'remembers what it allowed',
      async (question, rights) => {
        const answer = remembered.get(keyOf(question)) ?? (await byTable(question, rights));
        remembered.set(keyOf(question), answer);
        return answer;
      },
      'allows nothing while what it asks does not answer, not even what it allowed before',
    ],
    ['says true', async (...asked) => (await byTable(...asked)) === 'allow', 'answers with the very words "allow" and "deny"'],
    ['allows all', async () => 'allow', 'answers with the very words "allow" and "deny"'],
    [
      'shares an answer',
      async (...asked) => {
        const mine = last;
        last = turn().then(() => byTable(...asked));
        return (await mine) ?? last;
      },
      'answers the same when it is asked again, and each its own when it is asked much at once',
    ],
    ...(['issuer', 'subject', 'fhirServer', 'tenant', 'patient'] as const).map((member): [string, Ask, string] => [
      `ignores the ${member}`,
      without(member),
      'allows nothing to somebody else, and nothing about somebody else: each of issuer, subject, server, tenant and patient counts',
    ]),
    [
      'takes a star for everybody',
      async (question, rights) => (question.patient === '*' ? 'allow' : byTable(question, rights)),
      'allows nothing for a subject or a patient that is no id',
    ],
    [
      'trims',
      (question, rights) => byTable({ ...question, patient: question.patient.trim() }, rights),
      'allows nothing for another spelling of a subject or a patient',
    ],
    [
      'takes upper and lower case for the same',
      (question, rights) => byTable({ ...question, subject: question.subject.replace(/^dr/i, 'Dr').replace(/A$/, 'a') }, rights),
      'allows nothing for another spelling of a subject or a patient',
    ],
  ])('catches one that %s', async (_, ask, claim) => {
    expect(await broken(ACCESS_POLICY_RULES, policyBench(ask))).toContain(claim);
  });
});
