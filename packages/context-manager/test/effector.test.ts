import { MANAGER_METHODS, SessionFacts } from '@hmcp/core';
import { afterEach, describe, expect, it } from 'vitest';
import { type ManagedClient, type MemoryStore, memoryStore } from '../src/index.js';
import { agent, CLIENTS, itself, portal, type World, world } from './support/world.js';

let bed: World;
let store: MemoryStore;
const beds: World[] = [];
afterEach(async () => {
  for (const one of beds.splice(0)) await one.close();
});

async function opened(clients: readonly ManagedClient[] = CLIENTS): Promise<string> {
  store = memoryStore();
  await started(clients);
  return (await (await bed.caller(portal('A1'))).open()).sid;
}
async function started(clients: readonly ManagedClient[]): Promise<void> {
  bed = await world({ store, clients });
  beds.push(bed);
}
const join = (sid: string, role: string) => ({ sid, role, delivery: 'pull' });
const ask = (seal: unknown) => ({ seal, intent: { id: 'i1', epoch: 1 }, operation: 'sign-order', effectKey: 'k1' });
/** The same clients, with `orders` registered otherwise. */
const withOrders = (change: { readonly effector?: boolean | undefined }): ManagedClient[] =>
  CLIENTS.map((client) => (client.clientId === 'orders' ? { ...client, effector: undefined, ...change } : client));

describe('an effector', () => {
  it('joins as effector and is given a permit when it is registered as one', async () => {
    const sid = await opened();
    const orders = await bed.caller(agent('orders', 'A1'));
    const { seal } = SessionFacts.parse(await orders.method(MANAGER_METHODS.join, join(sid, 'effector')));
    expect(await orders.method(MANAGER_METHODS.permit, ask(seal))).toMatchObject({ sid, operation: 'sign-order' });
  });

  it.each<[string, readonly ManagedClient[], Parameters<World['caller']>[0]]>([
    ['a client whose registration says nothing', withOrders({}), agent('orders', 'A1')],
    ['a client whose registration says no', withOrders({ effector: false }), agent('orders', 'A1')],
    ['a client whose registration says something else', withOrders({ effector: 'yes' as never }), agent('orders', 'A1')],
    ['a client for itself', withOrders({}), itself('orders')],
    ['another client of a session that names one', CLIENTS, agent('labs', 'A1')],
    ['the portal itself, which no opening names', CLIENTS, portal('A1')],
  ])('joining as effector is refused 40301 to %s', async (_, clients, claims) => {
    const sid = await opened(clients);
    const caller = await bed.caller(claims);
    const refused = { code: 40301, data: { check: 'session' } };
    await expect(caller.method(MANAGER_METHODS.join, join(sid, 'effector'))).rejects.toMatchObject(refused);
    expect(store.records.at(-1)).toMatchObject({ event: 'request.refused', code: 40301, reason: NOT_REGISTERED });
    expect(store.records.map(({ event }) => event)).not.toContain('session.joined');
  });

  it('without its registration takes part as a reader, and is given no permit', async () => {
    const sid = await opened(withOrders({}));
    const orders = await bed.caller(agent('orders', 'A1'));
    const { seal } = SessionFacts.parse(await orders.method(MANAGER_METHODS.join, join(sid, 'reader')));
    await expect(orders.method(MANAGER_METHODS.permit, ask(seal))).rejects.toMatchObject({ code: 40301 });
  });

  it('is given no permit once its registration says so no more', async () => {
    const sid = await opened();
    const before = await bed.caller(agent('orders', 'A1'));
    const { seal } = SessionFacts.parse(await before.method(MANAGER_METHODS.join, join(sid, 'effector')));
    await before.method(MANAGER_METHODS.permit, ask(seal));
    await started(withOrders({ effector: false })); // the same store, and the row of an effector in it
    const orders = await bed.caller(agent('orders', 'A1'));
    const { seal: sealed } = SessionFacts.parse(await orders.get({ sid }));
    const refused = { code: 40301, data: { check: 'session', intent: 'i1' } };
    await expect(orders.method(MANAGER_METHODS.permit, ask(sealed))).rejects.toMatchObject(refused);
    expect(store.records.at(-1)).toMatchObject({ event: 'request.refused', reason: NOT_REGISTERED });
  });
});

const NOT_REGISTERED = 'the client is not registered as an effector';
