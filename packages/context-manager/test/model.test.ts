import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ContextStore, memoryStore, openSqliteStore } from '../src/index.js';
import { verifyStoreAudit } from '../src/store-audit.js';
import { type Happening, MACHINE, type Machine, Rig, type Sent, Violation } from './support/rig.js';

const id = fc.nat(3);
const who = fc.nat(1);
const nth = fc.nat(5);

const sent: fc.Arbitrary<Sent> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant('begin' as const), id, to: fc.nat(2), back: fc.constantFrom(0, 0, 0, 1) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('begin' as const), id, to: fc.constant('close' as const), back: fc.constant(0) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('vote' as const),
      who,
      id,
      said: fc.constantFrom('accept', 'accept', 'accept', 'cannot_follow', 'veto'),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('ask' as const), id }) },
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constant('answer' as const), id, nonce: nth, right: fc.constantFrom(true, true, false) }),
  },
  { weight: 5, arbitrary: fc.record({ op: fc.constantFrom('commit' as const), id }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom('proceed' as const, 'abort' as const), id }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('drained' as const), who, id }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('join' as const), who, effector: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('permit' as const), who, key: fc.nat(2) }) },
  { weight: 5, arbitrary: fc.record({ op: fc.constant('redeem' as const), nth }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('release' as const), nth }) },
);

const happening: fc.Arbitrary<Happening> = fc.oneof(
  {
    weight: 14,
    arbitrary: fc.record({
      does: fc.constant('send' as const),
      what: sent,
      fate: fc.constantFrom('arrives', 'arrives', 'arrives', 'waits', 'is lost'),
    }),
  },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('deliver' as const), nth, twice: fc.boolean() }) },
  {
    weight: 3,
    arbitrary: fc.record({ does: fc.constant('tick' as const), ms: fc.constantFrom(1, 900, 5_000, 9_999, 12_001, 120_000) }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('store fails' as const), when: fc.constantFrom('before', 'after') }) },
  { weight: 1, arbitrary: fc.constant({ does: 'crash' as const }) },
  { weight: 4, arbitrary: fc.record({ does: fc.constant('effect' as const), nth }) },
);

/** A whole switch that only has to be told in order: keeps the deep states from being rare. */
const story: fc.Arbitrary<Happening[]> = fc
  .record({ id, to: fc.nat(2), between: fc.array(happening, { maxLength: 3 }), drained: fc.boolean() })
  .map(({ id: of, to, between, drained }) => {
    const send = (what: Sent): Happening => ({ does: 'send', what, fate: 'arrives' });
    const both = (op: 'vote' | 'drained'): Happening[] =>
      [0, 1].map((one) => send(op === 'vote' ? { op, who: one, id: of, said: 'accept' } : { op, who: one, id: of }));
    return [
      send({ op: 'join', who: 0, effector: true }),
      send({ op: 'permit', who: 0, key: 0 }),
      send({ op: 'begin', id: of, to, back: 0 }),
      ...both('vote'),
      send({ op: 'ask', id: of }),
      ...between,
      ...[5, 4, 3, 2, 1, 0].map((nonce) => send({ op: 'answer', id: of, nonce, right: true })),
      ...(drained ? both('drained') : []),
      send({ op: 'commit', id: of }),
      { does: 'effect', nth: 0 },
      { does: 'tick', ms: 12_001 },
      send({ op: 'commit', id: of }),
    ];
  });

const history = fc
  .array(fc.oneof({ weight: 4, arbitrary: happening.map((one) => [one]) }, { weight: 1, arbitrary: story }), { maxLength: 40 })
  .map((parts) => parts.flat());

async function play(happenings: readonly Happening[], store: ContextStore, mutant: Partial<Machine> = {}): Promise<void> {
  const rig = new Rig(store, mutant);
  await rig.start();
  for (const one of happenings) await rig.happen(one);
  await rig.settle();
}

