import assert from 'node:assert/strict';
import type { ContextStore, Session } from '@hmcp/context-manager';
import type { AuditRecord } from '@hmcp/core';
import { declareRules, type Rule } from './rule.js';

/** One place where sessions are kept, for one test. */
export interface ContextStoreBench {
  /** Opens a store on this place; once more, where it is durable, after the one before was closed. */
  open(): Promise<ContextStore>;
  /** The audit records that are there at this moment, in their order. */
  records(): Promise<readonly AuditRecord[]>;
  /** What a store that keeps what it was given can be made to show; a store for tests that forgets has none of it. */
  readonly durable?: {
    /** From now on audit records cannot be written, though rows still could be. @returns a function that mends it */
    failAudit(): Promise<() => Promise<void>>;
  };
  close(): Promise<void>;
}

const BY = 'https://manager.example/mcp';
const T0 = 1_800_000_000_000;

function row(sid = 'ctx_1', more: Partial<Session> = {}): Session {
  const subject = { fhirServer: 'https://fhir.example/r4', patient: 'A', pk: 'A'.padEnd(43, '0') };
  return {
    v: 1,
    sid,
    version: 1,
    rev: 1,
    epoch: 1,
    state: 'active',
    owner: { issuer: 'https://as.example', subject: 'alice' },
    client: 'portal',
    subject,
    participants: ['labs'],
    members: [{ clientId: 'labs', role: 'reader', delivery: 'pull', joinedEpoch: 1 }],
    permits: [],
    decided: [],
    openedAt: T0,
    openedPk: subject.pk,
    ...more,
  };
}

/** The row after it, in the middle of a switch to B. */
function switching(before: Session, switchId = 's1'): Session {
  const target = { fhirServer: 'https://fhir.example/r4', patient: 'B', pk: 'B'.padEnd(43, '0') };
  const times = { begunAt: T0, deadline: T0 + 60_000, voteBy: T0 + 2_000 };
  const parameters = { kind: 'switch' as const, expectedEpoch: 1, target };
  const pending = { switchId, parameters, ...times, asked: [], votes: {}, effectors: false, tries: 0, drained: {} };
  return { ...before, version: before.version + 1, rev: before.rev + 1, state: 'preparing', pending };
}

/** The row after it, with nothing pending. */
function settled({ pending: _, ...before }: Session): Session {
  return { ...before, version: before.version + 1, rev: before.rev + 1, state: 'active' };
}

function record(event: AuditRecord['event'], switchId?: string): AuditRecord {
  return { event, outcome: 0, by: BY, ...(switchId === undefined ? {} : { switchId }) };
}

const eventsOf = async (bench: ContextStoreBench): Promise<string[]> =>
  (await bench.records()).map(({ event }) => event).filter((event) => !event.startsWith('audit.'));

async function opened(bench: ContextStoreBench): Promise<ContextStore> {
  const store = await bench.open();
  assert.equal(await store.create(row(), 'key', record('session.opened')), 'done');
  return store;
}

