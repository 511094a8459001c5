import { META } from '@hmcp/core';
import { currentScope, type RequestScope } from '@hmcp/core/request-scope';
import { InMemoryTransport, type JSONRPCMessage, McpServer } from '@modelcontextprotocol/server';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { held, labs } from './support/labs.js';
import { post } from './support/wire.js';
import { ANN, BO, envelope, READ, SECRET } from './support/world.js';

const text = (said: string) => ({ type: 'text', text: said });
const turns = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** The server of `l` on an in-process pipe, with every message it sends. */
async function onPipe(l: ReturnType<typeof labs>) {
  const product = await l.handler.factory({ era: 'legacy' });
  const server = product instanceof McpServer ? product.server : product;
  const [near, far] = InMemoryTransport.createLinkedPair();
  await server.connect(far);
  const received: Record<string, unknown>[] = [];
  let arrived = held();
  near.onmessage = (message) => {
    received.push(message as Record<string, unknown>);
    arrived.release();
  };
  /** Resolves when `count` messages have come. */
  const come = async (count: number) => {
    while (received.length < count) {
      arrived = held();
      await arrived.promise;
    }
  };
  await near.start();
  const send = (message: object) => near.send({ jsonrpc: '2.0', ...message } as JSONRPCMessage);
  const call = (id: number | string, token = l.own) =>
    send({
      id,
      method: 'tools/call',
      params: { name: 't', arguments: {}, _meta: { ...envelope(ANN), [META.authorization]: token } },
    });
  await send({
    id: 'init',
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'x', version: '1' } },
  });
  await come(1);
  received.length = 0;
  l.audit.records.length = 0;
  return { server, near, received, come, send, call };
}

afterEach(() => {
  vi.useRealTimers();
});

describe('the scope of a request ends', () => {
  const waiting = () => {
    const reached = held<RequestScope>();
    const go = held();
    const l = labs({
      tool: async () => {
        const scope = currentScope();
        if (scope) reached.release(scope);
        await go.promise;
        return { content: [text('late')] };
      },
    });
    return { l, reached: reached.promise, go };
  };

  test('when its caller cancels it: no answer, a record, and no more calls', async () => {
    const { l, reached, go } = waiting();
    const { send, call, received } = await onPipe(l);
    await call(1);
    const scope = await reached;
    await send({ method: 'notifications/cancelled', params: { requestId: 1 } });
    expect(scope.closed).toBe(true);
    expect(scope.signal.aborted).toBe(true);
    go.release();
    await turns();
    expect(received).toEqual([]);
    expect(l.audit.records).toMatchObject([{ event: 'request.refused', reason: 'cancelled by the caller' }]);
  });

  test('before it began, when it is cancelled while it is decided: the handler never runs', async () => {
    const policy = held<'allow'>();
    const asked = held();
    const decide = () => {
      asked.release();
      return policy.promise;
    };
    const ran: string[] = [];
    const l = labs({ tool: () => void ran.push('tool') }, { policy: { decide } });
    const { send, call } = await onPipe(l);
    await call(1, l.issuer.issue(undefined));
    await asked.promise;
    await send({ method: 'notifications/cancelled', params: { requestId: 1 } });
    policy.release('allow');
    await turns();
    expect(ran).toEqual([]);
  });

  test('when the connection is gone', async () => {
    const { l, reached, go } = waiting();
    const { near, call } = await onPipe(l);
    await call(1);
    const scope = await reached;
    await near.close();
    expect(scope.closed).toBe(true);
    go.release();
  });

  test('when an HTTP caller goes away', async () => {
    const { l, reached, go } = waiting();
    const caller = new AbortController();
    const answer = l.call({}, { signal: caller.signal }).catch(() => undefined);
    const scope = await reached;
    caller.abort();
    expect(scope.closed).toBe(true);
    go.release();
    await answer;
  });

  test('when its token expires: the signal aborts, and what comes after is 40901', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    const { l, reached, go } = waiting();
    const token = l.issuer.issue(ANN, { expiresAt: Math.floor(Date.now() / 1000) + 10 });
    const answer = l.call({}, { token });
    const scope = await reached;
    expect(scope.signal.aborted).toBe(false);
    vi.advanceTimersByTime(10_000);
    expect(scope.signal.aborted).toBe(true);
    go.release();
    expect((await answer).error).toMatchObject({ code: 40901, data: { check: 'epoch', retry: 'after_user' } });
    expect(l.audit.records).toMatchObject([{ event: 'result.withheld', code: 40901, check: 'epoch' }]);
  });

  test('when its answer is released', async () => {
    let scope: RequestScope | undefined;
    const l = labs({
      tool: () => {
        scope = currentScope();
      },
    });
    await l.call();
    expect(scope?.closed).toBe(true);
  });
});

