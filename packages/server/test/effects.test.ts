import { explain, HmcpError, META } from '@hmcp/core';
import type { Outbound } from '@hmcp/core/request-scope';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { PatientToolContext } from '../src/index.js';
import { held } from './support/labs.js';
import { MANAGER, Permits, PK, SID, sealed, signOrder, ward } from './support/ward.js';
import { ANN, NEVER, observation } from './support/world.js';

const turns = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};
const intent = (id: string, epoch = 1) => ({ more: { intent: { id, epoch } } });

afterEach(() => {
  vi.useRealTimers();
});

describe('an effect in a session', () => {
  test('has a permit before its handler, causes once between two records, and gives the permit back', async () => {
    const order: string[] = [];
    const w = await ward({
      sign: ({ effect }) => {
        order.push(`handler with ${w.permits.granted.size} permit`);
        return effect('d1', async () => {
          order.push(`fn after ${w.audit.last?.event}`);
          return 'signed';
        });
      },
    });
    const { result } = await w.call('sign-order');
    expect(result).toMatchObject({ structuredContent: { signed: 'signed' } });
    expect(order).toEqual(['handler with 1 permit', 'fn after effect.intent']);
    expect(w.audit.records).toMatchObject([
      { event: 'effect.intent', outcome: 0, permit: 'pm_1', sid: SID, epoch: 1, pk: PK, intent: 'intent-1', tool: 'sign-order' },
      { event: 'effect.outcome', outcome: 0, permit: 'pm_1' },
      { event: 'request.served', outcome: 0, permit: 'pm_1' },
    ]);
    expect(w.audit.last).not.toHaveProperty('fence');
    await turns();
    expect(w.permits.released).toEqual(['pm_1']);
    expect(w.permits.bearers).toMatchObject([{ accessToken: w.own, intent: { id: 'intent-1', epoch: 1 } }]);
  });

  test('is named to the manager by operation and a hash of its arguments that says nothing of them', async () => {
    const w = await ward();
    await w.call('sign-order', { draft: 'd1' });
    await w.call('sign-order', { draft: 'd2' });
    const named = [...w.permits.granted.values()];
    expect(named).toMatchObject([{ operation: 'tools/call/sign-order' }, { operation: 'tools/call/sign-order' }]);
    expect(new Set(named.map(({ effectKey }) => effectKey)).size).toBe(2);
    for (const { effectKey } of named) expect(effectKey).toMatch(/^[A-Za-z0-9_-]{43}$/);
  });

  test('a read asks for none, and may cause none', async () => {
    let ran = false;
    const w = await ward({
      read: async ({ effect }) => {
        await effect('k', async () => {
          ran = true;
        });
        return [];
      },
    });
    const { error } = await w.call('read');
    expect(error).toMatchObject({ code: 42802, data: { check: 'operation' } });
    expect(explain(error)).toContain('Mend: declare `effect: true`');
    expect(ran).toBe(false);
    expect(w.permits.bearers).toEqual([]);
  });

  test.each([
    [42301, 'same'],
    [40901, 'after_user'],
    [42802, 'after_user'],
    [40301, 'never'],
    [41001, 'never'],
    [50301, 'same'],
  ] as const)('a manager that answers %i is relayed with its retry rule, and no handler runs', async (code, retry) => {
    const w = await ward();
    w.permits.refusing = code;
    const answer = await w.call('sign-order');
    expect(answer.error).toMatchObject({ code, data: { by: `${MANAGER}/mcp`, check: 'permit', retry } });
    expect(w.ran).toEqual([]);
    expect(w.audit.records).toMatchObject([{ event: 'request.refused', code, check: 'permit', peer: `${MANAGER}/mcp` }]);
    expect(w.audit.last).not.toHaveProperty('fence');
  });

  test('what a manager refused is told with the intent, though it told none: by it, and at its place', async () => {
    const w = await ward();
    w.permits.refusing = 40301;
    const answer = await w.call('sign-order');
    expect(answer.error?.data).toMatchObject({ by: `${MANAGER}/mcp`, intent: w.audit.last?.intent });
    expect(w.audit.last?.intent).toBeDefined();
  });

  test('a manager that cannot be asked is 50301, and nothing of why is said', async () => {
    const w = await ward();
    w.permits.refusing = new Error(NEVER[2]);
    const answer = await w.call('sign-order');
    expect(answer.error).toMatchObject({ code: 50301, data: { by: w.env.resource, check: 'permit', hop: 1, retry: 'same' } });
    expect(answer.text + JSON.stringify([w.audit.records, w.logged])).not.toContain(NEVER[2]);
    expect(w.ran).toEqual([]);
  });

  test('a manager that cannot be asked is told of in the log, once a minute, and one that answers is not', async () => {
    const w = await ward();
    const said = () => w.logged.filter((line) => line === '{"notice":"a context manager did not answer"}');
    w.permits.refusing = 50301; // in the manager's own name
    await w.call('sign-order');
    w.permits.refusing = 42301;
    await w.call('sign-order');
    expect(said()).toEqual([]);
    w.permits.refusing = new Error('connect ECONNREFUSED');
    await Promise.all([1, 2, 3].map(() => w.call('sign-order')));
    expect(said()).toHaveLength(1);
    w.clock.now += 59_999;
    await w.call('sign-order');
    expect(said()).toHaveLength(1);
    w.clock.now += 1;
    await w.call('sign-order');
    expect(said()).toHaveLength(2);
  });

  test('a permit that comes too late is refused and given back', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const w = await ward();
    const go = held();
    w.permits.hold = go.promise;
    const late = w.call('sign-order');
    while (w.permits.bearers.length === 0) await vi.advanceTimersByTimeAsync(1);
    await vi.advanceTimersByTimeAsync(10_000);
    expect((await late).error).toMatchObject({ code: 50301 });
    go.release();
    await vi.advanceTimersByTimeAsync(1);
    expect(w.permits.released).toEqual(['pm_1']);
    expect(w.ran).toEqual([]);
  });

  test('without an authority for permits is 42802, check "peer", whose mend is the server’s', async () => {
    const w = await ward({}, { permits: undefined });
    const { error } = await w.call('sign-order');
    expect(error).toMatchObject({ code: 42802, data: { check: 'peer' } });
    expect(explain(error)).toContain('Mend: give the server `permits` and `participation`');
    expect(w.ran).toEqual([]);
  });

  test.each([
    ['another session', { sid: 'ctx_2' }],
    ['another epoch', { epoch: 2 }],
    ['another operation', { operation: 'tools/call/other' }],
    ['another effect', { effectKey: 'x' }],
  ])('a permit of %s is none', async (_name, lies) => {
    const w = await ward();
    w.permits.lies = lies;
    expect((await w.call('sign-order')).error).toMatchObject({ code: 42802, data: { check: 'permit' } });
    expect(w.ran).toEqual([]);
  });

  test('an epoch that passes while the permit is asked is 40901; the permit goes back', async () => {
    const w = await ward();
    const go = held();
    w.permits.hold = go.promise;
    const late = w.call('sign-order');
    while (w.permits.bearers.length === 0) await turns();
    await w.call('read', { seal: await w.seal({ epoch: 2 }), ...intent('i', 2) });
    go.release();
    expect((await late).error).toMatchObject({ code: 40901, data: { check: 'epoch' } });
    await turns();
    expect(w.permits.released).toEqual(['pm_1']);
    expect(w.ran).toEqual(['read']);
  });

  test('a caller who goes away while the permit is asked causes nothing', async () => {
    const w = await ward();
    const go = held();
    w.permits.hold = go.promise;
    const gone = new AbortController();
    const late = w.call('sign-order', { signal: gone.signal }).catch(() => undefined);
    while (w.permits.bearers.length === 0) await turns();
    gone.abort();
    await turns();
    go.release();
    await late;
    await turns();
    expect(w.permits.released).toEqual(['pm_1']);
    expect(w.audit.of('effect.intent')).toEqual([]);
  });
});

