import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EffectLedger } from '../src/effect-ledger.js';
import { EpochMemory } from '../src/epoch-memory.js';

const A = { iss: 'https://cm.example', sid: 'ctx_1' };
const work = (epoch: number) => {
  const one = {
    epoch,
    ended: 0,
    end(): void {
      one.ended += 1;
    },
  };
  return one;
};

describe('an epoch memory', () => {
  test('knows the highest epoch of a session, and no other session’s', () => {
    const memory = new EpochMemory(() => 0);
    expect(memory.learn(A, 3)).toBe(3);
    expect(memory.learn(A, 2)).toBe(3);
    expect(memory.highest({ ...A, sid: 'ctx_2' })).toBe(0);
    expect(memory.highest({ ...A, iss: 'https://cm2.example' })).toBe(0);
    expect(memory.passed({ ...A, epoch: 2 })).toBe(true);
    expect(memory.passed({ ...A, epoch: 3 })).toBe(false);
  });

  test('ends lower work once, when a higher epoch is learned or the work comes too late', () => {
    const memory = new EpochMemory(() => 0);
    memory.learn(A, 1);
    const [one, two, gone, late] = [work(1), work(2), work(1), work(1)];
    memory.enter(A, one);
    memory.enter(A, two);
    memory.enter(A, gone)();
    memory.learn(A, 2);
    memory.enter(A, late);
    expect([one.ended, two.ended, gone.ended, late.ended]).toEqual([1, 0, 0, 1]);
  });

  test('ends work of a session it does not know: nothing says its epoch stands', () => {
    const one = work(1);
    new EpochMemory(() => 0).enter(A, one);
    expect(one.ended).toBe(1);
  });

  test('forgets 60 s after last use, not before, and never while something is being served', () => {
    let now = 0;
    const memory = new EpochMemory(() => now);
    memory.learn(A, 5);
    const leave = memory.enter(A, work(5));
    now += 600_000;
    memory.learn({ ...A, sid: 'other' }, 1);
    expect(memory.learn(A, 4)).toBe(5);
    now += 30_000;
    leave();
    now += 59_999;
    memory.learn({ ...A, sid: 'other' }, 1);
    expect(memory.highest(A)).toBe(5);
    now += 60_000;
    expect(memory.learn(A, 4)).toBe(4);
  });

  test('full, it takes in no other session, and still knows those it has', () => {
    let now = 0;
    const memory = new EpochMemory(() => now, 2);
    memory.learn(A, 1);
    memory.learn({ ...A, sid: 'b' }, 1);
    expect(memory.learn({ ...A, sid: 'c' }, 1)).toBeUndefined();
    expect(memory.learn(A, 2)).toBe(2);
    now += 60_000;
    expect(memory.learn({ ...A, sid: 'c' }, 1)).toBe(1);
  });

  test('never lets lower work live, nor knows less than it was told within 60 s', () => {
    const step = fc.record({ sid: fc.constantFrom('a', 'b'), epoch: fc.nat(5), enters: fc.boolean(), after: fc.nat(59_999) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        let now = 0;
        const memory = new EpochMemory(() => now);
        const told = new Map<string, { highest: number; at: number }>();
        const entered: (ReturnType<typeof work> & { sid: string })[] = [];
        for (const { sid, epoch, enters, after } of steps) {
          now += after;
          const before = told.get(sid);
          const known = before !== undefined && now - before.at < 60_000 ? before.highest : 0;
          const highest = memory.learn({ ...A, sid }, epoch) ?? 0;
          expect(highest).toBeGreaterThanOrEqual(Math.max(known, epoch));
          told.set(sid, { highest, at: now });
          if (enters) {
            const one = Object.assign(work(epoch), { sid });
            memory.enter({ ...A, sid }, one);
            entered.push(one);
          }
          for (const one of entered.filter((each) => each.sid === sid && each.epoch < highest)) expect(one.ended).toBe(1);
        }
      }),
    );
  });
});

describe('an effect ledger', () => {
  test('gives each effect once', () => {
    const ledger = new EffectLedger(() => 0);
    expect(ledger.claim('a')).toBe('claimed');
    expect(ledger.claim('a')).toBe('known');
    expect(ledger.claim('b')).toBe('claimed');
    ledger.forget('a');
    expect(ledger.claim('a')).toBe('claimed');
  });

  test('remembers for 15 minutes', () => {
    let now = 0;
    const ledger = new EffectLedger(() => now);
    ledger.claim('a');
    now = 15 * 60_000;
    expect(ledger.claim('a')).toBe('known');
    now += 1;
    expect(ledger.claim('a')).toBe('claimed');
  });

  test('full, it makes room of what no permit can be alive for, and else gives none', () => {
    let now = 0;
    const ledger = new EffectLedger(() => now, 2);
    ledger.claim('a');
    ledger.claim('b');
    expect(ledger.claim('c')).toBe('full');
    expect(ledger.claim('a')).toBe('known');
    now = 20_001;
    expect(ledger.claim('c')).toBe('claimed');
  });
});
