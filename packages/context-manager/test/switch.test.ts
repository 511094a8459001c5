import { HmcpError, MANAGER_TOOLS } from '@hmcp/core';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type MemoryStore, memoryStore, StoreUnavailable } from '../src/index.js';
import { agent, B_RIGHT, type Caller, itself, portal, type World, world } from './support/world.js';

const A_RIGHT = { birthDate: '1950-02-01', recordNumberLast4: '4410' };
const B_WRONG = { birthDate: '1950-02-01', recordNumberLast4: '9b21' };

let bed: World;
let store: MemoryStore;
afterEach(() => bed.close());

/** A session on A with nobody in it but the portal. */
async function opened(more: { store?: MemoryStore } = {}): Promise<string> {
  store = more.store ?? memoryStore();
  bed = await world({ store });
  return (await (await bed.caller(portal('A1'))).open()).sid;
}

const toB = (sid: string, more: Record<string, unknown> = {}) => ({
  ...{ sid, switchId: 's1', expectedEpoch: 1, target: { patient: 'B7' } },
  ...more,
});
const events = (): string[] => store.records.map(({ event }) => event);
const reader = (): Promise<Caller> => bed.caller(portal('A1'));

describe('a switch the person confirms', () => {
  it('commits with two identifiers typed: one epoch on, a seal of the next patient', async () => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'), [B_RIGHT]);
    const result = await person.switch(toB(sid));
    expect(result).toMatchObject({ result: 'committed', epoch: 2, kind: 'switch', seal: expect.any(String) });
    expect(events().filter((event) => event.startsWith('switch.'))).toEqual([
      'switch.begun',
      'switch.asked',
      'switch.confirmed',
      'switch.committed',
    ]);
  });

  it('shows the name and nothing that could be copied; no default, no list of answers', async () => {
    const sid = await opened();
    await (await bed.caller(portal('B7'), [B_RIGHT])).switch(toB(sid));
    expect(bed.dialogs[0]?.message).toContain('EXAMPLE, Bo');
    expect(JSON.stringify(bed.dialogs)).not.toMatch(/1961|9b21|default|enum/i);
  });

  it('at C1, where nobody can cause effects, shows every identifier and asks once', async () => {
    await opened();
    const { sid } = await (await bed.caller(portal('A1'))).open({ idempotencyKey: 'o2', participants: ['labs'] });
    const person = await bed.caller(portal('B7'), [{ confirm: true }]);
    expect(await person.switch(toB(sid))).toMatchObject({ result: 'committed' });
    expect(bed.dialogs[0]?.message).toContain('born 1961-11-23');
  });

  it('a wrong answer is refused once, without a hint, and a right one then holds', async () => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'), [B_WRONG, B_RIGHT]);
    expect(await person.switch(toB(sid))).toMatchObject({ result: 'committed', epoch: 2 });
    expect(bed.dialogs[1]?.message).toMatch(/^What was typed does not match/);
    expect(store.records.find(({ event }) => event === 'switch.answered')).toMatchObject({
      outcome: 4,
      code: 42201,
      level: 'C2',
    });
  });

  it.each([
    ['both fields of the patient being left', A_RIGHT],
    ['an empty answer', {}],
    ['other types', { birthDate: 19611123, recordNumberLast4: ['9b21'] }],
    ['a confirmation where two identifiers are asked', { confirm: true }],
  ])('three wrong answers (%s) end it with 42201, and A stays open', async (_, said) => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'), [said, said, said]);
    await expect(person.switch(toB(sid))).rejects.toMatchObject({ code: 42201, data: { check: 'confirmation' } });
    const facts = await (await reader()).get({ sid });
    expect(facts).toMatchObject({ epoch: 1, state: 'active', outcome: { result: 'aborted', reason: 'confirmation' } });
    expect(bed.dialogs).toHaveLength(3);
  });

  it.each(['decline', 'cancel'])('a %s leaves everything as it was', async (action) => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'), [action]);
    expect(await person.switch(toB(sid))).toMatchObject({ result: 'aborted', reason: 'declined', epoch: 1 });
  });

  it('an answer cannot be given twice, nor to a dialog that a newer one replaced', async () => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'));
    const ask = async () =>
      (await person.client.callTool({ name: MANAGER_TOOLS.switch, arguments: toB(sid) }, {
        allowInputRequired: true,
      } as never)) as unknown as { requestState: string };
    const reply = (requestState: string, content: unknown) =>
      person.client.callTool(
        {
          ...{ name: MANAGER_TOOLS.switch, arguments: toB(sid), requestState },
          inputResponses: { confirm: { action: 'accept', content } },
        } as never,
        { allowInputRequired: true } as never,
      ) as Promise<unknown>;
    const first = await ask();
    const second = await ask();
    await expect(reply(first.requestState, B_RIGHT)).rejects.toMatchObject({ code: 42201 });
    const wrong = (await reply(second.requestState, B_WRONG)) as { requestState: string };
    await expect(reply(second.requestState, B_RIGHT)).rejects.toMatchObject({ code: 42201 });
    expect(await reply(wrong.requestState, B_RIGHT)).toMatchObject({ structuredContent: { result: 'committed' } });
    expect(await reply(wrong.requestState, B_RIGHT)).toMatchObject({ structuredContent: { result: 'committed', epoch: 2 } });
  });
});