describe('ids', () => {
  test('an id in use is refused, and the first request goes on', async () => {
    const go = held();
    const began = held();
    let ran = 0;
    const l = labs({
      tool: async () => {
        ran += 1;
        began.release();
        await go.promise;
        return { content: [] };
      },
    });
    const { call, come, received } = await onPipe(l);
    await call(1);
    await began.promise;
    await call(1);
    await come(1);
    expect(received).toMatchObject([{ id: 1, error: { code: -32600 } }]);
    go.release();
    await come(2);
    expect(ran).toBe(1);
    expect(received[1]).toMatchObject({ id: 1, result: { content: [] } });
  });

  test.each([null, {}, [1], true])('%j is no id', async (id) => {
    const ran: string[] = [];
    const l = labs({ tool: () => void ran.push('tool') });
    const { send, come, received } = await onPipe(l);
    await send({ id, method: 'tools/call', params: { name: 't' } });
    await come(1);
    expect(received).toMatchObject([{ id: null, error: { code: -32600 } }]);
    expect(ran).toEqual([]);
  });

  test.each([[[{ patient: BO }]], ['text'], [7]])('params %j are -32602 before any handler', async (params) => {
    const ran: string[] = [];
    const l = labs({ custom: () => void ran.push('custom') });
    const { send, come, received } = await onPipe(l);
    await send({ id: 1, method: 'org.example/ask', params });
    await come(1);
    expect(received).toMatchObject([{ error: { code: 40100 } }]);
    expect(ran).toEqual([]);
  });

  test('an answer to a question nobody asked is dropped', async () => {
    const l = labs({});
    const { send, received } = await onPipe(l);
    await send({ id: 0, result: { roots: [] } });
    await send({ id: 'x', error: { code: 1, message: SECRET } });
    await turns();
    expect(received).toEqual([]);
  });
});

describe('on a pipe', () => {
  test('the handshake needs no token, everything else does', async () => {
    const { send, come, received } = await onPipe(labs({}));
    await send({ id: 1, method: 'ping' });
    await come(1);
    await come(1);
    await send({ id: 2, method: 'tools/list' });
    await come(2);
    expect(received).toMatchObject([
      { id: 1, result: {} },
      { id: 2, error: { code: 40100, data: { check: 'token', retry: 'never' } } },
    ]);
  });

  test.each([7, null, {}, ['token'], ''])('a token that is %j is 40100', async (token) => {
    const { send, come, received } = await onPipe(labs({}));
    await send({ id: 1, method: 'tools/call', params: { name: 't', _meta: { [META.authorization]: token } } });
    await come(1);
    expect(received).toMatchObject([{ error: { code: 40100 } }]);
  });

  test('keys that cannot be fetched are 50301', async () => {
    const l = labs({});
    const { call, come, received } = await onPipe(l);
    l.issuer.down = true;
    await call(1);
    await come(1);
    expect(received).toMatchObject([{ error: { code: 50301, data: { check: 'token', retry: 'same' } } }]);
  });

  test('the token is gone before the handler', async () => {
    let seen = '';
    const l = labs({
      tool: (_args, ctx) => {
        seen = JSON.stringify(ctx.mcpReq._meta);
        return { content: [] };
      },
    });
    const { call, come } = await onPipe(l);
    await call(1);
    await come(1);
    expect(seen).toContain(META.context);
    expect(seen).not.toContain(META.authorization);
    expect(seen).not.toContain(l.own);
  });

  test('a request sent from inside another one is served outside its scope', async () => {
    const seen: unknown[] = [];
    const inner = labs({ tool: () => void seen.push(currentScope()) }, {}, { patientScope: 'none' });
    const { call, come } = await onPipe(inner);
    const outer = labs({
      tool: async () => {
        await call(1);
        await come(1);
      },
    });
    expect((await outer.call()).result).toBeDefined();
    expect(seen).toEqual([undefined]);
  });

  test('HTTP that went around the gate has no token, whatever it says', async () => {
    const { createMcpHandler } = await import('@modelcontextprotocol/server');
    const l = labs({});
    const around = createMcpHandler(l.handler.factory);
    const params = { name: 't', arguments: {}, _meta: { [META.authorization]: l.own } };
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params });
    const answer = await post({ fetch: (asked) => around.fetch(asked) }, body, { token: l.own });
    expect(answer.error).toMatchObject({ code: 40100 });
  });
});

