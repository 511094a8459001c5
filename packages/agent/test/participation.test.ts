import type { ParticipantLink } from '@hmcp/context-manager';
import { type HmcpError, MAX_WAIT_MS, type PrepareParams } from '@hmcp/core';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  type Agent,
  type ParticipationOptions,
  participate,
  permitAuthority,
  type Session,
  type SessionParticipation,
  type SwitchDialog,
} from '../src/index.js';
import { MANAGER, type SessionWorld, sessionWorld, TYPED } from './support/session-world.js';
import { ANN, BO, listResults, refusalOf } from './support/world.js';

const MANAGER_ISSUER = new URL(MANAGER).origin;

/** How the manager reaches the participant that is pushed to. */
let pushed: SessionParticipation | undefined;
const link: ParticipantLink = {
  async tell({ to, method, params }) {
    if (pushed === undefined || to !== 'orders') return undefined;
    if (method === 'dev.hmcp/context.prepare') return { method, vote: await pushed.prepare(params, MANAGER_ISSUER) };
    if (method === 'dev.hmcp/context.drain') return { method, drained: await pushed.drain(params, MANAGER_ISSUER) };
    await pushed.decided(params, MANAGER_ISSUER);
    return undefined;
  },
  close: async () => undefined,
};

let bed: SessionWorld;
let orders: Agent;
let session: Session;
const joined: SessionParticipation[] = [];
beforeEach(async () => {
  pushed = undefined;
  bed = await sessionWorld({ link });
  orders = bed.another({ clientId: 'orders', resource: 'https://orders.example/mcp' }).agent;
  session = await bed.open(ANN);
});
afterEach(async () => {
  await Promise.all(joined.splice(0).map((one) => one.close()));
  await orders.close();
  await bed.close();
});

const sid = () => session.sid ?? '';
function take(more: Partial<ParticipationOptions> = {}): SessionParticipation {
  const options = {
    agent: orders,
    manager: MANAGER,
    credentials: bed.credentials('orders'),
    role: 'effector',
    delivery: 'pull',
  } as const;
  const part = participate({ ...options, ...more });
  joined.push(part);
  return part;
}
const confirm = async (dialog: SwitchDialog) => ({ ...TYPED[dialog.target.patient] });
const switchTo = (patient: string, more: { confirm?: typeof confirm } = {}) =>
  session.switchPatient({ authorize: async () => bed.grant(patient), confirm, ...more });
const membersNow = async () => (await bed.store.read(sid()))?.members.map(({ clientId }) => clientId);

test('a participant that pulls ends what its server is serving, and tells of it', async () => {
  const work = {
    inflight: vi.fn(() => 2),
    drain: vi.fn(async () => ({ cancelled: 1, completed: 1, indeterminate: ['intent-7'] })),
    learned: vi.fn(),
  };
  const part = take({ drain: () => ({ indeterminate: ['intent-3'] }) });
  part.serving?.(work);
  await part.join(sid());
  expect(await switchTo(BO)).toMatchObject({ result: 'committed', indeterminate: ['intent-3', 'intent-7'] });
  const here = { iss: MANAGER_ISSUER, sid: sid() };
  expect(work.inflight).toHaveBeenCalledWith(here, 1);
  expect(work.drain).toHaveBeenCalledExactlyOnceWith(here, 1, 4000);
  await vi.waitFor(() => expect(work.learned).toHaveBeenLastCalledWith(here, 2));
});

