import { MANAGER_METHODS, MANAGER_TOOLS, PARTICIPANT_METHODS, SessionFacts } from '@hmcp/core';
import { afterEach, describe, expect, it } from 'vitest';
import type { Message, ParticipantLink, Reply } from '../src/index.js';
import { type MemoryStore, memoryStore } from '../src/index.js';
import { agent, B_RIGHT, itself, portal, type World, world } from './support/world.js';

let bed: World;
let store: MemoryStore;
afterEach(() => bed.close());

async function opened(link?: ParticipantLink): Promise<string> {
  store = memoryStore();
  bed = await world({ store, ...(link ? { link } : {}) });
  return (await (await bed.caller(portal('A1'))).open()).sid;
}
const toB = (sid: string) => ({ sid, switchId: 's1', expectedEpoch: 1, target: { patient: 'B7' } });
const join = (sid: string, more = {}) => ({ sid, role: 'effector', delivery: 'pull', ...more });
const events = (): string[] => store.records.map(({ event }) => event);

describe('joining', () => {
  it('a named client joins for itself and is told where the session stands, without a seal', async () => {
    const sid = await opened();
    const orders = await bed.caller(itself('orders'));
    const facts = SessionFacts.parse(await orders.method(MANAGER_METHODS.join, join(sid)));
    expect(facts).toMatchObject({ sid, epoch: 1, state: 'active' });
    expect(facts.seal).toBeUndefined();
    expect((await orders.get({ sid })).seal).toBeUndefined();
  });

  it('with a token of the person and of the patient it is given a seal; of another patient, none', async () => {
    const sid = await opened();
    const onA = await bed.caller(agent('orders', 'A1'));
    expect(await onA.method(MANAGER_METHODS.join, join(sid))).toMatchObject({ seal: expect.any(String) });
    const onB = await bed.caller(agent('orders', 'B7'));
    expect((await onB.get({ sid })).seal).toBeUndefined();
  });

  it.each([
    ['a client nobody named', itself('robot'), {}],
    ['a client nobody named, with the person’s token', agent('robot', 'A1'), {}],
    ['another person', agent('orders', 'A1', { sub: 'bob' }), {}],
    ['a token without the scope', itself('orders', { scope: 'system/Patient.r' }), {}],
    ['a token of a manager', itself('orders', { scope: 'hmcp:context.control' }), {}],
    ['push without a registered address', itself('labs'), { delivery: 'push' }],
  ])('%s is refused 40301', async (_, claims, more) => {
    const sid = await opened();
    const caller = await bed.caller(claims);
    await expect(caller.method(MANAGER_METHODS.join, join(sid, more))).rejects.toMatchObject({ code: 40301 });
  });

  it.each<[string, string, Record<string, unknown>]>([
    ['join', MANAGER_METHODS.join, { role: 'reader', delivery: 'pull' }],
    ['get', MANAGER_METHODS.get, {}],
    ['vote', MANAGER_METHODS.vote, { switchId: 's1', vote: 'accept' }],
    ['drained', MANAGER_METHODS.drained, { switchId: 's1' }],
    ['release', MANAGER_METHODS.release, { permit: 'pm_1' }],
    ['abort', MANAGER_TOOLS.abort, { switchId: 's1' }],
    ['close', MANAGER_TOOLS.close, { switchId: 's1', expectedEpoch: 1 }],
  ])('%s with a token without the scope does not tell whether there is such a session', async (_, name, more) => {
    const known = await opened();
    const caller = await bed.caller(portal('A1', { scope: 'patient/Patient.r' }));
    const refusalFor = async (sid: string): Promise<unknown> => {
      const isTool = Object.values<string>(MANAGER_TOOLS).includes(name);
      const answer = isTool ? caller.tool(name, { sid, ...more }) : caller.method(name, { sid, ...more });
      const { code, message, data } = (await answer.catch((error: unknown) => error)) as Record<string, unknown>;
      return { code, message, data };
    };
    const refusal = await refusalFor(known);
    expect(refusal).toMatchObject({ code: 40301 });
    expect(await refusalFor('ctx_none')).toEqual(refusal);
  });

  it('a session nobody knows is refused in the same words', async () => {
    await opened();
    const caller = await bed.caller(itself('orders'));
    await expect(caller.method(MANAGER_METHODS.join, join('ctx_none'))).rejects.toMatchObject({ code: 40301 });
    await expect(caller.get({ sid: 'ctx_none' })).rejects.toMatchObject({ code: 40301 });
  });
});

