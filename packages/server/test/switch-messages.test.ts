import {
  type DecidedParams,
  Drained,
  type DrainParams,
  HmcpError,
  META,
  type Participation,
  type PrepareParams,
  parseScopes,
  type SessionWork,
  type VerifiedToken,
  Vote,
} from '@hmcp/core';
import { InMemoryTransport, type JSONRPCMessage, McpServer } from '@modelcontextprotocol/server';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { PatientToolContext } from '../src/index.js';
import { held } from './support/labs.js';
import { MANAGER, SID, sealed, ward } from './support/ward.js';
import { ask, type Era } from './support/wire.js';
import { ANN, envelope, NEVER, observation } from './support/world.js';

const PREPARE = 'dev.hmcp/context.prepare';
const DRAIN = 'dev.hmcp/context.drain';
const DECIDED = 'dev.hmcp/context.decided';

const CONTROL: Partial<VerifiedToken> = {
  clientId: 'context-manager',
  firstClient: 'context-manager',
  subject: 'context-manager',
  scope: 'hmcp:context.control',
  scopes: parseScopes('hmcp:context.control'),
  patient: undefined,
};

const proposal = { sid: SID, rev: 3, switchId: 'sw-1', epoch: 1, kind: 'switch', deadline: Date.now() + 5000 } as const;
const PARAMS = {
  [PREPARE]: proposal,
  [DRAIN]: { ...proposal, save: ['d1'] },
  [DECIDED]: { sid: SID, rev: 4, switchId: 'sw-1', kind: 'switch', result: 'committed', epoch: 2 },
} as const;
const METHODS = [PREPARE, DRAIN, DECIDED] as const;

/** Takes part in sessions, and notes what it was told. */
class Orders implements Participation {
  readonly told: unknown[][] = [];
  refusing: Error | undefined;

  async prepare(message: PrepareParams, manager: string) {
    this.#note('prepare', message, manager);
    return Vote.parse({ vote: 'accept_with_warning', unsaved: [{ id: 'd1', savable: true }], inflight: 1 });
  }
  async drain(message: DrainParams, manager: string) {
    this.#note('drain', message, manager);
    return Drained.parse({ saved: ['d1'], cancelled: 1, indeterminate: ['intent-7'] });
  }
  async decided(message: DecidedParams, manager: string) {
    this.#note('decided', message, manager);
  }
  learned({ sid, epoch }: { sid: string; epoch: number }) {
    this.told.push(['learned', sid, epoch]);
  }
  #note(...said: unknown[]) {
    if (this.refusing) throw this.refusing;
    this.told.push(said);
  }
}

async function participant(doing: Parameters<typeof ward>[0] = {}, more: Parameters<typeof ward>[1] = {}) {
  const orders = new Orders();
  const w = await ward(doing, { participation: orders, ...more });
  const control = w.issuer.issue(undefined, CONTROL);
  const tell = (method: string, params: object, token: string = control, era: Era = 'modern') =>
    ask(w.handler, method, { ...params }, { token, era });
  return { ...w, orders, control, tell };
}

afterEach(() => {
  vi.useRealTimers();
});