describe('whatever is lost, doubled, delayed or crashes', () => {
  it('S1, S2, S4 to S9 hold, and what was begun is decided (1000 histories)', async () => {
    await fc.assert(
      fc.asyncProperty(history, (happenings) => play(happenings, memoryStore())),
      { numRuns: 1_000 },
    );
  });

  it('they hold over SQLite too, and its chain verifies (25 histories)', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'hmcp-model-'));
    let run = 0;
    try {
      const property = fc.asyncProperty(history, async (happenings) => {
        run += 1;
        const file = join(folder, `${run}.sqlite`);
        const store = await openSqliteStore({ file, by: 'https://manager.example/mcp' });
        await play(happenings, store).finally(() => store.close());
        expect(await verifyStoreAudit(file)).toMatchObject({ ok: true, warnings: [] });
      });
      await fc.assert(property, { numRuns: 25 });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe('the checks catch', () => {
  const { abort, answer, begin, commit, permit, redeem } = MACHINE;
  const mutants: readonly [string, Partial<Machine>, RegExp][] = [
    ['a commit that does not wait for permits', { commit: (row, given, at) => commit({ ...row, permits: [] }, given, at) }, /S4/],
    [
      'permits granted while a switch is decided',
      { permit: (row, asked, at) => afterwards(permit({ ...row, state: 'active' }, asked, at), { state: row.state }) },
      /only while ACTIVE/,
    ],
    [
      'an abort that publishes the target',
      {
        abort: (row, given, at) => {
          const target = row.pending?.parameters.target;
          return afterwards(abort(row, given, at), target ? { subject: target } : {});
        },
      },
      /S1/,
    ],
    [
      'an abort that leaves the switch pending',
      {
        abort: (row, given, at) => {
          const { pending } = row;
          return afterwards(abort(row, given, at), pending ? { pending } : {});
        },
      },
      /S6|pending/,
    ],
    [
      'a nonce that may be used again',
      {
        answer: (row, given, at) => {
          const hash = row.pending?.nonceHash;
          const step = answer(row, given, at);
          if (step.is !== 'moved' || step.next.pending === undefined || hash === undefined) return step;
          return afterwards(step, { pending: { ...step.next.pending, nonceHash: hash } });
        },
      },
      /S7/,
    ],
    [
      'an answer that is not asked for',
      {
        answer: (row, given, at) =>
          answer(row.pending ? { ...row, pending: { ...row.pending, nonceHash: given.nonceHash } } : row, given, at),
      },
      /S7/,
    ],
    [
      'a commit without confirmation',
      { commit: (row, given, at) => commit(row.state === 'confirming' ? { ...row, state: 'draining' } : row, given, at) },
      /S7/,
    ],
    ['an epoch that is raised by two', { commit: (row, given, at) => raise(commit(row, given, at)) }, /S6|S8/],
    [
      'an outcome that is decided again',
      {
        begin: (row, proposal, at) =>
          begin({ ...row, decided: row.decided.filter(({ outcome }) => outcome.switchId !== proposal.switchId) }, proposal, at),
      },
      /S6/,
    ],
    [
      'a permit that is redeemed twice',
      { redeem: (row, given, at) => redeem({ ...row, permits: row.permits.map((one) => ({ ...one, used: false })) }, given, at) },
      /redeemed once/,
    ],
  ];

  it.each(mutants)('%s', async (_, mutant, invariant) => {
    const found = await fc.check(
      fc.asyncProperty(history, (happenings) => play(happenings, memoryStore(), mutant)),
      { seed: 1, numRuns: 3_000, endOnFailure: true },
    );
    expect(found.failed).toBe(true);
    expect(found.errorInstance).toBeInstanceOf(Violation);
    expect((found.errorInstance as Violation).message).toMatch(invariant);
  });
});

type Step = ReturnType<Machine['commit']>;

function afterwards(step: Step, change: Partial<Extract<Step, { is: 'moved' }>['next']>): Step {
  return step.is === 'moved' ? { ...step, next: { ...step.next, ...change } } : step;
}

function raise(step: Step): Step {
  return step.is === 'moved' ? afterwards(step, { epoch: step.next.epoch + 1 }) : step;
}