/** What every context store must do. @see protocol section 6 */
export const CONTEXT_STORE_RULES: readonly Rule<ContextStoreBench>[] = [
  {
    claim: 'says truly whether it keeps what it is given',
    async check(bench) {
      assert.equal((await bench.open()).durable, bench.durable !== undefined);
    },
  },
  {
    claim: 'gives back what was written, by session and by the key of its opening, and nothing else',
    async check(bench) {
      const store = await opened(bench);
      assert.deepEqual(await store.read('ctx_1'), row());
      assert.deepEqual(await store.readOpened('key'), row());
      for (const other of ['', 'ctx', 'ctx_1 ', 'CTX_1', '%', '__proto__', "' OR '1'='1"]) {
        assert.equal(await store.read(other), undefined);
        assert.equal(await store.readOpened(other), undefined);
      }
      assert.equal(await store.read('key'), undefined);
      assert.equal(await store.readOpened('ctx_1'), undefined);
    },
  },
  {
    claim: 'keeps its own copies: what a caller changes afterwards changes nothing',
    async check(bench) {
      const store = await bench.open();
      const given = row();
      await store.create(given, 'key', record('session.opened'));
      given.participants.push('somebody');
      const read = await store.read('ctx_1');
      read?.participants.push('somebody');
      assert.deepEqual(await store.read('ctx_1'), row());
      const next = switching(row());
      await store.compareAndSet(next, record('switch.begun'));
      next.pending?.asked.push('somebody');
      assert.deepEqual(await store.read('ctx_1'), switching(row()));
    },
  },
  {
    claim: 'adds a session once for a key, and a key once for a session',
    async check(bench) {
      const store = await opened(bench);
      assert.equal(await store.create(row('ctx_2'), 'key', record('session.opened')), 'exists');
      assert.equal(await store.create(row('ctx_1', { client: 'other' }), 'key2', record('session.opened')), 'exists');
      assert.equal(await store.read('ctx_2'), undefined);
      assert.equal(await store.readOpened('key2'), undefined);
      assert.deepEqual(await store.read('ctx_1'), row());
      const together = await Promise.all(
        Array.from({ length: 20 }, (_, at) => store.create(row(`ctx_3${at}`), 'key3', record('session.opened'))),
      );
      assert.equal(together.filter((result) => result === 'done').length, 1);
    },
  },
  {
    claim: 'lets one of a hundred writers win, and stores the row of that one',
    async check(bench) {
      const store = await opened(bench);
      const rows = Array.from({ length: 100 }, (_, at) => switching(row(), `s${at}`));
      const results = await Promise.all(rows.map((next, at) => store.compareAndSet(next, record('switch.begun', `s${at}`))));
      const won = results.flatMap((result, at) => (result === 'done' ? [at] : []));
      assert.equal(won.length, 1, `${won.length} writers of one version won`);
      assert.equal((await store.read('ctx_1'))?.pending?.switchId, `s${won[0]}`);
      const written = (await bench.records()).filter(({ event }) => event === 'switch.begun').map(({ switchId }) => switchId);
      assert.deepEqual(written, [`s${won[0]}`]);
    },
  },
  {
    claim: 'replaces a row by the next version only, and none that is not there',
    async check(bench) {
      const store = await opened(bench);
      for (const version of [-1, 0, 1, 3, 100])
        assert.equal(await store.compareAndSet({ ...switching(row()), version }, record('switch.begun')), 'conflict');
      assert.equal(await store.compareAndSet(switching(row('ctx_9')), record('switch.begun')), 'conflict');
      assert.deepEqual(await store.read('ctx_1'), row());
      assert.equal(await store.read('ctx_9'), undefined);
    },
  },
  {
    claim: 'keeps one record for each change, in the order of the changes, and none for what did not happen',
    async check(bench) {
      const store = await opened(bench);
      await store.create(row(), 'key', record('session.opened'));
      await store.audit.append(record('request.served'));
      const begun = switching(row());
      await store.compareAndSet(begun, record('switch.begun'));
      await store.compareAndSet(begun, record('switch.begun'));
      await store.compareAndSet(settled(begun), record('switch.aborted'));
      assert.deepEqual(await eventsOf(bench), ['session.opened', 'request.served', 'switch.begun', 'switch.aborted']);
    },
  },
  {
    claim: 'knows exactly the sessions with a pending switch',
    async check(bench) {
      const store = await opened(bench);
      await store.create(row('ctx_2'), 'key2', record('session.opened'));
      assert.deepEqual(await store.undecided(), []);
      const begun = switching(row());
      await store.compareAndSet(begun, record('switch.begun'));
      assert.deepEqual(await store.undecided(), ['ctx_1']);
      await store.compareAndSet(settled(begun), record('switch.aborted'));
      assert.deepEqual(await store.undecided(), []);
    },
  },
  {
    claim: 'tells each who watches a session of each of its writes, of nothing else, and no longer than asked',
    async check(bench) {
      const store = await opened(bench);
      await store.create(row('ctx_2'), 'key2', record('session.opened'));
      const told: string[] = [];
      const reads: Promise<Session | undefined>[] = [];
      const unwatch = store.watch('ctx_1', () => {
        told.push('one');
        reads.push(store.read('ctx_1'));
      });
      const unwatchOther = store.watch('ctx_1', () => told.push('other'));
      await store.compareAndSet(switching(row('ctx_2')), record('switch.begun'));
      assert.deepEqual(told, [], 'told of another session');
      const begun = switching(row());
      await store.compareAndSet(begun, record('switch.begun'));
      assert.deepEqual(told.sort(), ['one', 'other']);
      assert.deepEqual(await Promise.all(reads), [begun], 'told before the write could be read');
      await store.compareAndSet(begun, record('switch.begun'));
      unwatch();
      unwatch();
      await store.compareAndSet(settled(begun), record('switch.aborted'));
      unwatchOther();
      await store.compareAndSet(switching(settled(begun), 's2'), record('switch.begun'));
      assert.deepEqual(told.sort(), ['one', 'other', 'other']);
    },
  },
];

