import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { draftOrder, labs, listResults, medications, openOrderBook, orders, partOfOrders, triage } from '@hmcp/clinic';
import { createTestbed, type Fault, people } from '@hmcp/testing';
import { describe, expect, it } from 'vitest';
import '@hmcp/testing/vitest';

const { adalinde: ann, beatrisa: bo } = people;

describe('a fault', () => {
  it.each<[Fault, number]>([
    ['request lost', 0],
    ['answer lost', 1],
  ])('%s: the caller is told that nobody answered, and the next call works', async (fault, served) => {
    await using bed = await createTestbed({ agents: [labs], people: [ann] });
    const session = await bed.open(ann);
    bed.fault('labs', listResults, fault);
    await expect(session.call('labs', listResults, {})).toHaveRefused(50301, { check: 'peer' });
    expect(bed.trace.hops.find(({ to }) => to === 'labs')).toMatchObject({ operation: 'list-results', outcome: 'broken' });
    const done = () =>
      bed.trace.audit.filter(
        ({ by, event, tool }) => bed.trace.nameOf(by) === 'labs' && event === 'request.served' && tool !== undefined,
      );
    expect(done()).toHaveLength(served);
    await session.call('labs', listResults, {});
    expect(done()).toHaveLength(served + 1);
    expect(bed.trace).toStayOnPatient();
  });

  it('context lost: a token of a session alone is not enough', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann] });
    const session = await bed.open(ann);
    bed.fault('labs', listResults, 'context lost');
    await expect(session.call('labs', listResults, {})).toHaveRefused(42801);
    await session.call('labs', listResults, {});
    expect(bed.trace).toStayOnPatient();
  });

  it('sent twice: a look is served twice, and answered once', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann] });
    const session = await bed.open(ann);
    bed.fault('labs', listResults, 'sent twice');
    const { results } = await session.call('labs', listResults, {});
    expect(results.length).toBeGreaterThan(0);
    expect(bed.trace.audit.filter(({ event, tool }) => event === 'request.served' && tool === 'list-results')).toHaveLength(2);
    expect(bed.trace).toStayOnPatient();
  });

  it('sent twice: an order is drafted once', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'testbed-'));
    const book = await openOrderBook({ file: join(folder, 'book') });
    try {
      await using bed = await createTestbed({ agents: [{ agent: orders(book), ...partOfOrders(book) }], people: [ann, bo] });
      const session = await bed.open(ann);
      bed.fault('orders', draftOrder, 'sent twice');
      await session.call('orders', draftOrder, { kind: 'service', text: 'Potassium again tomorrow' });
      expect(bed.trace.audit.filter(({ event }) => event === 'effect.intent')).toHaveLength(1);
    } finally {
      await book.close();
      await rm(folder, { recursive: true });
    }
  });

  it('is asked of agents of the testbed only', async () => {
    await using bed = await createTestbed({ agents: [triage, medications] });
    expect(() => bed.fault('labs', listResults, 'request lost')).toThrow('no agent "labs"');
  });
});
