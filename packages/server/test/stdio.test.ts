import { PassThrough } from 'node:stream';
import { META } from '@hmcp/core';
import { McpServer } from '@modelcontextprotocol/server';
import { describe, expect, test, vi } from 'vitest';
import {
  type AgentDefinition,
  type AgentEnv,
  createHmcpHandler,
  defineAgent,
  MAX_BODY_BYTES,
  MAX_DEPTH,
  patientTool,
  serveStdio,
} from '../src/index.js';
import { held, labs } from './support/labs.js';
import { request } from './support/wire.js';
import { ANN, BO, envelope, listResults, world } from './support/world.js';

/** The server of `l` on two streams. */
function labsOnStreams(l = labs({}), accessToken?: string) {
  return onStreams(
    defineAgent('labs', () => l.handler),
    l.env,
    accessToken,
  );
}

function onStreams(agent: AgentDefinition, env: AgentEnv, accessToken?: string) {
  const stdin = new PassThrough();
  const stdout = new PassThrough();
  const served = serveStdio(agent, env, { stdin, stdout, accessToken });
  const received: Record<string, unknown>[] = [];
  let arrived = held();
  stdout.setEncoding('utf8').on('data', (text: string) => {
    for (const line of text.split('\n').filter(Boolean)) received.push(JSON.parse(line) as Record<string, unknown>);
    arrived.release();
  });
  return {
    received,
    write: (text: string | Uint8Array) => stdin.write(text),
    send: (message: object) => stdin.write(`${JSON.stringify(message)}\n`),
    async come(count: number) {
      while (received.length < count) {
        arrived = held();
        await arrived.promise;
      }
      return received;
    },
    close: () => served.close(),
  };
}

const call = (id: number, meta: object) => request('tools/call', { name: 't', arguments: {}, _meta: meta }, 'modern', id);

