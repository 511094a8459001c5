import assert from 'node:assert/strict';
import type { AuditRecord, AuditSink } from '@hmcp/core';
import { declareRules, type Rule } from './rule.js';

/** One place where records are kept, for one test. */
export interface AuditSinkBench {
  /** Opens a sink on this place; once more after the one before was closed. */
  open(): Promise<AuditSink>;
  /** What is there at this moment, in its order, read past the sink: what somebody finds after the power went. */
  stored(): Promise<readonly AuditRecord[]>;
  /** From now on the place makes nothing durable: the disk is full, the sync fails, the database is gone. */
  fail(): Promise<void>;
  /** Clears the place away; sinks may still be open. */
  close(): Promise<void>;
}

const BY = 'https://labs.example/mcp';

/** A look that was served; each intent tells one from another. */
function served(intent: string, more: Partial<AuditRecord> = {}): AuditRecord {
  return { event: 'request.served', outcome: 0, by: BY, intent, ...more };
}

/** Has every member; what a sink folds is its own. */
const EVERYTHING: Required<Omit<AuditRecord, 'folded'>> = {
  event: 'hop.refused',
  outcome: 4,
  code: 40903,
  check: 'argument',
  reason: 'the "reason" \\ {"event":"audit.stop"}, Zürich',
  by: BY,
  hop: 2,
  issuer: 'https://auth.example',
  subject: 'HELyZisAwQMN36ex5cj4Odrv1wmPvMadf-LJnZ7iCOc',
  clientId: 'triage',
  actors: ['triage', 'portal'],
  jti: 'token-1',
  txn: 'token-0',
  intent: '0198f2c1-7a00-7000-8000-000000000001',
  sid: 'ctx_1',
  epoch: 41,
  pk: 'iOUmHC4XeiKcc8KnHc25rxq2amB_oNlvATgrb_io9Lk',
  pkScope: 'local',
  method: 'tools/call',
  tool: 'list-results',
  peer: 'https://medications.example/mcp',
  binding: 'checked',
  types: { Observation: 28, Patient: 1 },
  unverifiable: 0,
  contextMethod: 'envelope',
  fhirUser: 'https://ehr.example/r4/Practitioner/1',
  traceparent: '00-52043ff4bb208d4ca2f0957fa50b8c9c-e65461f800dd076d-01',
  fence: 'none',
  compared: [{ said: 'token', pk: 'iOUmHC4XeiKcc8KnHc25rxq2amB_oNlvATgrb_io9Lk' }],
  switchId: 's1',
  fromPk: 'iOUmHC4XeiKcc8KnHc25rxq2amB_oNlvATgrb_io9Lk',
  toPk: '859PGUN9iYgJjioqpTWBvp56qa-VsNv0rQYP38eX9F0',
  vote: 'accept_with_warning',
  level: 'C2',
  evicted: ['labs'],
  permit: 'pm_1',
  waitedMs: 12,
};

const intentsOf = async (bench: AuditSinkBench): Promise<(string | undefined)[]> =>
  (await bench.stored()).filter(({ event }) => !event.startsWith('audit.')).map(({ intent }) => intent);

const names = (count: number): string[] => Array.from({ length: count }, (_, at) => `intent-${at}`);