describe.each(['pull', 'push'] as const)('a participant that is asked by %s', (delivery) => {
  const part = async (more: Partial<ParticipationOptions> = {}) => {
    const made = take({ delivery, ...more });
    pushed = delivery === 'push' ? made : undefined;
    await made.join(sid());
    return made;
  };

  test('votes, tells of unsaved work, saves it when the person goes on, and follows', async () => {
    const asked: unknown[] = [];
    const dialogs: SwitchDialog[] = [];
    const purge = vi.fn();
    await part({
      prepare: (one) => {
        asked.push(['prepare', one]);
        return { vote: 'accept_with_warning', unsaved: [{ id: 'd1', savable: true }] };
      },
      drain: (one) => {
        asked.push(['drain', one]);
        return { saved: [...one.save] };
      },
      purge,
    });
    const report = await switchTo(BO, {
      confirm: async (dialog) => {
        dialogs.push(dialog);
        return { ...TYPED[dialog.target.patient] };
      },
    });
    expect(report).toMatchObject({ result: 'committed', epoch: 2, saved: 1, lost: 0, evicted: [] });
    expect(dialogs[0]?.message).toContain('1 unsaved item');
    const { switchId } = report;
    const about = { sid: sid(), epoch: 1, switchId, kind: 'switch' };
    expect(asked).toEqual([
      ['prepare', about],
      ['drain', { ...about, save: ['d1'] }],
    ]);
    await vi.waitFor(() => expect(purge).toHaveBeenCalledWith({ sid: sid(), below: 2 }));
    expect(await membersNow()).toEqual(['orders']);
  });

  test('vetoes: the switch is given up, and the session stays', async () => {
    await part({ prepare: () => ({ vote: 'veto' }) });
    expect(await switchTo(BO)).toMatchObject({ result: 'aborted', reason: 'vetoed', epoch: 1 });
  });

  test('cannot follow: it leaves with the commit, and is back when a request of the session comes', async () => {
    const purge = vi.fn();
    const made = await part({ prepare: () => ({ vote: 'cannot_follow' }), purge });
    expect(await switchTo(BO)).toMatchObject({ result: 'committed', evicted: ['orders'] });
    expect(await membersNow()).toEqual([]);
    made.learned({ iss: 'https://manager.example', sid: sid(), epoch: 2 });
    await vi.waitFor(async () => expect(await membersNow()).toEqual(['orders']));
    expect(purge).toHaveBeenLastCalledWith({ sid: sid(), below: 2 });
  });

  test('that breaks is silent, is put out, and joins again', async () => {
    await part({
      prepare: async () => {
        bed.clock.advance(6000);
        throw new Error('broken');
      },
    });
    expect(await switchTo(BO)).toMatchObject({ result: 'committed', evicted: ['orders'] });
    if (delivery === 'push') pushed?.learned({ iss: 'https://manager.example', sid: sid(), epoch: 2 });
    await vi.waitFor(async () => expect(await membersNow()).toEqual(['orders']));
  });
});

describe('joining', () => {
  test('twice at once is one request, and again is harmless', async () => {
    const part = take({ delivery: 'push' });
    await Promise.all([part.join(sid()), part.join(sid())]);
    await part.join(sid());
    expect(bed.asked.filter(({ method }) => method === 'dev.hmcp/context.join')).toHaveLength(2);
    expect(bed.store.records.filter(({ event }) => event === 'session.joined')).toHaveLength(1);
  });

  test('a session that did not name the agent is refused: 40301', async () => {
    const other = await bed.open(BO, { participants: ['labs'] });
    expect(await refusalOf(take().join(other.sid ?? ''))).toMatchObject({ code: 40301, check: 'session' });
    expect(await refusalOf(take().join('ctx_nobody'))).toMatchObject({ code: 40301, check: 'session' });
  });

  test('is caused by the first request of a session, and only for its own manager', async () => {
    const part = take({ delivery: 'push' });
    part.learned({ iss: 'https://else.example', sid: sid(), epoch: 1 });
    await new Promise((resolve) => setImmediate(resolve));
    expect(await membersNow()).toEqual([]);
    part.learned({ iss: 'https://manager.example', sid: sid(), epoch: 1 });
    await vi.waitFor(async () => expect(await membersNow()).toEqual(['orders']));
  });

  test('long polls wait no longer than allowed, and end with close', async () => {
    const part = take();
    await part.join(sid());
    await vi.waitFor(() => expect(bed.asked.filter(({ body }) => body.includes('waitMs'))).not.toHaveLength(0));
    const waits = bed.asked.flatMap(({ body }) => JSON.parse(body).params?.waitMs ?? []);
    expect(Math.max(...waits)).toBeLessThanOrEqual(MAX_WAIT_MS);
    await part.close();
  });

  test('ends when the session is closed: what is kept is purged', async () => {
    const purge = vi.fn();
    const part = take({ purge });
    await part.join(sid());
    await session.close();
    await vi.waitFor(() => expect(purge).toHaveBeenCalledWith({ sid: sid(), below: 2 }));
    const before = bed.asked.length;
    await new Promise((resolve) => setImmediate(resolve));
    expect(bed.asked.length).toBe(before);
  });

  test('a purge that is not done when it returns counts as failed, and its rejection harms nobody', async () => {
    const part = take({ delivery: 'push', purge: () => Promise.reject(new Error('later')) as unknown as undefined });
    const epoch = (number: number) => () => part.learned({ iss: 'https://manager.example', sid: sid(), epoch: number });
    expect(epoch(1)).toThrow('"purge" must forget at once');
    expect(epoch(1)).toThrow('"purge" must forget at once');
  });

  test('survives a manager that is away for a while', async () => {
    const part = take();
    await part.join(sid());
    let refused = 0;
    bed.network = (_, serve) => (refused++ < 3 ? Promise.reject(new TypeError('fetch failed')) : serve());
    bed.clock.advance(MAX_WAIT_MS + 1);
    await vi.waitFor(() => expect(refused).toBeGreaterThan(3));
    bed.network = (_, serve) => serve();
    expect(await switchTo(BO)).toMatchObject({ result: 'committed', evicted: [] });
  });
});