describe('a line', () => {
  test.each([
    ['that is no JSON', '{"jsonrpc":', -32700],
    ['with a repeated name', '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32600],
    ['of a batch', '[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600],
    [
      'nested too deep',
      `{"jsonrpc":"2.0","id":1,"method":"ping","params":${'{"a":'.repeat(MAX_DEPTH)}1${'}'.repeat(MAX_DEPTH)}}`,
      -32600,
    ],
    ['over the limit', `{"jsonrpc":"2.0","id":1,"method":"${'x'.repeat(MAX_BODY_BYTES)}"}`, -32600],
    ['that is no JSON-RPC', '{"id":1,"method":"ping"}', -32600],
    ['with a method that is no text', '{"jsonrpc":"2.0","id":1,"method":7}', -32600],
    ['with an id that is none', '{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600],
    ['that answers nothing', '{"jsonrpc":"2.0","id":1}', -32600],
  ])('%s is answered and dropped, and the next one is read', async (_what, line, code) => {
    const s = labsOnStreams();
    s.write(`${line}\n`);
    s.send(request('server/discover', {}, 'modern', 9));
    const received = await s.come(2);
    expect(received).toEqual(
      expect.arrayContaining([{ jsonrpc: '2.0', id: null, error: { code, message: expect.any(String) } }]),
    );
    expect(received).toEqual(expect.arrayContaining([expect.objectContaining({ id: 9, result: expect.anything() })]));
    await s.close();
  });

  test('is read whole however it is cut', async () => {
    const l = labs({});
    const s = labsOnStreams(l);
    const bytes = Buffer.from(`${JSON.stringify(call(1, { ...envelope(ANN), [META.authorization]: l.own }))}\n`);
    for (const byte of bytes) s.write(Uint8Array.of(byte));
    expect(await s.come(1)).toMatchObject([{ id: 1, result: {} }]);
    await s.close();
  });

  test('without end is answered once', async () => {
    const s = labsOnStreams();
    for (let i = 0; i < 40; i += 1) s.write('x'.repeat(65_536));
    s.write('\n');
    s.send(request('server/discover', {}, 'modern', 9));
    const received = await s.come(2);
    expect(received).toHaveLength(2);
    expect(received).toMatchObject([{ id: null, error: { code: -32600 } }, { id: 9 }]);
    await s.close();
  });
});

test('the first request on the pipe finds every declaration, though no server has been made yet', async () => {
  const w = world();
  const agent = defineAgent('labs', (env) =>
    createHmcpHandler(async () => {
      await new Promise((resolve) => setImmediate(resolve));
      const server = new McpServer({ name: 'labs', version: '1' });
      patientTool(server, listResults, () => ({ results: [] }));
      return server;
    }, env),
  );
  const s = onStreams(agent, w.env);
  const meta = { ...envelope(ANN), [META.authorization]: w.issuer.issue(ANN) };
  s.send(request('tools/call', { name: 'list-results', arguments: {}, _meta: meta }));
  expect(await s.come(1)).toMatchObject([{ id: 1, result: {} }]);
  await s.close();
});

describe('the token', () => {
  test('of the process pins it to one patient', async () => {
    const l = labs({});
    const s = labsOnStreams(l, l.own);
    s.send(call(1, envelope(ANN)));
    expect(await s.come(1)).toMatchObject([{ id: 1, result: {} }]);
    s.send(call(2, envelope(BO)));
    expect((await s.come(2))[1]).toMatchObject({ id: 2, error: { code: 40903, data: { check: 'equality' } } });
    s.send(call(3, { [META.authorization]: l.issuer.issue(BO) }));
    expect((await s.come(3))[2]).toMatchObject({ id: 3, error: { code: 40100, data: { check: 'token' } } });
    expect(l.audit.of('request.refused')).toMatchObject([{ code: 40903 }, { code: 40100 }]);
    await s.close();
  });

  test('of each request decides for itself on one pipe', async () => {
    const l = labs({});
    const s = labsOnStreams(l);
    s.send(call(1, { ...envelope(ANN), [META.authorization]: l.own }));
    await s.come(1);
    s.send(call(2, { ...envelope(ANN), [META.authorization]: l.issuer.issue(BO) }));
    s.send(call(3, envelope(ANN)));
    const received = await s.come(3);
    expect(received.find(({ id }) => id === 1)).toHaveProperty('result');
    expect(received.find(({ id }) => id === 2)).toMatchObject({ error: { code: 40903 } });
    expect(received.find(({ id }) => id === 3)).toMatchObject({ error: { code: 40100 } });
    await s.close();
  });
});

describe('subscriptions/listen', () => {
  test('is told of what it may watch, and ends with its token', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    try {
      let tell: ((uri: string) => Promise<void>) | undefined;
      const l = labs({
        more: (server) => {
          server.server.registerCapabilities({ resources: { subscribe: true } });
          tell = (uri) => server.server.sendResourceUpdated({ uri });
        },
      });
      const s = labsOnStreams(l);
      const token = l.issuer.issue(ANN, { expiresAt: Math.floor(Date.now() / 1000) + 10 });
      const notifications = { resourceSubscriptions: ['chart://current'] };
      s.send(
        request('subscriptions/listen', { notifications, _meta: { ...envelope(ANN), [META.authorization]: token } }, 'modern', 1),
      );
      expect(await s.come(1)).toMatchObject([{ method: 'notifications/subscriptions/acknowledged' }]);
      await tell?.('chart://other');
      await tell?.('chart://current');
      expect((await s.come(2))[1]).toMatchObject({
        method: 'notifications/resources/updated',
        params: { uri: 'chart://current' },
      });
      vi.advanceTimersByTime(10_000);
      await tell?.('chart://current');
      s.send(request('server/discover', {}, 'modern', 9));
      expect((await s.come(3))[2]).toMatchObject({ id: 9 });
      await s.close();
    } finally {
      vi.useRealTimers();
    }
  });
});

test('an agent must make its handler with createHmcpHandler', () => {
  const l = labs({});
  const agent = defineAgent('labs', () => ({ ...l.handler }));
  expect(() => serveStdio(agent, world().env, { stdin: new PassThrough(), stdout: new PassThrough() })).toThrow(
    'createHmcpHandler',
  );
});