describe('a participant that pulls', () => {
  it('is asked to vote and to drain by what get tells, and the person reads of its unsaved work', async () => {
    const sid = await opened();
    const orders = await bed.caller(itself('orders'));
    const joined = SessionFacts.parse(await orders.method(MANAGER_METHODS.join, join(sid)));
    const person = await bed.caller(portal('B7'), [B_RIGHT]);
    const switching = person.switch(toB(sid));

    const asked = await orders.get({ sid, rev: joined.rev, waitMs: 20_000 });
    expect(asked.pending).toMatchObject({ switchId: 's1', kind: 'switch', expects: 'vote' });
    const unsaved = [
      { id: 'draft-1', savable: true },
      { id: 'draft-2', savable: false },
    ];
    const vote = { sid, switchId: 's1', vote: 'accept_with_warning', unsaved, inflight: 1 };
    const voted = SessionFacts.parse(await orders.method(MANAGER_METHODS.vote, vote));
    const drain = await (async () => {
      let { rev, pending } = voted;
      while (pending !== undefined && pending.expects !== 'drained')
        ({ rev, pending } = await orders.get({ sid, rev, waitMs: 20_000 }));
      return pending;
    })();
    expect(drain).toMatchObject({ expects: 'drained', save: ['draft-1'] });
    await orders.method(MANAGER_METHODS.drained, { sid, switchId: 's1', saved: ['draft-1'], cancelled: 1 });
    expect(await switching).toMatchObject({ result: 'committed', saved: 1, lost: 1, evicted: [] });
    expect(bed.dialogs[0]?.message).toMatch(/Orders will save 1 unsaved item.*Orders will lose 1 unsaved item/);
    expect(JSON.stringify(bed.dialogs)).not.toContain('draft');
    expect(store.records.find(({ event }) => event === 'switch.vote')).toMatchObject({
      vote: 'accept_with_warning',
      clientId: 'orders',
    });
    expect((await orders.get({ sid })).outcome).toMatchObject({ result: 'committed', epoch: 2 });
  });

  it('that says nothing is evicted by the commit, and may join again', async () => {
    const sid = await opened();
    const orders = await bed.caller(itself('orders'));
    await orders.method(MANAGER_METHODS.join, join(sid));
    const person = await bed.caller(portal('B7'), [B_RIGHT]);
    const switching = person.switch(toB(sid));
    await until(() => bed.clock.waiting > 0);
    bed.clock.advance(5_000);
    expect(await switching).toMatchObject({ result: 'committed', evicted: ['orders'] });
    expect(await orders.method(MANAGER_METHODS.join, join(sid))).toMatchObject({ epoch: 2 });
  });

  it('get answers at once with news, and otherwise when its time is over', async () => {
    const sid = await opened();
    const orders = await bed.caller(itself('orders'));
    expect(await orders.get({ sid, rev: 0, waitMs: 20_000 })).toMatchObject({ rev: 1 });
    const waiting = orders.get({ sid, rev: 1, waitMs: 20_000 });
    await until(() => bed.clock.waiting > 0);
    bed.clock.advance(20_000);
    expect(await waiting).toMatchObject({ rev: 1, state: 'active' });
    await expect(orders.get({ sid, waitMs: 20_001 })).rejects.toMatchObject({ code: -32602 });
  });

  it('get that waits is answered, and in the audit, before the manager has closed: its store may be closed then', async () => {
    const sid = await opened();
    const orders = await bed.caller(itself('orders'));
    const waiting = orders.get({ sid, rev: 1, waitMs: 20_000 });
    waiting.catch(() => undefined);
    await until(() => bed.clock.waiting > 0);
    const before = served();
    await bed.manager.close();
    expect(served()).toBe(before + 1);
  });
});

describe('a participant that is told', () => {
  function link(replies: Partial<Record<string, Reply>>): ParticipantLink & { told: Message[] } {
    const told: Message[] = [];
    return {
      told,
      async tell(message) {
        told.push(message);
        return replies[message.method];
      },
      close: async () => undefined,
    };
  }

  it('votes and drains by its answers, at the registered address, and hears the decision', async () => {
    const orders = link({
      [PARTICIPANT_METHODS.prepare]: {
        method: PARTICIPANT_METHODS.prepare,
        vote: { vote: 'accept_with_warning', unsaved: [{ id: 'd1', savable: true }], inflight: 0 },
      },
      [PARTICIPANT_METHODS.drain]: {
        method: PARTICIPANT_METHODS.drain,
        drained: { saved: ['d1'], cancelled: 0, completed: 0, indeterminate: ['int-7'] },
      },
    });
    const sid = await opened(orders);
    await (await bed.caller(itself('orders'))).method(MANAGER_METHODS.join, join(sid, { delivery: 'push' }));
    const result = await (await bed.caller(portal('B7'), [B_RIGHT])).switch(toB(sid));
    expect(result).toMatchObject({ result: 'committed', saved: 1, indeterminate: ['int-7'] });
    expect(orders.told.map(({ method }) => method)).toEqual(Object.values(PARTICIPANT_METHODS));
    expect(orders.told[1]?.params).toMatchObject({ save: ['d1'], epoch: 1 });
    expect(orders.told[2]?.params).toMatchObject({ result: 'committed', epoch: 2 });
    expect(JSON.stringify(orders.told)).not.toMatch(/A1|B7/);
  });

  it('a veto gives the switch up, and the person stays on A', async () => {
    const veto: Reply = { method: PARTICIPANT_METHODS.prepare, vote: { vote: 'veto', unsaved: [], inflight: 1 } };
    const sid = await opened(link({ [PARTICIPANT_METHODS.prepare]: veto }));
    await (await bed.caller(itself('orders'))).method(MANAGER_METHODS.join, join(sid, { delivery: 'push' }));
    const result = await (await bed.caller(portal('B7'), [B_RIGHT])).switch(toB(sid));
    expect(result).toMatchObject({ result: 'aborted', reason: 'vetoed', epoch: 1 });
    expect(bed.dialogs).toEqual([]);
  });
});