describe('exactly one decision', () => {
  it('A→B→A: three epochs, and the seal of the first A is not that of the second', async () => {
    const sid = await opened();
    await (await bed.caller(portal('B7'), [B_RIGHT])).switch(toB(sid));
    const again = { sid, switchId: 's2', expectedEpoch: 2, target: { patient: 'A1' } };
    expect(await (await bed.caller(portal('A1'), [A_RIGHT])).switch(again)).toMatchObject({ result: 'committed', epoch: 3 });
    const opens = store.records.filter(({ event }) => event === 'session.opened' || event === 'switch.committed');
    expect(opens.map(({ epoch }) => epoch)).toEqual([1, 2, 3]);
    expect(opens[0]?.pk).toBe(opens[2]?.pk);
    expect(opens[0]?.pk).not.toBe(opens[1]?.pk);
  });

  it('two simultaneous switches: one commits, the other is told and moves nothing', async () => {
    const sid = await opened();
    const [one, two] = await Promise.all([bed.caller(portal('B7'), [B_RIGHT]), bed.caller(portal('B7'), [B_RIGHT])]);
    const settled = await Promise.allSettled([one.switch(toB(sid)), two.switch(toB(sid, { switchId: 's2' }))]);
    expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const [lost] = settled.flatMap((result) => (result.status === 'rejected' ? [HmcpError.from(result.reason)?.code] : []));
    expect([40902, 41201]).toContain(lost);
    expect((await (await reader()).get({ sid })).epoch).toBe(2);
  });

  it('the same switchId twice is one switch; with other parameters it is 40904', async () => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'), [B_RIGHT]);
    const first = await person.switch(toB(sid));
    const { seal: _, ...same } = await person.switch(toB(sid));
    expect(first).toMatchObject(same);
    expect(bed.dialogs).toHaveLength(1);
    expect(events().filter((event) => event === 'switch.committed')).toHaveLength(1);
    await expect(person.switch(toB(sid, { expectedEpoch: 2 }))).rejects.toMatchObject({ code: 40904 });
  });

  it.each([
    'switch.begun',
    'switch.confirmed',
    'switch.committed',
  ])('a lost reply of the store to %s is settled by reading the row: one commit, one record', async (event) => {
    const inner = memoryStore();
    let lose = true;
    const losing: MemoryStore = {
      ...inner,
      records: inner.records,
      compareAndSet: async (next, record) => {
        const result = await inner.compareAndSet(next, record);
        if (record.event !== event || !lose) return result;
        lose = false;
        throw new StoreUnavailable();
      },
    };
    const sid = await opened({ store: losing });
    const person = await bed.caller(portal('B7'), [B_RIGHT]);
    expect(await person.switch(toB(sid))).toMatchObject({ result: 'committed', epoch: 2 });
    expect(events().filter((one) => one === 'switch.committed')).toHaveLength(1);
  });

  it('a store that does not answer once, at the commit, does not leave the person waiting for the deadline', async () => {
    const inner = memoryStore();
    let fails = true;
    const failing: MemoryStore = {
      ...inner,
      records: inner.records,
      compareAndSet: async (next, record) => {
        if (record.event !== 'switch.committed' || !fails) return inner.compareAndSet(next, record);
        fails = false;
        throw new StoreUnavailable();
      },
    };
    const sid = await opened({ store: failing });
    const switching = (await bed.caller(portal('B7'), [B_RIGHT])).switch(toB(sid));
    await vi.waitFor(() => expect(fails).toBe(false));
    await vi.waitFor(() => expect(bed.clock.waiting).toBe(1));
    bed.clock.advance(1_000);
    expect(await switching).toMatchObject({ result: 'committed', epoch: 2 });
  });

  it('a lost commit reply to the person is not a lost switch: asked again, it says what happened', async () => {
    const sid = await opened();
    const first = await bed.caller(portal('B7'), [B_RIGHT]);
    await first.switch(toB(sid));
    const afterCrash = await bed.caller(portal('B7'));
    expect(await afterCrash.switch(toB(sid))).toMatchObject({ result: 'committed', epoch: 2, seal: expect.any(String) });
    expect(await afterCrash.get({ sid, switchId: 's1' })).toMatchObject({ outcome: { result: 'committed' } });
  });

  it('what was undecided when a manager starts is aborted', async () => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'));
    await expect(person.switch(toB(sid))).rejects.toThrow();
    expect((await (await reader()).get({ sid })).state).toBe('confirming');
    await bed.manager.close();
    bed = await world({ store });
    expect(await store.undecided()).toEqual([]);
    expect(store.records.at(-1)).toMatchObject({ event: 'switch.aborted', reason: 'restart' });
  });

  it('undecided at its deadline, whoever looks finds it aborted', async () => {
    const sid = await opened();
    await expect((await bed.caller(portal('B7'))).switch(toB(sid))).rejects.toThrow();
    bed.clock.advance(120_000);
    expect(await (await reader()).get({ sid })).toMatchObject({ state: 'active', epoch: 1, outcome: { reason: 'deadline' } });
  });

  it('abort gives it up; after the commit it says committed', async () => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'));
    await expect(person.switch(toB(sid))).rejects.toThrow();
    expect(await person.tool(MANAGER_TOOLS.abort, { sid, switchId: 's1' })).toMatchObject({
      result: 'aborted',
      reason: 'aborted',
    });
    const other = await bed.caller(portal('B7'), [B_RIGHT]);
    await other.switch(toB(sid, { switchId: 's2' }));
    expect(await person.tool(MANAGER_TOOLS.abort, { sid, switchId: 's2' })).toMatchObject({ result: 'committed', epoch: 2 });
  });

  it('close ends it at the next epoch, for good', async () => {
    const sid = await opened();
    const person = await reader();
    expect(await person.tool(MANAGER_TOOLS.close, { sid, switchId: 'c1', expectedEpoch: 1 })).toMatchObject({
      ...{ result: 'committed', kind: 'close', epoch: 2 },
    });
    expect(await person.get({ sid })).toMatchObject({ state: 'closed' });
    expect((await person.get({ sid })).seal).toBeUndefined();
    const late = await bed.caller(portal('B7'), [B_RIGHT]);
    await expect(late.switch(toB(sid, { expectedEpoch: 2 }))).rejects.toMatchObject({ code: 41001 });
  });
});