/** What an audit sink must do. @see protocol section 8 */
export const AUDIT_SINK_RULES: readonly Rule<AuditSinkBench>[] = [
  {
    claim: 'has stored a record when append resolves',
    async check(bench) {
      const sink = await bench.open();
      for (const intent of names(5)) {
        await sink.append(served(intent));
        assert.equal((await intentsOf(bench)).at(-1), intent, 'append resolved before its record was stored');
      }
      await sink.close();
    },
  },
  {
    claim: 'keeps the order of appends that are under way together, and loses none',
    async check(bench) {
      const sink = await bench.open();
      await Promise.all(names(200).map((intent) => sink.append(served(intent))));
      assert.deepEqual(await intentsOf(bench), names(200));
      await sink.close();
    },
  },
  {
    claim: 'keeps every member as it was when it was appended',
    async check(bench) {
      const sink = await bench.open();
      const record = { ...EVERYTHING, actors: [...(EVERYTHING.actors ?? [])] };
      const appended = sink.append(record);
      Object.assign(record, { intent: 'changed', epoch: 42 });
      record.actors.push('changed');
      await appended;
      const stored = (await bench.stored()).find(({ event }) => event === EVERYTHING.event);
      assert.notEqual(stored, undefined, 'the record is not there');
      for (const [name, value] of Object.entries(EVERYTHING))
        assert.deepEqual(stored?.[name as keyof AuditRecord], value, `"${name}" is not what was appended`);
      await sink.close();
    },
  },
  {
    claim: 'keeps each of many records that are alike, unless they are refusals',
    async check(bench) {
      const sink = await bench.open();
      await Promise.all(names(25).map(() => sink.append(served('the same'))));
      for (let at = 0; at < 5; at += 1) await sink.append(served('the same'));
      assert.equal((await intentsOf(bench)).length, 30);
      await sink.close();
    },
  },
  {
    claim: 'never loses a distinct refusal in a flood of others, and counts what it folds',
    async check(bench) {
      const sink = await bench.open();
      const refused = { event: 'request.refused', outcome: 4, by: BY, clientId: 'triage' } as const;
      for (const code of [...Array<number>(300).fill(401), 40903]) await sink.append({ ...refused, code });
      await sink.close();
      const stored = await bench.stored();
      assert.ok(
        stored.some(({ code }) => code === 40903),
        'the distinct refusal is not there',
      );
      const counted = stored.filter(({ code }) => code === 401).reduce((sum, { folded = 1 }) => sum + folded, 0);
      assert.equal(counted, 300, 'the refusals that are alike are not all counted');
    },
  },
  {
    claim: 'rejects what cannot be made durable, then and later',
    async check(bench) {
      const sink = await bench.open();
      await sink.append(served('before'));
      await bench.fail();
      await assert.rejects(sink.append(served('lost')), 'append resolved though nothing is made durable');
      await assert.rejects(sink.append(served('lost, too')), 'append resolved though nothing is made durable');
    },
  },
  {
    claim: 'rejects every one of those that are under way together when the place fails',
    async check(bench) {
      const sink = await bench.open();
      await bench.fail();
      const ends = await Promise.allSettled(names(20).map((intent) => sink.append(served(intent))));
      assert.deepEqual(new Set(ends.map(({ status }) => status)), new Set(['rejected']));
    },
  },
  {
    claim: 'settles and stores what is under way before it is closed',
    async check(bench) {
      const sink = await bench.open();
      const under = names(20).map((intent) => sink.append(served(intent)));
      await sink.close();
      const ends = await Promise.race([Promise.allSettled(under), new Promise((resolve) => setImmediate(resolve, 'pending'))]);
      assert.notEqual(ends, 'pending', 'close resolved while an append was under way');
      await Promise.all(under);
      assert.deepEqual(await intentsOf(bench), names(20));
    },
  },
  {
    claim: 'takes nothing after it was closed, and may be closed twice',
    async check(bench) {
      const sink = await bench.open();
      await sink.append(served('before'));
      await sink.close();
      await sink.close();
      await assert.rejects(sink.append(served('after')), 'append resolved after close');
      assert.deepEqual(await intentsOf(bench), ['before']);
    },
  },
  {
    claim: 'goes on behind what is there when it is opened again',
    async check(bench) {
      for (const intent of names(3)) {
        const sink = await bench.open();
        await sink.append(served(intent));
        await sink.close();
      }
      assert.deepEqual(await intentsOf(bench), names(3));
    },
  },
];

/**
 * Declares the tests every {@link AuditSink} must pass; call it at the top of a vitest file. What cannot be seen from outside stays
 * yours: that a sync reaches the medium, and that the log of a killed process can be read.
 * @param open makes an empty place, for each test another
 * @see protocol section 8
 */
export function auditSinkContract(name: string, open: () => Promise<AuditSinkBench>): void {
  declareRules(name, AUDIT_SINK_RULES, open);
}