describe('permits', () => {
  const ask = (seal: unknown, more = {}) => ({
    seal,
    intent: { id: 'i1', epoch: 1 },
    operation: 'sign-order',
    effectKey: 'k1',
    ...more,
  });

  async function effector(): Promise<{ sid: string; seal: string | undefined }> {
    const sid = await opened();
    const orders = await bed.caller(agent('orders', 'A1'));
    const { seal } = SessionFacts.parse(await orders.method(MANAGER_METHODS.join, join(sid)));
    return { sid, seal };
  }

  it('is granted, redeemed once elsewhere, and given back', async () => {
    const { sid, seal } = await effector();
    const orders = await bed.caller(agent('orders', 'A1'));
    const granted = await orders.method(MANAGER_METHODS.permit, ask(seal));
    expect(granted).toMatchObject({ sid, epoch: 1, ttlMs: 10_000, operation: 'sign-order', effectKey: 'k1' });
    expect((await orders.method(MANAGER_METHODS.permit, ask(seal))).permit).toBe(granted.permit);
    const pharmacy = await bed.caller(agent('labs', 'A1'));
    const use = { seal, intent: { id: 'i1', epoch: 1 }, permit: granted.permit };
    expect(await pharmacy.method(MANAGER_METHODS.redeem, use)).toMatchObject({ operation: 'sign-order' });
    await expect(pharmacy.method(MANAGER_METHODS.redeem, use)).rejects.toMatchObject({ code: 42802, data: { check: 'permit' } });
    await orders.method(MANAGER_METHODS.release, { sid, permit: granted.permit });
    expect(events()).toEqual(expect.arrayContaining(['permit.granted', 'permit.redeemed', 'permit.released']));
  });

  it('is refused 42301 from prepare to decision and 40901 after the commit, which waits for what was granted', async () => {
    const { sid, seal } = await effector();
    const orders = await bed.caller(agent('orders', 'A1'));
    const granted = await orders.method(MANAGER_METHODS.permit, ask(seal));
    const person = await bed.caller(portal('B7'), [B_RIGHT]);
    const switching = person.switch(toB(sid));
    await until(() => events().includes('switch.begun'));
    await expect(orders.method(MANAGER_METHODS.permit, ask(seal, { effectKey: 'k2' }))).rejects.toMatchObject({ code: 42301 });
    await orders.method(MANAGER_METHODS.vote, { sid, switchId: 's1', vote: 'accept' });
    await until(() => events().includes('switch.confirmed'));
    await orders.method(MANAGER_METHODS.drained, { sid, switchId: 's1' });
    await until(() => bed.clock.waiting > 0);
    expect(events()).not.toContain('switch.committed');
    await orders.method(MANAGER_METHODS.release, { sid, permit: granted.permit });
    expect(await switching).toMatchObject({ result: 'committed', epoch: 2 });
    await expect(orders.method(MANAGER_METHODS.permit, ask(seal))).rejects.toMatchObject({ code: 40901, data: { intent: 'i1' } });
  });

  it('of a participant that died runs out, and the commit goes on', async () => {
    const { sid, seal } = await effector();
    await (await bed.caller(agent('orders', 'A1'))).method(MANAGER_METHODS.permit, ask(seal));
    const switching = (await bed.caller(portal('B7'), [B_RIGHT])).switch(toB(sid));
    for (const ms of [5_000, 5_000, 2_001]) {
      await until(() => bed.clock.waiting > 0);
      bed.clock.advance(ms);
    }
    expect(await switching).toMatchObject({ result: 'committed', evicted: ['orders'] });
  });

  it.each([
    ['a reader', agent('labs', 'A1'), {}, 40301],
    ['another person', agent('orders', 'A1', { sub: 'bob' }), {}, 40903],
    ['a token of another patient', agent('orders', 'B7'), {}, 40903],
    ['a client that acts for itself', itself('orders'), {}, 40903],
    ['an intent of another epoch', agent('orders', 'A1'), { intent: { id: 'i1', epoch: 2 } }, 40901],
    ['a longer life than ten seconds', agent('orders', 'A1'), { ttlMs: 10_001 }, -32602],
    ['something else than a seal', agent('orders', 'A1'), { seal: 'x.y.z' }, 40903],
    ['an unknown member', agent('orders', 'A1'), { patient: 'A1' }, -32602],
  ])('%s gets none', async (_, claims, more, code) => {
    const { seal } = await effector();
    const caller = await bed.caller(claims);
    await expect(caller.method(MANAGER_METHODS.permit, ask(seal, more))).rejects.toMatchObject({ code });
  });

  it('who is refused, and the audit, say which intent it was for, and never one that has no form', async () => {
    const { seal } = await effector();
    const labs = await bed.caller(agent('labs', 'A1'));
    await expect(labs.method(MANAGER_METHODS.permit, ask(seal))).rejects.toMatchObject({
      data: { check: 'session', intent: 'i1' },
    });
    expect(store.records.at(-1)).toMatchObject({ event: 'request.refused', code: 40301, intent: 'i1' });
    for (const intent of [{ id: 'Ann Archer', epoch: 1 }, 'i1', null, { id: 'i1' }]) {
      await expect(labs.method(MANAGER_METHODS.permit, ask(seal, { intent }))).rejects.toMatchObject({ code: -32602 });
      expect(store.records.at(-1)?.intent).toBeUndefined();
    }
  });

  it('an expired seal gets none: 40101, renew it', async () => {
    const { seal } = await effector();
    bed.clock.advance(33_000);
    const orders = await bed.caller(agent('orders', 'A1'));
    await expect(orders.method(MANAGER_METHODS.permit, ask(seal))).rejects.toMatchObject({ code: 40101 });
  });
});