describe('who may not, and what cannot be confirmed', () => {
  it('an agent that was told to switch is refused 40301, and its proposal is in the audit', async () => {
    const sid = await opened();
    const model = await bed.caller(agent('triage', 'A1'));
    await expect(model.switch(toB(sid))).rejects.toMatchObject({ code: 40301 });
    expect(store.records.at(-1)).toMatchObject({ event: 'switch.proposed', outcome: 4, code: 40301, clientId: 'triage', sid });
  });

  it.each([
    ['an agent with the scope', agent('triage', 'B7', { scope: 'hmcp:context.switch patient/Patient.r' }), 40301],
    ['a client that acts for itself', itself('labs', { scope: 'hmcp:context.switch system/Patient.r' }), 40301],
    ['another person', portal('B7', { sub: 'bob' }), 40301],
    ['another client of the same person', portal('B7', { client_id: 'kiosk' }), 40301],
    ['a token of the patient being left', portal('A1'), 40903],
    ['a token of a third patient', portal('C3'), 40903],
    ['a token that cannot read the patient', portal('B7', { scope: 'hmcp:context.switch patient/Observation.r' }), 40302],
    ['a token minted for another session', portal('B7', { __hmcp: { v: 1, sid: 'ctx_other', chain: [] } }), 40301],
  ])('%s is refused', async (_, claims, code) => {
    const sid = await opened();
    const person = await bed.caller(claims, [B_RIGHT]);
    await expect(person.switch(toB(sid))).rejects.toMatchObject({ code });
    expect(events()).not.toContain('switch.begun');
    expect(bed.dialogs).toEqual([]);
  });

  it('an unknown session is refused like somebody else’s', async () => {
    await opened();
    await expect((await bed.caller(portal('B7'), [B_RIGHT])).switch(toB('ctx_none'))).rejects.toMatchObject({ code: 40301 });
  });

  it('a token without a patient opens whom the policy allows', async () => {
    const sid = await opened();
    const scope = 'hmcp:context.switch hmcp:context.participate user/Patient.r';
    const person = await bed.caller(portal('B7', { patient: undefined, scope }), [B_RIGHT]);
    await expect(person.switch(toB(sid, { target: { patient: 'C3' } }))).rejects.toMatchObject({ code: 40302 });
    expect(await person.switch(toB(sid))).toMatchObject({ result: 'committed', seal: expect.any(String) });
  });

  it.each([
    ['a 2025-era connection', portal('B7'), { legacy: true }],
    ['a client without elicitation', portal('B7'), { elicitation: false }],
  ])('%s cannot carry the dialog: 42201 before anybody prepares, and it may do the rest', async (_, claims, choice) => {
    const sid = await opened();
    const person = await bed.caller(claims, [B_RIGHT], choice);
    await expect(person.switch(toB(sid))).rejects.toMatchObject({ code: 42201, data: { check: 'confirmation' } });
    expect(events()).not.toContain('switch.begun');
    expect(await person.get({ sid })).toMatchObject({ epoch: 1 });
  });

  it('a client that is not registered as a person’s would need C3: 42201 before anybody prepares', async () => {
    await opened();
    const robot = (patient: string) => portal(patient, { client_id: 'robot' });
    const { sid } = await (await bed.caller(robot('A1'))).open({ idempotencyKey: 'r' });
    await expect((await bed.caller(robot('B7'), [B_RIGHT])).switch(toB(sid))).rejects.toMatchObject({ code: 42201 });
    expect(events()).not.toContain('switch.begun');
  });

  it('a record with fewer than two identifiers cannot be confirmed at C2: 42201', async () => {
    const sid = await opened();
    const person = await bed.caller(portal('C3'), [B_RIGHT]);
    await expect(person.switch(toB(sid, { target: { patient: 'C3' } }))).rejects.toMatchObject({ code: 42201 });
  });

  it('a patient the FHIR server does not show is 40302, a server that does not answer 50301; nothing has begun', async () => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'), [B_RIGHT]);
    bed.readable.delete('B7');
    await expect(person.switch(toB(sid))).rejects.toMatchObject({ code: 40302 });
    bed.faults.fhirDown = true;
    await expect(person.switch(toB(sid))).rejects.toMatchObject({ code: 50301 });
    bed.faults.exchangeRefused = true;
    await expect(person.switch(toB(sid))).rejects.toMatchObject({ code: 40302 });
    expect(events()).not.toContain('switch.begun');
  });

  it('a right withdrawn while the dialog is open is a right withdrawn: aborted, still on A', async () => {
    const sid = await opened();
    const person = await bed.caller(portal('B7'));
    await expect(person.switch(toB(sid))).rejects.toThrow();
    bed.readable.delete('B7');
    await expect((await bed.caller(portal('B7'), [B_RIGHT])).switch(toB(sid))).rejects.toMatchObject({ code: 40302 });
    expect(await (await reader()).get({ sid })).toMatchObject({ state: 'active', outcome: { reason: 'authorization' } });
  });
});
