import { createTestbed, people } from '@hmcp/testing';
import { expect, test } from 'vitest';
import '@hmcp/testing/vitest';
import { labs, listResults, readResult } from '../testbed/agents.js';
import { countResults, declared, orders, signOrder, undeclared } from './agents.js';

const { adalinde: ann, beatrisa: bo } = people;

test('40101 seal_expired', async () => {
  await using bed = await createTestbed({ agents: [labs], people: [ann] });
  const session = await bed.open(ann);
  // #region 40101-refused
  const held = bed.hold('labs', listResults, { at: 'request' });
  const slow = session.call('labs', listResults, {});
  await held.reached;
  bed.clock.advance(40_000); // on the way for longer than the 30 s a seal lives
  held.release();
  await expect(slow).toHaveRefused(40101, { check: 'seal' });
  // #endregion 40101-refused
  // #region 40101-mended
  const { results } = await session.call('labs', listResults, {}); // the session renews its seal before it sends
  expect(results.length).toBeGreaterThan(0);
  // #endregion 40101-mended
});

test('40301 switch_forbidden', async () => {
  await using bed = await createTestbed({ agents: [labs], people: [ann, bo] });
  const session = await bed.open(ann);
  // #region 40301-refused
  // Inside an act a model may be at work; it must not choose the next patient.
  const chosen = session.act(() => bed.switch(session, bo));
  await expect(chosen).toHaveRefused(40301, { check: 'session' });
  // #endregion 40301-refused
  // #region 40301-mended
  const { result } = await bed.switch(session, bo); // outside every act, by the person
  expect(result).toBe('committed');
  // #endregion 40301-mended
});

test('40302 patient_not_authorized', async () => {
  await using bed = await createTestbed({ agents: [labs], people: [ann, bo] });
  const session = await bed.open(bo);
  const [theirs] = (await session.call('labs', listResults, {})).results;
  await session.close();
  // #region 40302-refused
  const about = await bed.open(ann);
  const read = about.call('labs', readResult, { id: theirs?.id ?? '' }); // a result of somebody else
  await expect(read).toHaveRefused(40302);
  // #endregion 40302-refused
  // #region 40302-mended
  const [own] = (await about.call('labs', listResults, {})).results; // ask what this patient has
  const { results } = await about.call('labs', readResult, { id: own?.id ?? '' });
  expect(results).toHaveLength(1);
  // #endregion 40302-mended
});

test('40303 operation_undeclared', async () => {
  // #region 40303-refused
  await using bed = await createTestbed({ agents: [undeclared], people: [ann] });
  const session = await bed.open(ann);
  await expect(session.call('counter', countResults, {})).toHaveRefused(40303, { check: 'operation' });
  // #endregion 40303-refused
});

test('40303 operation_undeclared, mended', async () => {
  // #region 40303-mended
  await using bed = await createTestbed({ agents: [declared], people: [ann] });
  const session = await bed.open(ann);
  expect(await session.call('counter', countResults, {})).toEqual({ count: 3 });
  // #endregion 40303-mended
});

test('40901 stale_epoch', async () => {
  await using bed = await createTestbed({ agents: [labs], people: [ann, bo] });
  const session = await bed.open(ann);
  // #region 40901-refused
  const held = bed.hold('labs', listResults);
  const late = session.call('labs', listResults, {}); // about Ann
  await held.reached;
  await bed.switch(session, bo); // Bo is on the screen when the answer comes
  held.release();
  await expect(late).toHaveRefused(40901);
  // #endregion 40901-refused
  // #region 40901-mended
  const { results } = await session.call('labs', listResults, {}); // a new act of the person, about Bo
  expect(results.length).toBeGreaterThan(0);
  // #endregion 40901-mended
});

test('40902 switch_in_progress', async () => {
  await using bed = await createTestbed({ agents: [labs], people: [ann, bo] });
  const session = await bed.open(ann);
  // #region 40902-refused
  const first = bed.switch(session, bo, {
    confirm: async () => {
      await expect(bed.switch(session, bo)).toHaveRefused(40902); // a second one, while the person is asked
      return 'decline';
    },
  });
  expect((await first).result).toBe('aborted');
  // #endregion 40902-refused
  // #region 40902-mended
  expect((await bed.switch(session, bo)).result).toBe('committed'); // the first has ended
  // #endregion 40902-mended
});