describe('what a manager says to a participant', () => {
  test.each(['modern', 'legacy'] as const)('is answered by the server itself, %s', async (era) => {
    const p = await participant();
    const vote = await p.tell(PREPARE, PARAMS[PREPARE], p.control, era);
    expect(vote.result).toMatchObject({ vote: 'accept_with_warning', unsaved: [{ id: 'd1', savable: true }], inflight: 1 });
    const drained = await p.tell(DRAIN, PARAMS[DRAIN], p.control, era);
    expect(drained.result).toMatchObject({ saved: ['d1'], cancelled: 1, completed: 0, indeterminate: ['intent-7'] });
    const decided = await p.tell(DECIDED, PARAMS[DECIDED], p.control, era);
    expect(decided.result).toEqual(era === 'modern' ? { resultType: 'complete' } : {});
    expect(p.orders.told).toEqual([
      ['prepare', PARAMS[PREPARE], MANAGER],
      ['drain', PARAMS[DRAIN], MANAGER],
      ['decided', PARAMS[DECIDED], MANAGER],
    ]);
    expect(p.audit.records).toMatchObject([
      { event: 'request.served', method: PREPARE, sid: SID, epoch: 1, switchId: 'sw-1', vote: 'accept_with_warning' },
      { event: 'request.served', method: DRAIN, sid: SID, epoch: 1, switchId: 'sw-1' },
      { event: 'request.served', method: DECIDED, sid: SID, epoch: 2, switchId: 'sw-1', clientId: 'context-manager' },
    ]);
    expect(p.ran).toEqual([]);
  });

  test.each(METHODS)('%s from anybody else is 40301', async (method) => {
    const p = await participant();
    const others: Partial<VerifiedToken>[] = [
      { clientId: 'portal' },
      { issuer: 'https://as2.example' },
      { scope: 'hmcp:context.participate', scopes: parseScopes('hmcp:context.participate') },
      { scope: 'hmcp:context.control2', scopes: parseScopes('hmcp:context.control2') },
      { patient: ANN },
      { actors: ['context-manager'], chain: [] },
    ];
    for (const other of others) {
      const answer = await p.tell(method, PARAMS[method], p.issuer.issue(undefined, { ...CONTROL, ...other }));
      expect(answer.error).toMatchObject({ code: 40301, data: { check: 'session', retry: 'never' } });
      expect(p.audit.last).toMatchObject({ event: 'request.refused', code: 40301, check: 'session', method });
    }
    expect((await p.tell(method, PARAMS[method], p.own)).error).toMatchObject({ code: 40301 });
    expect(p.orders.told).toEqual([]);
  });

  test.each(METHODS)('%s is 40301 where no manager is trusted, and 40303 where this process takes no part', async (method) => {
    const trusting = await participant({}, { participation: undefined });
    expect((await trusting.tell(method, PARAMS[method])).error).toMatchObject({ code: 40303, data: { check: 'operation' } });
    const none = await participant({}, { managers: [] });
    expect((await none.tell(method, PARAMS[method])).error).toMatchObject({ code: 40301, data: { check: 'session' } });
    expect(none.orders.told).toEqual([]);
  });

  test.each([
    ['nothing', {}],
    ['no session', { ...proposal, sid: undefined }],
    ['an epoch below none', { ...proposal, epoch: -1 }],
    ['a switch of another kind', { ...proposal, kind: 'merge' }],
    ['more than the protocol says', { ...proposal, patient: ANN }],
    ['names that are none', { ...proposal, switchId: 'a b' }],
    ['a list', { ...proposal, sid: [SID] }],
  ])('%s is -32602, and reaches nobody', async (_name, params) => {
    const p = await participant();
    for (const method of METHODS) {
      const answer = await p.tell(method, params);
      expect(answer.error).toMatchObject({ code: -32602 });
      expect(answer.text).not.toContain(ANN);
    }
    expect(p.orders.told).toEqual([]);
    expect(p.audit.records).toMatchObject(METHODS.map(() => ({ event: 'request.refused', code: -32602, check: 'argument' })));
  });

  test.each(METHODS)('%s: a refusal of the participation is relayed, a failure of it says nothing', async (method) => {
    const p = await participant();
    p.orders.refusing = new HmcpError(40901, { by: p.env.resource, check: 'session' }, { reason: 'a message of the past' });
    expect((await p.tell(method, PARAMS[method])).error).toMatchObject({ code: 40901, data: { check: 'session' } });
    expect(p.audit.last).toMatchObject({ event: 'request.refused', code: 40901, reason: 'a message of the past' });
    p.orders.refusing = new Error(NEVER[2]);
    const answer = await p.tell(method, PARAMS[method]);
    expect(answer.error).toMatchObject({ code: 50301, data: { check: 'session', retry: 'same' } });
    expect(answer.text + JSON.stringify([p.audit.records, p.logged])).not.toContain(NEVER[2]);
  });
});

