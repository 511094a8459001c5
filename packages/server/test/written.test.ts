import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { AuditRecord } from '@hmcp/core';
import { McpServer, type ServerContext } from '@modelcontextprotocol/server';
import { describe, expect, test } from 'vitest';
import { type AgentEnv, createHmcpHandler, defineAgent, nodeListener, patientTool, serve } from '../src/index.js';
import { ask, request } from './support/wire.js';
import { ANN, BO, envelope, listResults, observation, READ, SECRET, type World, world } from './support/world.js';

type Rows = { results: ReturnType<typeof observation>[] };

/** A server whose one tool gives `answer`; `later` is called with it while its record is made durable. */
function answering(answer: () => Rows, later: (given: Rows) => void = () => {}, more: Partial<AgentEnv> = {}) {
  let given: Rows | undefined;
  const w: World = world(more);
  const append = w.audit.append.bind(w.audit);
  w.audit.append = async (record: AuditRecord) => {
    if (given !== undefined) later(given);
    await append(record);
  };
  const factory = () => {
    const server = new McpServer({ name: 'labs', version: '1' });
    patientTool(server, listResults, async () => {
      given = answer();
      return given;
    });
    return server;
  };
  return { ...w, factory, handler: createHmcpHandler(factory, w.env) };
}

const params = (id = 'intent-1') => ({ name: listResults.name, arguments: {}, _meta: envelope(ANN, id) });

describe('what is written is what was checked', () => {
  test.each(['modern', 'legacy'] as const)('the text is the JSON of the structured content (%s)', async (era) => {
    const rows = { results: [observation(ANN), observation(ANN, 'quotes " and \u2028 and \ud83d\ude00')] };
    const { handler, issuer } = answering(() => rows);
    const { result } = await ask(handler, 'tools/call', params(), { token: issuer.issue(ANN), era });
    expect(result?.structuredContent).toEqual(rows);
    const [part] = result?.content as { type: string; text: string }[];
    expect(part).toEqual({ type: 'text', text: JSON.stringify(rows) });
    expect(result).toMatchObject({ ttlMs: 0, cacheScope: 'private' });
  });

  const CHANGES: readonly (readonly [string, (given: Rows) => void])[] = [
    ['adds another patient’s row to it', (given) => given.results.push(observation(BO, SECRET))],
    ['changes whose row it is', (given) => void given.results.map((row) => Object.assign(row, observation(BO, SECRET)))],
    ['lets it rewrite itself', (given) => Object.assign(given, { toJSON: () => ({ results: [observation(BO, SECRET)] }) })],
  ];
  test.each(
    CHANGES,
  )('a handler that keeps its answer and %s while the record is made durable changes nothing', async (_, change) => {
    const { handler, issuer } = answering(() => ({ results: [observation(ANN)] }), change);
    const { result, text } = await ask(handler, 'tools/call', params(), { token: issuer.issue(ANN) });
    expect(result?.structuredContent).toEqual({ results: [observation(ANN)] });
    expect(text).not.toContain(SECRET);
    expect(text).not.toContain(BO);
  });

  test('an answer that is withheld is not written at all', async () => {
    const { handler, issuer } = answering(() => ({ results: [observation(BO, SECRET)] }));
    const { error, result, text } = await ask(handler, 'tools/call', params(), { token: issuer.issue(ANN) });
    expect([error?.code, result]).toEqual([40903, undefined]);
    expect(text).not.toContain(SECRET);
  });

  test('an answer whose record cannot be made durable is not written at all', async () => {
    const { handler, issuer, audit } = answering(() => ({ results: [observation(ANN, SECRET)] }));
    audit.failing = true;
    const { error, text } = await ask(handler, 'tools/call', params(), { token: issuer.issue(ANN) });
    expect(error?.code).toBe(50302);
    expect(text).not.toContain(SECRET);
  });

  test('two callers of one id get each their own answer', async () => {
    const calls = [1, 2];
    const { handler, issuer } = answering(() => ({ results: [observation(ANN, calls.shift())] }));
    const both = await Promise.all([1, 2].map(() => ask(handler, 'tools/call', params(), { token: issuer.issue(ANN), id: 7 })));
    const values = both.map(({ result }) => (result?.structuredContent as Rows).results[0]?.valueString);
    expect(values.toSorted()).toEqual(['1', '2']);
  });
});

