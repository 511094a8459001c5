import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Fate, type Happening, SwitchRig } from './support/switch-rig.js';

const nth = fc.nat(3);
const fate = fc.constantFrom<Fate>(
  'arrives',
  'arrives',
  'is lost',
  'loses its answer',
  'comes twice',
  'comes again later',
  'waits',
);

const typed = fc.constantFrom<'right' | 'wrong' | 'decline'>('right', 'right', 'right', 'right', 'wrong', 'decline');

const happening: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 6, arbitrary: fc.constant({ does: 'call' as const }) },
  { weight: 2, arbitrary: fc.constant({ does: 'act' as const }) },
  { weight: 6, arbitrary: fc.record({ does: fc.constant('answer' as const), nth }) },
  {
    weight: 6,
    arbitrary: fc.record({
      does: fc.constant('switch' as const),
      to: fc.nat(2),
      types: fc.array(typed, { maxLength: 2 }),
      fates: fc.array(fate, { maxLength: 5 }),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ does: 'confirm' as const }) },
  { weight: 4, arbitrary: fc.record({ does: fc.constant('deliver' as const), nth }) },
  { weight: 2, arbitrary: fc.record({ does: fc.constant('tick' as const), ms: fc.constantFrom(900, 5_001, 25_000, 120_001) }) },
  { weight: 1, arbitrary: fc.constant({ does: 'crash' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      does: fc.constant('network' as const),
      is: fc.constantFrom('up' as const, 'down' as const, 'down after the confirmation' as const),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ does: 'permit' as const }) },
  { weight: 2, arbitrary: fc.record({ does: fc.constant('effect' as const), nth }) },
  {
    weight: 1,
    arbitrary: fc.record({
      does: fc.constant('participants' as const),
      fate: fc.constantFrom('answer' as const, 'are silent' as const, 'come late' as const),
    }),
  },
);

/** A whole switch with a call under way: keeps the deep states from being rare. */
const story: fc.Arbitrary<Happening[]> = fc
  .record({ to: fc.nat(2), late: fc.boolean(), fates: fc.array(fate, { maxLength: 3 }) })
  .map(({ to, late, fates }) => {
    const answer: Happening[] = [{ does: 'answer', nth: 0 }];
    return [
      { does: 'call' },
      { does: 'switch', to, types: [], fates },
      ...(late ? [] : answer),
      { does: 'deliver', nth: 0 },
      ...(late ? answer : []),
    ];
  });

const history = fc
  .array(fc.oneof({ weight: 5, arbitrary: happening.map((one) => [one]) }, { weight: 1, arbitrary: story }), { maxLength: 7 })
  .map((parts) => parts.flat());

describe('whatever is lost, doubled, delayed or crashes', () => {
  let rig: SwitchRig;
  beforeAll(async () => {
    rig = await SwitchRig.make();
  });
  afterAll(() => rig.close());

  it('S1 to S7 and S12 hold for the portal and its participants, and every switch ends (1000 histories)', async () => {
    const property = fc.asyncProperty(history, fc.nat(2), async (happenings, attended) => {
      await rig.start(attended === 0);
      for (const one of happenings) await rig.happen(one);
      await rig.settle();
    });
    await fc.assert(property, { numRuns: 1_000 });
    expect([rig.delivered > 500, rig.committed > 200]).toEqual([true, true]);
  }, 120_000);
});