test('on a pipe, a sealed request is fenced and a manager is answered, each with a token of its own', async () => {
  const p = await participant({ read: () => [observation(ANN)] });
  const product = await p.handler.factory({ era: 'legacy' });
  const server = product instanceof McpServer ? product.server : product;
  const [near, far] = InMemoryTransport.createLinkedPair();
  await server.connect(far);
  const waiting = new Map<unknown, (message: Record<string, unknown>) => void>();
  near.onmessage = (message) => waiting.get((message as { id?: unknown }).id)?.(message as Record<string, unknown>);
  await near.start();
  let id = 0;
  const send = (method: string, { _meta, ...params }: Record<string, unknown>, token: string) =>
    new Promise<Record<string, unknown>>((resolve) => {
      id += 1;
      waiting.set(id, resolve);
      const meta = { ...(_meta as object), [META.authorization]: token };
      void near.send({ jsonrpc: '2.0', id, method, params: { ...params, _meta: meta } } as JSONRPCMessage);
    });
  await send(
    'initialize',
    { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'parent', version: '1' } },
    p.own,
  );
  const read = { name: 'read', arguments: {}, _meta: sealed(await p.seal()) };
  expect(await send('tools/call', read, p.own)).toMatchObject({ result: { _meta: { [META.context]: { sid: SID, epoch: 1 } } } });
  expect(await send(PREPARE, PARAMS[PREPARE], p.own)).toMatchObject({ error: { code: 40301 } });
  expect(await send(PREPARE, PARAMS[PREPARE], p.control)).toMatchObject({ result: { vote: 'accept_with_warning' } });
  expect(await send(DECIDED, PARAMS[DECIDED], p.control)).toMatchObject({ result: {} });
  expect(await send('tools/call', read, p.own)).toMatchObject({ error: { code: 40901, data: { check: 'epoch' } } });
  expect(await send('tools/call', { name: 'read' }, p.control)).toMatchObject({ error: { code: 40301 } });
  await server.close();
});

describe('the token of a manager', () => {
  test.each([
    ['tools/list', {}],
    ['tools/call', { name: 'read', arguments: {} }],
    ['tools/call', { name: 'read', arguments: {}, _meta: envelope(ANN) }],
    ['resources/list', {}],
    ['subscriptions/listen', { notifications: {} }],
    ['subscriptions/listen', { notifications: { toolsListChanged: true } }],
    ['dev.hmcp/context.join', {}],
    ['org.example/anything', {}],
  ])('reaches the methods of a switch, not %s %j', async (method, params) => {
    const p = await participant();
    for (const scope of ['hmcp:context.control', 'hmcp:context.control user/*.cruds']) {
      const token = p.issuer.issue(undefined, { ...CONTROL, scope, scopes: parseScopes(scope) });
      const answer = await p.tell(method, params, token);
      expect(answer.error).toMatchObject({ code: 40301, data: { check: 'session' } });
    }
    expect(p.ran).toEqual([]);
  });

  test('reaches the handshake', async () => {
    const p = await participant();
    expect((await p.tell('server/discover', {})).result).toBeDefined();
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'cm', version: '1' } };
    expect((await p.tell('initialize', params, p.control, 'legacy')).result).toBeDefined();
  });
});