describe('renewal', () => {
  const renew = (seal: unknown) => ({ seal });

  it('gives whoever holds a seal a new one at the same epoch, up to fifteen minutes after it expired', async () => {
    const sid = await opened();
    const { seal } = await (await bed.caller(portal('A1'))).get({ sid });
    const labs = await bed.caller(agent('labs', 'A1'));
    bed.clock.advance(90_000);
    const { seal: fresh } = await labs.method(MANAGER_METHODS.renew, renew(seal));
    expect(fresh).not.toBe(seal);
    bed.clock.advance(30_000 + 890_000);
    expect(await labs.method(MANAGER_METHODS.renew, renew(fresh))).toMatchObject({ seal: expect.any(String) });
    bed.clock.advance(30_000);
    await expect(labs.method(MANAGER_METHODS.renew, renew(fresh))).rejects.toMatchObject({ code: 40901 });
  });

  it.each([
    ['another person', agent('labs', 'A1', { sub: 'bob' }), 40903],
    ['a token of another patient', agent('labs', 'B7'), 40903],
    ['another first client', portal('A1', { client_id: 'kiosk' }), 40903],
    ['a token without the scope', portal('A1', { scope: 'patient/Patient.r' }), 40301],
  ])('%s gets none', async (_, claims, code) => {
    const sid = await opened();
    const { seal } = await (await bed.caller(portal('A1'))).get({ sid });
    const caller = await bed.caller(claims);
    await expect(caller.method(MANAGER_METHODS.renew, renew(seal))).rejects.toMatchObject({ code });
  });

  it('an access token is no seal', async () => {
    await opened();
    const caller = await bed.caller(portal('A1'));
    const token = await bed.mint(portal('A1'));
    await expect(caller.method(MANAGER_METHODS.renew, renew(token))).rejects.toMatchObject({ code: 40903 });
  });

  it('ends with the epoch: 40901 after a switch, 41001 after a close', async () => {
    const sid = await opened();
    const { seal } = await (await bed.caller(portal('A1'))).get({ sid });
    const onB = await (await bed.caller(portal('B7'), [B_RIGHT])).switch(toB(sid));
    const labs = await bed.caller(agent('labs', 'A1'));
    await expect(labs.method(MANAGER_METHODS.renew, renew(seal))).rejects.toMatchObject({ code: 40901 });
    const person = await bed.caller(portal('B7'));
    await person.tool(MANAGER_TOOLS.close, { sid, switchId: 'c', expectedEpoch: 2 });
    await expect(person.method(MANAGER_METHODS.renew, renew(onB.seal))).rejects.toMatchObject({ code: 41001 });
  });
});

/** Lets everything that is under way go on until `holds`; bounded, for a busy machine too. */
async function until(holds: () => boolean): Promise<void> {
  const end = performance.now() + 15_000;
  while (!holds() && performance.now() < end) await new Promise((resolve) => setImmediate(resolve));
  expect(holds()).toBe(true);
}

function served(): number {
  return events().filter((event) => event === 'request.served').length;
}