test('40903 patient_mismatch', async () => {
  await using bed = await createTestbed({ agents: [labs], people: [ann, bo] });
  const session = await bed.open(ann);
  // #region 40903-refused
  const confused = { category: 'laboratory', patientId: bo.id }; // what a model might write
  await expect(session.call('labs', listResults, confused)).toHaveRefused(40903, { check: 'argument' });
  // #endregion 40903-refused
  // #region 40903-mended
  const { results } = await session.call('labs', listResults, {}); // the context fills the patient in
  expect(results.length).toBeGreaterThan(0);
  // #endregion 40903-mended
});

test('41001 session_closed', async () => {
  await using bed = await createTestbed({ agents: [labs], people: [ann] });
  // #region 41001-refused
  const session = await bed.open(ann);
  await session.close();
  await expect(session.call('labs', listResults, {})).toHaveRefused(41001, { check: 'session' });
  // #endregion 41001-refused
  // #region 41001-mended
  const next = await bed.open(ann);
  expect((await next.call('labs', listResults, {})).results.length).toBeGreaterThan(0);
  // #endregion 41001-mended
});

test('42201 confirmation_failed', async () => {
  await using bed = await createTestbed({ agents: [labs, { agent: orders, role: 'effector' }], people: [ann, bo] });
  const session = await bed.open(ann);
  // #region 42201-refused
  const wrong = { birthDate: '1900-01-01', recordNumberLast4: '0000' };
  const refused = await bed.switch(session, bo, { confirm: async () => wrong }); // asked three times
  expect(refused).toMatchObject({ result: 'aborted', reason: 'confirmation', epoch: 1 });
  expect(bed.trace).toHaveAudited({ event: 'switch.aborted', code: 42201, check: 'confirmation' });
  // #endregion 42201-refused
  // #region 42201-mended
  const { result } = await bed.switch(session, bo); // the person looks at the chart, and types what stands there
  expect(result).toBe('committed');
  // #endregion 42201-mended
});

test('42301 switching', async () => {
  await using bed = await createTestbed({ agents: [{ agent: orders, role: 'effector' }], people: [ann, bo] });
  const session = await bed.open(ann);
  // #region 42301-refused
  await bed.switch(session, bo, {
    confirm: async () => {
      const during = session.call('orders', signOrder, { order: 'K+' }); // while the person is asked who is next
      await expect(during).toHaveRefused(42301, { check: 'permit' });
      return 'decline';
    },
  });
  // #endregion 42301-refused
  // #region 42301-mended
  expect(await session.call('orders', signOrder, { order: 'K+' })).toEqual({ signed: true }); // still Ann, and decided
  // #endregion 42301-mended
});

test('42801 context_required', async () => {
  await using bed = await createTestbed({ agents: [labs], people: [ann] });
  const session = await bed.open(ann);
  // #region 42801-refused
  bed.fault('labs', listResults, 'context lost'); // a proxy that drops `_meta`
  await expect(session.call('labs', listResults, {})).toHaveRefused(42801, { check: 'seal' });
  // #endregion 42801-refused
  // #region 42801-mended
  const { results } = await session.call('labs', listResults, {}); // `_meta` arrives
  expect(results.length).toBeGreaterThan(0);
  // #endregion 42801-mended
});

test('42802 permit_required', async () => {
  await using bed = await createTestbed({ agents: [{ agent: orders, role: 'effector' }], people: [ann] });
  // #region 42802-refused
  const alone = await bed.open(ann, { assurance: 'process' }); // no manager, so nobody grants a permit
  await expect(alone.call('orders', signOrder, { order: 'K+' })).toHaveRefused(42802, { check: 'seal' });
  // #endregion 42802-refused
  // #region 42802-mended
  const session = await bed.open(ann); // of the context manager the orders agent trusts
  expect(await session.call('orders', signOrder, { order: 'K+' })).toEqual({ signed: true });
  // #endregion 42802-mended
});

test('50301 authority_unavailable', async () => {
  await using bed = await createTestbed({ agents: [labs], people: [ann] });
  const session = await bed.open(ann);
  // #region 50301-refused
  bed.fault('labs', listResults, 'request lost');
  await expect(session.call('labs', listResults, {})).toHaveRefused(50301, { check: 'peer' });
  // #endregion 50301-refused
  // #region 50301-mended
  const { results } = await session.call('labs', listResults, {}); // it answers again
  expect(results.length).toBeGreaterThan(0);
  // #endregion 50301-mended
});