/** What a context store that keeps what it is given must do beside. @see protocol section 6 */
export const DURABLE_STORE_RULES: readonly Rule<ContextStoreBench>[] = [
  {
    claim: 'has all of it when it is opened again',
    async check(bench) {
      const store = await opened(bench);
      const begun = switching(row());
      await store.compareAndSet(begun, record('switch.begun'));
      await store.close();
      const again = await bench.open();
      assert.deepEqual(await again.read('ctx_1'), begun);
      assert.deepEqual(await again.readOpened('key'), begun);
      assert.deepEqual(await again.undecided(), ['ctx_1']);
      assert.equal(await again.create(row('ctx_2'), 'key', record('session.opened')), 'exists');
      assert.equal(await again.compareAndSet(begun, record('switch.begun')), 'conflict');
      assert.equal(await again.compareAndSet(settled(begun), record('switch.aborted')), 'done');
      assert.deepEqual(await eventsOf(bench), ['session.opened', 'switch.begun', 'switch.aborted']);
    },
  },
  {
    claim: 'does not make a change whose record cannot be written, and tells nobody of it',
    async check(bench) {
      const store = await opened(bench);
      let told = 0;
      store.watch('ctx_1', () => {
        told += 1;
      });
      const mend = await bench.durable?.failAudit();
      await assert.rejects(store.compareAndSet(switching(row()), record('switch.begun')), 'a change without its record');
      await assert.rejects(store.create(row('ctx_2'), 'key2', record('session.opened')), 'a session without its record');
      await assert.rejects(store.audit.append(record('request.served')), 'a record that was not written was acknowledged');
      await mend?.();
      assert.deepEqual(await store.read('ctx_1'), row());
      assert.equal(await store.read('ctx_2'), undefined);
      assert.equal(await store.readOpened('key2'), undefined);
      assert.deepEqual(await store.undecided(), []);
      assert.equal(told, 0, 'told of a change that was not made');
      assert.deepEqual(await eventsOf(bench), ['session.opened']);
      assert.equal(await store.compareAndSet(switching(row()), record('switch.begun')), 'done');
    },
  },
  {
    claim: 'answers nothing once it is closed, and may be closed twice',
    async check(bench) {
      const store = await opened(bench);
      await store.close();
      await store.close();
      await assert.rejects(store.read('ctx_1'));
      await assert.rejects(store.readOpened('key'));
      await assert.rejects(store.undecided());
      await assert.rejects(store.create(row('ctx_2'), 'key2', record('session.opened')));
      await assert.rejects(store.compareAndSet(switching(row()), record('switch.begun')));
      await assert.rejects(store.audit.append(record('request.served')));
    },
  },
];

/**
 * Declares the tests every {@link ContextStore} must pass; call it at the top of a vitest file. What cannot be seen from outside stays
 * yours: that a commit survives a kill and a power cut, and that nobody else writes the same place.
 * @param durable whether the store keeps what it is given; one that does not is for tests, and its bench has no `durable`
 * @param open makes an empty place, for each test another
 * @see protocol section 6
 */
export function contextStoreContract(
  name: string,
  { durable, open }: { readonly durable: boolean; readonly open: () => Promise<ContextStoreBench> },
): void {
  declareRules(name, durable ? [...CONTEXT_STORE_RULES, ...DURABLE_STORE_RULES] : CONTEXT_STORE_RULES, async () => {
    const bench = await open();
    assert.equal(bench.durable !== undefined, durable, 'a bench has "durable" exactly where its store is');
    return bench;
  });
}
