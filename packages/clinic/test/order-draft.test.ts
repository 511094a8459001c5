import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  afterEvent,
  type Drafts,
  draftOf,
  draftsFor,
  MOST_UNSAVED,
  type OrderContext,
  type OrderEvent,
  signable,
  unsavedIn,
} from '../src/order-draft.js';

const A: OrderContext = { pk: 'pk-a', intent: 'i1', session: { sid: 's1', epoch: 4 } };
const drafted = (change: Partial<OrderEvent & { event: 'drafted' }> = {}): OrderEvent => ({
  event: 'drafted',
  draft: 'draft_1',
  pk: 'pk-a',
  intent: 'i1',
  kind: 'service',
  text: 'Lipid panel',
  session: { sid: 's1', epoch: 4 },
  at: 1,
  ...change,
});
const saved: OrderEvent = { event: 'saved', draft: 'draft_1', at: 2 };
const signed: OrderEvent = { event: 'signed', draft: 'draft_1', order: 'order_1', intent: 'i2', at: 3 };
const after = (...events: OrderEvent[]): Drafts => events.reduce(afterEvent, new Map());
const sign = (drafts: Drafts, change: Partial<OrderContext> = {}) => {
  const found = signable(drafts, 'draft_1', { ...A, intent: 'i2', ...change });
  return typeof found === 'string' ? found : found.state;
};

describe('a draft', () => {
  it('is unsaved work of its session and epoch, and can be signed there', () => {
    expect(unsavedIn(after(drafted()), { sid: 's1', epoch: 4 })).toHaveLength(1);
    expect(sign(after(drafted()))).toBe('unsaved');
  });

  it('is saved from the start where there is no session', () => {
    const drafts = after(drafted({ session: undefined }));
    expect(draftsFor(drafts, { pk: 'pk-a' })).toMatchObject([{ state: 'saved' }]);
  });

  it.each<[string, Partial<OrderContext>]>([
    ['another patient', { pk: 'pk-b' }],
    ['another patient in the next epoch', { pk: 'pk-b', session: { sid: 's1', epoch: 5 } }],
    ['its own patient again, an epoch later', { session: { sid: 's1', epoch: 6 } }],
    ['an earlier epoch', { session: { sid: 's1', epoch: 3 } }],
    ['another session', { session: { sid: 's2', epoch: 4 } }],
    ['no session', { session: undefined }],
    ['a patient key that is a prefix', { pk: 'pk-' }],
  ])('that is unsaved cannot be seen or signed for %s', (_name, change) => {
    expect(sign(after(drafted()), change)).toBe('unknown');
    expect(draftsFor(after(drafted()), { ...A, ...change })).toEqual([]);
  });

  it('that was saved is there for its patient in any later session, and for nobody else', () => {
    const drafts = after(drafted(), saved);
    expect(unsavedIn(drafts, { sid: 's1', epoch: 4 })).toEqual([]);
    for (const session of [{ sid: 's1', epoch: 6 }, { sid: 's2', epoch: 0 }, undefined]) {
      expect(sign(drafts, { session })).toBe('saved');
      expect(sign(drafts, { session, pk: 'pk-b' })).toBe('unknown');
    }
  });

  it('is signed by one act: the same may ask again, another may not', () => {
    const drafts = after(drafted(), signed);
    expect(sign(drafts)).toBe('signed');
    expect(signable(drafts, 'draft_1', { ...A, intent: 'i3' })).toBe('signed');
    expect(typeof signable(drafts, 'draft_1', { ...A, intent: 'i3' })).toBe('string');
    expect(draftsFor(drafts, A)).toEqual([]);
  });

  it('is made once by one act, which cannot make another', () => {
    const drafts = after(drafted());
    expect(draftOf(drafts, A, { kind: 'service', text: 'Lipid panel' })).toMatchObject({ draft: 'draft_1' });
    expect(draftOf(drafts, A, { kind: 'medication', text: 'Lipid panel' })).toBe('other');
    expect(draftOf(drafts, { ...A, pk: 'pk-b' }, { kind: 'service', text: 'Lipid panel' })).toBeUndefined();
  });

  it('is refused beyond what a vote can name', () => {
    const many = Array.from({ length: MOST_UNSAVED }, (_, i) => drafted({ draft: `draft_${i}`, intent: `n${i}` }));
    expect(draftOf(after(...many), { ...A, intent: 'new' }, { kind: 'service', text: 'x' })).toBe('full');
    expect(draftOf(after(...many.slice(1)), { ...A, intent: 'new' }, { kind: 'service', text: 'x' })).toBeUndefined();
  });

  it('never changes its patient, and is never seen by another, whatever happens', () => {
    const pk = fc.constantFrom('pk-a', 'pk-b');
    const draft = fc.constantFrom('draft_1', 'draft_2', 'draft_3');
    const session = fc.option(fc.record({ sid: fc.constantFrom('s1', 's2'), epoch: fc.nat({ max: 2 }) }), { nil: undefined });
    const event: fc.Arbitrary<OrderEvent> = fc.oneof(
      fc.record({ draft, pk, session, intent: fc.constantFrom('i1', 'i2') }).map((one) => drafted(one)),
      draft.map((one) => ({ ...saved, draft: one })),
      draft.map((one) => ({ ...signed, draft: one })),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 20 }), pk, session, (events, asked, here) => {
        let drafts: Drafts = new Map();
        const owners = new Map<string, string>();
        for (const one of events) {
          drafts = afterEvent(drafts, one);
          for (const { draft, pk } of drafts.values()) {
            if (!owners.has(draft)) owners.set(draft, pk);
            expect(pk).toBe(owners.get(draft));
          }
        }
        for (const shown of draftsFor(drafts, { pk: asked, session: here })) expect(shown.pk).toBe(asked);
        for (const handle of drafts.keys()) {
          const found = signable(drafts, handle, { pk: asked, intent: 'i9', session: here });
          if (typeof found !== 'string') expect(found.pk).toBe(asked);
        }
      }),
      { numRuns: 500 },
    );
  });
});