describe('a permit that two requests hold', () => {
  test('is given back by the last of them only', async () => {
    const go = held();
    const begun = held();
    let first = true;
    const w = await ward({
      sign: ({ effect }) => {
        if (!first) return 'nothing to sign';
        first = false;
        return effect('k', async () => {
          begun.release();
          await go.promise;
          return 'signed';
        });
      },
    });
    const slow = w.call('sign-order');
    await begun.promise;
    expect((await w.call('sign-order')).error).toBeUndefined();
    await turns();
    expect(w.permits.granted.size).toBe(1);
    expect(w.permits.released).toEqual([]);
    go.release();
    await slow;
    await turns();
    expect(w.permits.released).toEqual(['pm_1']);
  });
});

describe('effect(key, fn)', () => {
  /** A ward whose handler hands out its context. */
  async function handing(more: Parameters<typeof ward>[1] = {}) {
    const given = held<PatientToolContext>();
    const done = held<string>();
    const sign = (context: PatientToolContext) => {
      given.release(context);
      return done.promise;
    };
    const w = await ward({ sign }, more);
    const answer = w.call('sign-order');
    return { w, context: await given.promise, done, answer };
  }

  test('runs once for a key', async () => {
    const { w, context, done, answer } = await handing();
    let ran = 0;
    const cause = () => context.effect('k', async () => ++ran);
    await expect(cause()).resolves.toBe(1);
    await expect(cause()).rejects.toMatchObject({ code: 42802, check: 'permit' });
    await expect(context.effect('other', async () => ++ran)).resolves.toBe(2);
    done.release('signed');
    // Something of it happened, and the handler says so.
    expect((await answer).result).toMatchObject({ structuredContent: { signed: 'signed' } });
    expect(w.audit.of('effect.outcome')).toHaveLength(2);
  });

  test('runs once when asked twice at the same time', async () => {
    const { context, done, answer } = await handing();
    let ran = 0;
    const both = await Promise.allSettled([context.effect('k', async () => ++ran), context.effect('k', async () => ++ran)]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(ran).toBe(1);
    done.release('signed');
    await answer;
  });

  test('does not run again when the same intent is sent again, but does for a new one', async () => {
    let ran = 0;
    const w = await ward({ sign: ({ effect }, { draft }) => effect(draft, async () => `signed ${++ran}`) });
    expect((await w.call('sign-order')).error).toBeUndefined();
    expect((await w.call('sign-order')).error).toMatchObject({ code: 42802, data: { check: 'permit', retry: 'after_user' } });
    expect(ran).toBe(1);
    expect((await w.call('sign-order', intent('intent-2'))).error).toBeUndefined();
    expect(ran).toBe(2);
  });

  test('a failure is an unknown outcome: recorded so, not repeated, its permit left to run out', async () => {
    const w = await ward({
      sign: ({ effect }) =>
        effect('k', async () => {
          throw new Error(NEVER[2]);
        }),
    });
    const first = await w.call('sign-order');
    expect(first.result).toMatchObject({ isError: true });
    expect(w.audit.of('effect.outcome')).toMatchObject([{ outcome: 8, permit: 'pm_1' }]);
    expect((await w.call('sign-order')).error).toMatchObject({ code: 42802 });
    await turns();
    expect(w.permits.released).toEqual([]);
    expect(first.text + JSON.stringify([w.audit.records, w.logged])).not.toContain(NEVER[2]);
  });

  test('is refused near the end of the permit, by a clock of its own', async () => {
    const { w, context, done, answer } = await handing();
    w.clock.now += 7999;
    await expect(context.effect('k1', async () => 1)).resolves.toBe(1);
    w.clock.now += 1;
    let ran = false;
    await expect(
      context.effect('k2', async () => {
        ran = true;
      }),
    ).rejects.toMatchObject({ code: 42802, check: 'permit' });
    expect(ran).toBe(false);
    done.release('signed');
    await answer;
  });

  test('does not believe a permit of more than 10 s, nor a wall clock that is set back', async () => {
    const monotonic = { now: 0 };
    const permits = new Permits();
    permits.ttlMs = 3_600_000;
    const { w, context, done, answer } = await handing({ permits, monotonic: () => monotonic.now });
    monotonic.now += 8000;
    w.clock.now -= 3_600_000;
    await expect(context.effect('k', async () => 1)).rejects.toMatchObject({ code: 42802 });
    done.release('signed');
    await answer;
  });

  test('is refused once the answer was given, or the epoch passed', async () => {
    const { w, context, done, answer } = await handing();
    done.release('signed');
    await answer;
    await expect(context.effect('k', async () => 1)).rejects.toMatchObject({ code: 42802 });
    const second = await handing();
    await second.w.call('read', { seal: await second.w.seal({ epoch: 2 }), ...intent('i', 2) });
    await expect(second.context.effect('k', async () => 1)).rejects.toMatchObject({ code: 42802 });
    second.done.release('signed');
    expect((await second.answer).error).toMatchObject({ code: 40901, data: { check: 'epoch' } });
    await turns();
    expect(w.permits.released).toEqual(['pm_1']);
  });

  test('is refused when time ran out while its intent was recorded, and records that it was not begun', async () => {
    const { w, context, done, answer } = await handing();
    const durable = held();
    w.audit.hold = durable.promise;
    let ran = false;
    const caused = context.effect('k', async () => {
      ran = true;
    });
    await turns();
    w.clock.now += 60_000;
    w.audit.hold = undefined;
    durable.release();
    await expect(caused).rejects.toMatchObject({ code: 42802 });
    expect(ran).toBe(false);
    expect(w.audit.records).toMatchObject([{ event: 'effect.intent' }, { event: 'effect.outcome', outcome: 4, code: 42802 }]);
    done.release('signed');
    await answer;
  });

  test('does not run when its intent cannot be recorded: 50302, and the same may be asked again', async () => {
    let ran = 0;
    const w = await ward({
      sign: async ({ effect }) => {
        w.audit.failing = true;
        const caused = effect('k', async () => `signed ${++ran}`);
        await caused.catch(() => undefined);
        w.audit.failing = false;
        return caused;
      },
    });
    expect((await w.call('sign-order')).error).toMatchObject({ code: 50302, data: { check: 'audit', retry: 'same' } });
    expect(ran).toBe(0);
    await turns();
    expect(w.permits.released).toEqual(['pm_1']);
  });

  test('that happened and could not be recorded is 50302, and is not repeated', async () => {
    let ran = 0;
    const w = await ward({
      sign: async ({ effect }) => {
        const caused = effect('k', async () => {
          w.audit.failing = true;
          return `signed ${++ran}`;
        });
        await caused.catch(() => undefined);
        w.audit.failing = false;
        return caused;
      },
    });
    expect((await w.call('sign-order')).error).toMatchObject({ code: 50302 });
    expect((await w.call('sign-order')).error).toMatchObject({ code: 42802 });
    expect(ran).toBe(1);
  });

  test.each(['', undefined, 7, {}])('a key of %j is no key', async (key) => {
    const { context, done, answer } = await handing();
    await expect(context.effect(key as string, async () => 1)).rejects.toThrow(TypeError);
    done.release('signed');
    await answer;
  });
});

describe('a permit on the wire', () => {
  test('goes with the one call that causes the effect, and with no other', async () => {
    const calls: (string | undefined)[] = [];
    const outbound = {
      call: async (_peer: string, _tool: unknown, _args: unknown, options?: { permit?: string }) => {
        calls.push(options?.permit);
        return { signed: 'there', found: [] };
      },
    } as unknown as Outbound;
    const read = { ...signOrder, name: 'read', scope: 'patient/Observation.rs', effect: false };
    const w = await ward(
      {
        sign: async ({ effect, call }) => {
          await call('ehr', signOrder, { draft: 'before' });
          await effect('k', async () => {
            await call('ehr', read, { draft: 'read' });
            await call('ehr', signOrder, { draft: 'this one' });
            await call('ehr', signOrder, { draft: 'a second' });
          });
          await call('ehr', signOrder, { draft: 'after' });
          return 'signed';
        },
      },
      { outbound },
    );
    expect((await w.call('sign-order')).error).toBeUndefined();
    expect(calls).toEqual([undefined, undefined, 'pm_1', undefined, undefined]);
  });

  test('is redeemed, once, by the server that receives it, and goes no further', async () => {
    const calls: (string | undefined)[] = [];
    const outbound = {
      call: async (_peer: string, _tool: unknown, _args: unknown, options?: { permit?: string }) => {
        calls.push(options?.permit);
        return { signed: 'there' };
      },
    } as unknown as Outbound;
    const w = await ward(
      { sign: ({ effect, call }) => effect('k', async () => (await call('ehr', signOrder, { draft: 'x' })).signed) },
      { outbound },
    );
    const bearer = { accessToken: 'effector', seal: 's', intent: { id: 'intent-1', epoch: 1 } };
    const { permit } = await w.permits.permit({ operation: 'tools/call/prescribe', effectKey: 'd1' }, bearer);
    const more = { permit };
    expect((await w.call('sign-order', { more })).result).toMatchObject({ structuredContent: { signed: 'there' } });
    expect(w.permits.granted.size).toBe(1);
    expect(calls).toEqual([undefined]);
    expect(w.audit.of('effect.intent')).toMatchObject([{ permit }]);
    const again = await w.call('sign-order', { more });
    expect(again.error).toMatchObject({ code: 42802, data: { check: 'permit', by: `${MANAGER}/mcp` } });
    await turns();
    expect(w.permits.released).toEqual([]);
  });

  test.each([
    ['never granted', 'pm_77', 'intent-1'],
    ['of another intent', 'pm_1', 'intent-9'],
  ])('%s is 42802', async (_name, permit, id) => {
    const w = await ward();
    const bearer = { accessToken: 'effector', seal: 's', intent: { id: 'intent-1', epoch: 1 } };
    await w.permits.permit({ operation: 'o', effectKey: 'k' }, bearer);
    const answer = await w.call('sign-order', { meta: sealed(await w.seal(), { intent: { id, epoch: 1 }, permit }) });
    expect(answer.error).toMatchObject({ code: 42802 });
    expect(w.ran).toEqual([]);
  });

  test('is not shown to the handler, nor forwarded in its scope', async () => {
    let seen: unknown;
    const w = await ward({
      read: async () => {
        const { currentScope } = await import('@hmcp/core/request-scope');
        seen = currentScope()?.facts.envelope;
        return [observation(ANN)];
      },
    });
    const { result } = await w.call('read', { more: { permit: 'pm_1' } });
    expect(result?._meta).toMatchObject({ [META.context]: { sid: SID } });
    expect(seen).not.toHaveProperty('permit');
    expect(seen).toHaveProperty('seal');
  });
});

test('a refusal inside an effect is the answer, as it came', async () => {
  const w = await ward(
    {
      sign: ({ effect, call }) => effect('k', async () => (await call('ehr', signOrder, { draft: 'x' })).signed),
    },
    {
      outbound: {
        call: async () => {
          const error = new HmcpError(42301, { by: 'https://ehr.example/mcp', check: 'permit', hop: 2 });
          const { currentScope } = await import('@hmcp/core/request-scope');
          currentScope()?.refusals.push(error);
          throw error;
        },
      },
    },
  );
  expect((await w.call('sign-order')).error).toMatchObject({
    code: 42301,
    data: { by: 'https://ehr.example/mcp', retry: 'same' },
  });
  expect(w.audit.of('effect.outcome')).toMatchObject([{ outcome: 8 }]);
});