describe('a switch and what is being served', () => {
  /** Two requests of the session under way: one reads, one signs and is in the middle of it when `signing`. */
  async function busy(signing = true) {
    const reading = held<AbortSignal>();
    const given = held<PatientToolContext>();
    const begun = held();
    const go = held();
    const p = await participant({
      read: async ({ signal }) => {
        reading.release(signal);
        await go.promise;
        return [observation(ANN)];
      },
      sign: async (context) => {
        given.release(context);
        if (!signing) {
          await go.promise;
          return context.effect('k', async () => 'signed');
        }
        return context.effect('k', async () => {
          begun.release();
          await go.promise;
          return 'signed';
        });
      },
    });
    const read = p.call('read');
    const sign = p.call('sign-order', { more: { intent: { id: 'intent-2', epoch: 1 } } });
    const signal = await reading.promise;
    const context = await given.promise;
    if (signing) await begun.promise;
    return { p, read, sign, signal, context, go };
  }

  test('prepare counts it and changes nothing', async () => {
    const { p, read, sign, signal, go } = await busy();
    expect((await p.tell(PREPARE, PARAMS[PREPARE])).result).toMatchObject({ inflight: 3 });
    expect((await p.tell(PREPARE, { ...PARAMS[PREPARE], sid: 'ctx_2' })).result).toMatchObject({ inflight: 1 });
    expect(signal.aborted).toBe(false);
    go.release();
    expect((await read).error).toBeUndefined();
    expect((await sign).error).toBeUndefined();
  });

  test('drain ends reads, lets the effect under way finish and be told, and gives its permit back before it answers', async () => {
    const { p, read, sign, signal, context, go } = await busy();
    const drained = p.tell(DRAIN, PARAMS[DRAIN]);
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve());
    });
    expect(p.permits.released).toEqual([]);
    await expect(context.effect('another', async () => 1)).rejects.toMatchObject({ code: 42802 });
    go.release();
    expect((await drained).result).toMatchObject({ saved: ['d1'], cancelled: 2, completed: 1, indeterminate: ['intent-7'] });
    expect(p.permits.released).toEqual(['pm_1']);
    expect((await read).error).toMatchObject({ code: 40901, data: { check: 'epoch' } });
    expect(p.audit.of('effect.outcome')).toMatchObject([{ outcome: 0 }]);
    // What was done is told, although it is the last thing of this epoch.
    expect((await sign).result).toMatchObject({ structuredContent: { signed: 'signed' } });
  });

  test('drain ends an effect that has not begun: it never does', async () => {
    const { p, sign, go } = await busy(false);
    expect((await p.tell(DRAIN, PARAMS[DRAIN])).result).toMatchObject({ cancelled: 3, completed: 0 });
    expect(p.permits.released).toEqual(['pm_1']);
    go.release();
    expect((await sign).error).toMatchObject({ code: 40901 });
    expect(p.audit.of('effect.intent')).toEqual([]);
  });

  test('drain reports an effect that does not end in time as not known', async () => {
    const { p, sign, go } = await busy();
    const late = { ...PARAMS[DRAIN], deadline: 0 };
    expect((await p.tell(DRAIN, late)).result).toMatchObject({ indeterminate: ['intent-7', 'intent-2'], completed: 0 });
    expect(p.permits.released).toEqual([]);
    go.release();
    await sign;
  });

  test('a drain that the participation refuses ends nothing', async () => {
    const { p, read, signal, go } = await busy();
    p.orders.refusing = new HmcpError(40901, { by: p.env.resource, check: 'session' });
    expect((await p.tell(DRAIN, PARAMS[DRAIN])).error).toMatchObject({ code: 40901 });
    expect(signal.aborted).toBe(false);
    go.release();
    expect((await read).error).toBeUndefined();
  });

  test('a decision ends what is below its epoch, and seals of it are refused from then on', async () => {
    const { p, read, sign, signal, go } = await busy();
    await p.tell(DECIDED, PARAMS[DECIDED]);
    expect(signal.aborted).toBe(true);
    go.release();
    expect((await read).error).toMatchObject({ code: 40901 });
    expect((await sign).error).toMatchObject({ code: 40901 });
    expect((await p.call('read')).error).toMatchObject({ code: 40901, data: { check: 'epoch' } });
  });

  test('a decision ends what is below its epoch though the participation could not take it in', async () => {
    const { p, read, sign, signal, go } = await busy();
    p.orders.refusing = new Error('the cache is busy');
    expect((await p.tell(DECIDED, PARAMS[DECIDED])).error).toMatchObject({ code: 50301 });
    expect(signal.aborted).toBe(true);
    go.release();
    await Promise.all([read, sign]);
  });

  test('a decision of another session ends nothing', async () => {
    const { p, read, signal, go } = await busy();
    await p.tell(DECIDED, { ...PARAMS[DECIDED], sid: 'ctx_2', epoch: 9 });
    expect(signal.aborted).toBe(false);
    go.release();
    expect((await read).error).toBeUndefined();
  });

  test('a participation that pulls is handed the same work', async () => {
    let work: SessionWork | undefined;
    const orders = Object.assign(new Orders(), {
      serving: (served: SessionWork) => {
        work = served;
      },
    });
    const go = held();
    const reading = held<AbortSignal>();
    const w = await ward(
      {
        read: async ({ signal }) => {
          reading.release(signal);
          await go.promise;
          return [];
        },
      },
      { participation: orders },
    );
    const session = { iss: MANAGER, sid: SID };
    const read = w.call('read');
    const signal = await reading.promise;
    expect(work?.inflight(session, 1)).toBe(1);
    expect(work?.inflight({ ...session, iss: 'https://cm2.example' }, 1)).toBe(0);
    expect(await work?.drain(session, 1, 1000)).toEqual({ cancelled: 1, completed: 0, indeterminate: [] });
    expect(signal.aborted).toBe(true);
    go.release();
    expect((await read).error).toMatchObject({ code: 40901 });
    work?.learned(session, 2);
    expect((await w.call('read')).error).toMatchObject({ code: 40901, data: { check: 'epoch' } });
  });

  test('verified seals of admitted requests are told to the participation', async () => {
    const p = await participant();
    await p.call('read');
    await p.call('read', { seal: await p.seal({ sub: 'dr-no' }) });
    expect(p.orders.told).toEqual([['learned', SID, 1]]);
  });
});