describe('a message of the manager', () => {
  const message = (more: Partial<PrepareParams> = {}): PrepareParams => ({
    ...{ sid: sid(), rev: 9, switchId: 's1', epoch: 1, kind: 'switch', deadline: bed.clock.now() + 5000 },
    ...more,
  });

  test('that comes twice gets the same answer, and asks once', async () => {
    const prepare = vi.fn(() => ({ vote: 'accept' as const, inflight: prepare.mock.calls.length }));
    const drain = vi.fn(() => ({ cancelled: drain.mock.calls.length }));
    const part = take({ delivery: 'push', prepare, drain });
    await part.join(sid());
    const votes = await Promise.all([part.prepare(message(), MANAGER_ISSUER), part.prepare(message(), MANAGER_ISSUER)]);
    expect(votes).toEqual([1, 1].map((inflight) => ({ vote: 'accept', unsaved: [], inflight })));
    const ends = [
      await part.drain({ ...message(), save: [] }, MANAGER_ISSUER),
      await part.drain({ ...message(), save: [] }, MANAGER_ISSUER),
    ];
    expect(ends).toEqual([1, 1].map((cancelled) => ({ saved: [], cancelled, completed: 0, indeterminate: [] })));
  });

  test.each<[string, Partial<PrepareParams>, number]>([
    ['of a session nobody joined', { sid: 'ctx_other' }, 40301],
    ['of an epoch that passed', { epoch: 0 }, 40901],
    ['whose deadline passed', { deadline: 0 }, 40901],
    ['older than what was seen', { rev: 0 }, 40901],
  ])('%s is refused, and asks nobody', async (_, more, code) => {
    const prepare = vi.fn(() => ({ vote: 'accept' as const }));
    const drain = vi.fn(() => ({}));
    const part = take({ delivery: 'push', prepare, drain });
    await part.join(sid());
    expect(await refusalOf(part.prepare(message(more), MANAGER_ISSUER))).toMatchObject({ code });
    expect(await refusalOf(part.drain({ ...message(more), save: [] }, MANAGER_ISSUER))).toMatchObject({ code });
    expect([prepare.mock.calls, drain.mock.calls]).toEqual([[], []]);
  });

  test('of another manager is refused, whatever session it names', async () => {
    const part = take({ delivery: 'push' });
    await part.join(sid());
    expect(await refusalOf(part.prepare(message(), 'https://other.example'))).toMatchObject({ code: 40301 });
    expect(await refusalOf(part.drain({ ...message(), save: [] }, 'https://other.example'))).toMatchObject({ code: 40301 });
  });

  test('of a later epoch purges before it asks', async () => {
    const order: string[] = [];
    const part = take({
      delivery: 'push',
      purge: ({ below }) => order.push(`purge ${below}`),
      prepare: () => {
        order.push('prepare');
        return { vote: 'accept' };
      },
    });
    await part.join(sid());
    await part.prepare(message({ epoch: 4 }), MANAGER_ISSUER);
    expect(order).toEqual(['purge 1', 'purge 4', 'prepare']);
  });

  test('whose purge failed is not taken for purged: nothing of its epoch is served before one succeeds', async () => {
    const purge = vi.fn();
    const part = take({ delivery: 'push', purge });
    await part.join(sid());
    purge.mockImplementationOnce(() => {
      throw new Error('the cache is busy');
    });
    const seal = { iss: MANAGER_ISSUER, sid: sid(), epoch: 5 };
    expect(() => part.learned(seal)).toThrow();
    part.learned(seal);
    part.learned(seal);
    expect(purge.mock.calls.map(([passed]) => passed.below)).toEqual([1, 5, 5]);
  });

  test('about the outcome of the past changes nothing', async () => {
    const purge = vi.fn();
    const part = take({ delivery: 'push', purge });
    await part.join(sid());
    const decided = { sid: sid(), switchId: 's1', kind: 'switch', result: 'committed', epoch: 7 } as const;
    await part.decided({ ...decided, rev: 0 }, MANAGER_ISSUER);
    await part.decided({ ...decided, sid: 'ctx_other', rev: 9 }, MANAGER_ISSUER);
    expect(purge.mock.calls).toEqual([[{ sid: sid(), below: 1 }]]);
  });

  test('that a callback breaks is silence, and may be asked again', async () => {
    const prepare = vi.fn(() => ({ vote: 'accept' as const }));
    prepare.mockImplementationOnce(() => {
      throw new Error('row of pt-ann-4711');
    });
    const part = take({ delivery: 'push', prepare });
    await part.join(sid());
    await expect(part.prepare(message(), MANAGER_ISSUER)).rejects.toThrow();
    expect(await part.prepare(message(), MANAGER_ISSUER)).toMatchObject({ vote: 'accept' });
  });
});