/** Serves on a socket: the handler itself, or one of somebody who put something around it. */
async function serveOn(factory: () => McpServer, env: AgentEnv, kind: 'itself' | 'wrapped' | 'replaced') {
  const agent = defineAgent('labs', () => {
    const handler = createHmcpHandler(factory, env);
    if (kind === 'itself') return handler;
    const { fetch } = handler;
    const wrapped = async (made: Request) => {
      const copy = made.clone();
      if (made.method === 'POST') expect((await made.text()).length).toBeGreaterThan(0);
      const answer = await fetch(copy);
      return new Response(await answer.arrayBuffer(), answer);
    };
    return kind === 'replaced' ? Object.assign(handler, { fetch: wrapped }) : { ...handler, fetch: wrapped };
  });
  return serve(agent, env);
}

function post(port: number, token: string, body: object, more: Record<string, string> = {}) {
  const headers = {
    host: '127.0.0.1:4810',
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    authorization: `Bearer ${token}`,
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': 'tools/call',
    ...more,
  };
  return new Promise<{ status: number | undefined; headers: IncomingHttpHeaders; text: string }>((resolve, reject) => {
    const sent = httpRequest({ host: '127.0.0.1', port, path: '/mcp', method: 'POST', headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString() }),
      );
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(JSON.stringify(body));
  });
}

describe.each(['itself', 'wrapped', 'replaced'] as const)('on a socket, the handler %s', (kind) => {
  const onSocket = (factory: () => McpServer, env: AgentEnv) => serveOn(factory, env, kind);

  test('a header that is on its way out is told with the whole answer', async () => {
    const transition = { clients: ['triage'], until: Date.UTC(2030, 0, 1) };
    const { factory, env, issuer } = answering(() => ({ results: [observation(ANN)] }), undefined, { transition });
    await using served = await onSocket(factory, env);
    const more = { 'mcp-name': listResults.name, 'x-hmcp-patient': ANN };
    const got = await post(served.port, issuer.issue(ANN), request('tools/call', params()), more);
    expect(got.headers.deprecation).toBe('true');
    expect(got.headers['content-length']).toBe(`${Buffer.byteLength(got.text)}`);
    expect(JSON.parse(got.text).result.structuredContent).toEqual({ results: [observation(ANN)] });
  });

  test('an answer comes in one piece, and is the one that the handler’s fetch gives', async () => {
    const { factory, handler, env, issuer } = answering(() => ({ results: [observation(ANN, 'µ — \u{1f600}')] }));
    await using served = await onSocket(factory, env);
    const token = issuer.issue(ANN);
    const body = request('tools/call', params());
    const got = await post(served.port, token, body, { 'mcp-name': listResults.name });
    expect(got.headers['content-length']).toBe(`${Buffer.byteLength(got.text)}`);
    const inProcess = await ask(handler, 'tools/call', params(), { token });
    expect(JSON.parse(got.text)).toEqual(JSON.parse(inProcess.text));
  });

  test('a body beyond the limit is 413 and recorded', async () => {
    const { factory, env, issuer, audit } = answering(() => ({ results: [] }));
    await using served = await onSocket(factory, env);
    const got = await post(served.port, issuer.issue(ANN), { filler: 'x'.repeat(1_048_576) });
    expect(got.status).toBe(413);
    expect(audit.last).toMatchObject({ code: 413, check: 'size' });
  });

  test('a body that is no UTF-8 is a parse error', async () => {
    const { factory, env, issuer } = answering(() => ({ results: [] }));
    await using served = await onSocket(factory, env);
    const headers = { host: '127.0.0.1:4810', 'content-type': 'application/json', authorization: `Bearer ${issuer.issue(ANN)}` };
    const status = await new Promise((resolve, reject) => {
      const sent = httpRequest({ host: '127.0.0.1', port: served.port, path: '/mcp', method: 'POST', headers }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on('error', reject);
      sent.end(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]));
    });
    expect(status).toBe(400);
  });

  test('a handler sees no secret of the request it serves', async () => {
    const seen: (string | null)[] = [];
    const { env, issuer } = world({ operations: { tools: { t: READ } } });
    const factory = () => {
      const server = new McpServer({ name: 'labs', version: '1' });
      server.registerTool('t', {}, (ctx: ServerContext) => {
        for (const name of ['authorization', 'cookie', 'x-hmcp-patient']) seen.push(ctx.http?.req?.headers.get(name) ?? null);
        return { content: [] };
      });
      return server;
    };
    await using served = await onSocket(factory, env);
    const body = request('tools/call', { name: 't', arguments: {}, _meta: envelope(ANN) });
    const got = await post(served.port, issuer.issue(ANN), body, { 'mcp-name': 't', cookie: SECRET, 'x-hmcp-patient': ANN });
    expect([got.status, seen]).toEqual([200, [null, null, null]]);
  });

  test('what is sent ahead of an answer and the answer come as one stream', async () => {
    const { env, issuer } = world({ operations: { tools: { t: READ } } });
    const factory = () => {
      const server = new McpServer({ name: 'labs', version: '1' });
      patientTool(server, listResults, async () => ({ results: [observation(ANN)] }));
      server.registerTool('t', {}, async (ctx: ServerContext) => {
        const progressToken = ctx.mcpReq._meta?.progressToken ?? 0;
        await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress: 1 } });
        return { content: [], structuredContent: { done: 1 } };
      });
      return server;
    };
    await using served = await onSocket(factory, env);
    const body = request('tools/call', { name: 't', arguments: {}, _meta: { ...envelope(ANN), progressToken: 5 } });
    const got = await post(served.port, issuer.issue(ANN), body, { 'mcp-name': 't' });
    expect(got.headers['content-type']).toContain('text/event-stream');
    const messages = got.text
      .split('\n')
      .filter((line) => line.startsWith('data: '))
      .map((line) => JSON.parse(line.slice(6)) as { method?: string; result?: object });
    expect(messages.map(({ method }) => method)).toEqual(['notifications/progress', undefined]);
    expect(messages[1]?.result).toMatchObject({ structuredContent: { done: 1 }, ttlMs: 0 });
  });
});