describe('notifications of a server', () => {
  const progress = (params: object, options: object = {}) =>
    labs(
      {
        tool: async (_args, ctx) => {
          await ctx.mcpReq.notify({
            method: 'notifications/progress',
            params: { progressToken: 'p1', progress: 1, ...params },
          } as never);
          return { content: [] };
        },
      },
      options,
    );
  const meta = { ...envelope(ANN, 'intent-3'), progressToken: 'p1' };

  test.each(['modern', 'legacy'] as const)('progress is bound to the request and recorded before it leaves (%s)', async (era) => {
    const l = progress({ total: 4, message: 'half way' });
    const { before, result } = await l.call({}, { meta, era });
    expect(before).toMatchObject([
      {
        method: 'notifications/progress',
        params: {
          progressToken: 'p1',
          progress: 1,
          total: 4,
          message: 'half way',
          _meta: { [META.context]: { intent: { id: 'intent-3' } } },
        },
      },
    ]);
    expect(result).toBeDefined();
    expect(l.audit.records).toMatchObject([
      { event: 'request.served', reason: 'a notification before the answer' },
      { event: 'request.served' },
    ]);
  });

  test.each([
    ['a mention of another patient', { message: `reading Patient/${BO}` }],
    ['FHIR in its message', { message: `{"resourceType":"Observation","subject":{"reference":"Patient/${BO}"}}` }],
  ])('%s: withheld and recorded, and the answer comes', async (_what, params) => {
    const l = progress(params);
    const { before, result, text: said } = await l.call({}, { meta });
    expect(before).toEqual([]);
    expect(said).not.toContain(BO);
    expect(result).toBeDefined();
    const compared = [{ said: 'context' }, { said: 'result' }];
    expect(l.audit.records).toMatchObject([{ event: 'result.withheld', code: 40903, compared }, { event: 'request.served' }]);
    expect(JSON.stringify(l.audit.records)).not.toContain(BO);
  });

  test.each([
    ['of another request', { progressToken: 'p2' }],
    ['of no number', { progress: SECRET }],
    ['with a total of text', { total: SECRET }],
    ['with a message of no text', { message: { secret: SECRET } }],
  ])('progress %s is dropped', async (_what, params) => {
    const { before, text: said } = await progress(params).call({}, { meta });
    expect(before).toEqual([]);
    expect(said).not.toContain(SECRET);
  });

  test('members nobody knows, and keys of this project, stay behind', async () => {
    const l = progress({ extra: SECRET, _meta: { [META.context]: SECRET, row: SECRET } });
    const { before, text: said } = await l.call({}, { meta });
    expect(before).toHaveLength(1);
    expect(said).not.toContain(SECRET);
  });

  test('free text is withheld where unverifiable parts are; numbers go on', async () => {
    const strict = { unverifiable: 'withhold' } as const;
    const l = progress({ message: 'half way' }, strict);
    expect((await l.call({}, { meta })).before).toEqual([]);
    expect(l.audit.records[0]).toMatchObject({ reason: 'a notification that cannot be verified was withheld' });
    expect((await progress({}, strict).call({}, { meta })).before).toHaveLength(1);
  });

  test('a log message is checked like a result; a vendor notification never leaves', async () => {
    const l = labs({
      tool: async (_args, ctx) => {
        await ctx.mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data: { row: `Patient/${BO}` } } });
        await ctx.mcpReq.notify({ method: 'notifications/message', params: { level: 'info', logger: 'labs', data: 'fine' } });
        await ctx.mcpReq.notify({ method: 'org.example/surprise', params: { row: SECRET } } as never);
        return { content: [] };
      },
    });
    const { before, text: said } = await l.call({}, { meta });
    expect(before).toMatchObject([{ method: 'notifications/message', params: { data: 'fine', logger: 'labs' } }]);
    expect(said).not.toMatch(new RegExp(`${BO}|${SECRET}`));
  });

  test('when its record cannot be made, progress does not leave', async () => {
    const l = progress({ message: 'half way' });
    l.audit.failing = true;
    const { before } = await l.call({}, { meta });
    expect(before).toEqual([]);
  });

  test('outside a request only changes are told, and of resources only to who watches them', async () => {
    const l = labs(
      {
        more: (server) => server.server.setRequestHandler('resources/subscribe', async () => ({})),
      },
      { operations: { tools: { t: READ }, resources: { 'chart://current': READ } } },
    );
    const { server, send, come, received } = await onPipe(l);
    const updated = (uri: string) => server.sendResourceUpdated({ uri, _meta: { row: SECRET } });
    await updated('chart://current');
    expect(received).toEqual([]);
    await send({
      id: 1,
      method: 'resources/subscribe',
      params: { uri: 'chart://current', _meta: { ...envelope(ANN), [META.authorization]: l.own } },
    });
    await come(1);
    expect(received).toMatchObject([{ id: 1, result: {} }]);
    received.length = 0;
    await updated('chart://current');
    await updated('chart://other');
    await server
      .notification({ method: 'notifications/message', params: { level: 'info', data: SECRET } })
      .catch(() => undefined);
    await server.sendToolListChanged();
    await come(2);
    expect(received).toEqual([
      { jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri: 'chart://current' } },
      { jsonrpc: '2.0', method: 'notifications/tools/list_changed', params: {} },
    ]);
  });
});