describe('permits', () => {
  /** A request of the session as the orders agent received it. */
  async function bearer(of = session) {
    await of.call('labs', listResults, {});
    const call = bed.labs.calls.at(-1);
    if (call === undefined) throw new Error('no call');
    return { accessToken: call.token, seal: call.envelope.seal, intent: call.envelope.intent };
  }
  const effect = { operation: 'sign-order', effectKey: 'k1' };

  test('are granted to an effector, joining it first; the holder counts from before it asked', async () => {
    const permits = permitAuthority({ agent: orders, participation: take({ delivery: 'push' }) });
    const held = await permits.permit(effect, await bearer());
    expect(held).toMatchObject({ sid: sid(), epoch: 1, ...effect });
    expect(held.usableUntil).toBeLessThanOrEqual(bed.clock.now() + 10_000);
  });

  test('are redeemed once, and given back', async () => {
    const permits = permitAuthority({ agent: orders, participation: take({ delivery: 'push' }) });
    const who = await bearer();
    const { permit } = await permits.permit(effect, who);
    expect(await permits.redeem(permit, who)).toMatchObject({ permit });
    expect(await refusalOf(permits.redeem(permit, who))).toMatchObject({ code: 42802, check: 'permit' });
    await permits.release(permit, who);
    await permits.release('pm_unknown', who);
    expect((await bed.store.read(sid()))?.permits).toEqual([]);
  });

  test('a seal that expired on the way is renewed once', async () => {
    const permits = permitAuthority({ agent: orders, participation: take({ delivery: 'push' }) });
    const who = await bearer();
    bed.clock.advance(40_000);
    expect(await permits.permit(effect, who)).toMatchObject({ epoch: 1 });
  });

  test.each<[string, () => Promise<{ accessToken: string; seal: string; intent: { id: string; epoch: number } }>, number]>([
    ['an intent of another epoch', async () => ({ ...(await bearer()), intent: { id: 'i', epoch: 2 } }), 40901],
    ['a seal nobody can read', async () => ({ ...(await bearer()), seal: 'a.b.c' }), 40903],
    ['an empty seal', async () => ({ ...(await bearer()), seal: '' }), 40903],
    ['a token of nobody', async () => ({ ...(await bearer()), accessToken: 'stolen' }), 40302],
  ])('are refused for %s', async (_, who, code) => {
    const permits = permitAuthority({ agent: orders, participation: take({ delivery: 'push' }) });
    expect((await refusalOf(permits.permit(effect, await who()))).code).toBe(code);
  });

  test('are refused to an agent that the session does not name by the manager, about this intent: joining as well changes nothing', async () => {
    const left = bed.another({ clientId: 'orders', resource: 'https://orders.example/mcp' }).agent;
    const other = await bed.open(BO, { participants: ['labs'] });
    const who = await bearer(other);
    const alone = await refusalOf(permitAuthority({ agent: left }).permit(effect, who));
    const joining = await refusalOf(
      permitAuthority({ agent: orders, participation: take({ delivery: 'push' }) }).permit(effect, who),
    );
    expect(alone.data).toEqual({ by: MANAGER, hop: 2, check: 'session', retry: 'never', intent: who.intent.id });
    expect(joining.data).toEqual(alone.data);
  });

  test('are refused to an agent that did not join, and while a switch is decided: 40301, 42301', async () => {
    const who = await bearer();
    expect(await refusalOf(permitAuthority({ agent: orders }).permit(effect, who))).toMatchObject({ code: 40301 });
    const part = take({ delivery: 'push' });
    const permits = permitAuthority({ agent: orders, participation: part });
    await part.join(sid());
    pushed = part;
    let refusal: HmcpError | undefined;
    await switchTo(BO, {
      confirm: async (dialog) => {
        refusal = await refusalOf(permits.permit(effect, who));
        return confirm(dialog);
      },
    });
    expect(refusal).toMatchObject({ code: 42301, check: 'permit' });
    expect(await refusalOf(permits.permit(effect, who))).toMatchObject({ code: 40901 });
  });
});