describe('any handler on a socket', () => {
  test.each([
    ['a body', { 'content-type': 'application/json' }],
    ['a stream', { 'content-type': 'text/event-stream' }],
  ])('%s that fails on its way ends its connection, and nothing else', async (_, headers) => {
    const bodies = [new ReadableStream({ start: (controller) => controller.error(new Error(SECRET)) }), '{}'];
    const listener = nodeListener({ fetch: async () => new Response(bodies.shift() ?? null, { headers }) });
    const http = createServer(listener).listen(0, '127.0.0.1');
    await once(http, 'listening');
    const { port } = http.address() as AddressInfo;
    const first = await post(port, 'x', {}).then(
      ({ text }) => text,
      () => '',
    );
    expect(first).toBe('');
    expect((await post(port, 'x', {})).text).toBe('{}');
    http.close();
    http.closeAllConnections();
  });

  test('a caller that goes away aborts the request that was made for it', async () => {
    let found: (signal: AbortSignal) => void = () => {};
    const reached = new Promise<AbortSignal>((resolve) => {
      found = resolve;
    });
    const listener = nodeListener({
      fetch: async ({ signal }) => {
        found(signal);
        await once(signal, 'abort');
        return new Response('{}');
      },
    });
    const http = createServer(listener).listen(0, '127.0.0.1');
    await once(http, 'listening');
    const { port } = http.address() as AddressInfo;
    const sent = httpRequest({ host: '127.0.0.1', port, path: '/mcp', method: 'POST' });
    sent.on('error', () => undefined);
    sent.end('{}');
    const signal = await reached;
    const gone = once(signal, 'abort');
    sent.destroy();
    await gone;
    expect(signal.aborted).toBe(true);
    http.close();
    http.closeAllConnections();
  });
});
