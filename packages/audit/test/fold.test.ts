import type { AuditRecord } from '@hmcp/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RefusalFold } from '../src/fold.js';
import { LABS, refused, served } from './log-folder.js';

describe('folding', () => {
  test.each<[string, Partial<AuditRecord>]>([
    ['reason', { reason: 'other' }],
    ['subject', { subject: 'hash-of-another' }],
    ['patient', { pk: 'pk-of-another' }],
    ['tool', { tool: 'other' }],
    ['method', { method: 'resources/read' }],
    ['code', { code: 40302 }],
    ['check', { check: 'scope' }],
    ['client', { clientId: 'other' }],
    ['event', { event: 'hop.refused' }],
  ])('a refusal with another %s is written in the middle of a flood', (_what, other) => {
    const fold = new RefusalFold();
    for (let n = 0; n < 1000; n += 1) fold.admit(refused(), n);
    expect(fold.admit(refused(), 1000)).toBe(false);
    expect(fold.admit(refused(other), 1000)).toBe(true);
  });

  test.each<[string, AuditRecord]>([
    ['a served request', served('i')],
    ['a withheld result', { event: 'result.withheld', outcome: 8, code: 40903, by: LABS }],
    ['a dropped answer', { event: 'hop.dropped', outcome: 8, by: LABS }],
    ['a failed handler', refused({ outcome: 8 })],
  ])('%s never folds', (_what, record) => {
    const fold = new RefusalFold();
    for (let n = 0; n < 1000; n += 1) expect(fold.admit(record, n)).toBe(true);
    expect(fold.drain()).toEqual([]);
  });

  test('names made up by a caller cannot get round it: a group writes at most 120 in a minute', () => {
    const fold = new RefusalFold();
    let written = 0;
    for (let n = 0; n < 5000; n += 1) if (fold.admit(refused({ tool: `made-up-${n}` }), n)) written += 1;
    expect(written).toBeLessThanOrEqual(120);
    expect(fold.drain()).toMatchObject([{ folded: 5000 - written, since: expect.any(Number), until: 4999 }]);
  });

  test('a summary carries nothing that differs between the folded ones', () => {
    const fold = new RefusalFold({ individually: 0, kinds: 0 });
    fold.admit(refused({ subject: 's', pk: 'p', tool: 't', intent: 'i', jti: 'j' }), 5);
    expect(fold.drain()).toEqual([
      {
        event: 'request.refused',
        outcome: 4,
        code: 40903,
        check: 'argument',
        reason: 'like refusals, folded',
        by: LABS,
        clientId: 'triage',
        folded: 1,
        since: 5,
        until: 5,
      },
    ]);
  });

  test('remembers a bounded number of groups and sums the oldest up early', () => {
    const fold = new RefusalFold({ groups: 2, individually: 0, kinds: 0 });
    for (const clientId of ['a', 'b', 'c']) fold.admit(refused({ clientId }), 0);
    expect(fold.due(1)).toMatchObject([{ clientId: 'a', folded: 1 }]);
    expect(fold.drain().map((summary) => summary.clientId)).toEqual(['b', 'c']);
  });

  test('whatever arrives, every refusal is either written or counted exactly once, clocks that jump included', () => {
    const arrival = fc.record({
      tool: fc.constantFrom('a', 'b'),
      client: fc.constantFrom('x', 'y', 'z'),
      step: fc.integer({ min: -5000, max: 40_000 }),
    });
    fc.assert(
      fc.property(fc.array(arrival, { maxLength: 300 }), (arrivals) => {
        const fold = new RefusalFold({ individually: 3, kinds: 2, groups: 2 });
        let [t, written, folded] = [0, 0, 0];
        for (const { tool, client, step } of arrivals) {
          t += step;
          for (const summary of fold.due(t)) folded += summary.folded ?? 0;
          if (fold.admit(refused({ tool, clientId: client }), t)) written += 1;
        }
        for (const summary of fold.drain()) folded += summary.folded ?? 0;
        expect(written + folded).toBe(arrivals.length);
      }),
    );
  });
});
