import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { McpServer } from '@modelcontextprotocol/server';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createHmcpHandler, createProtection, defineAgent, nodeListener, serve } from '../src/index.js';
import { EXISTING, lateServer } from './support/existing-servers.js';
import { protectedHttp } from './support/protected-carriers.js';
import { ANN, RESOURCE, world } from './support/world.js';

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function listening(http: ReturnType<typeof createServer>): Promise<number> {
  await once(http.listen(0, '127.0.0.1'), 'listening');
  closing.push(() => new Promise((resolve) => http.close(resolve).closeAllConnections()));
  return (http.address() as AddressInfo).port;
}

/** Everything a server writes until it closes the connection. */
async function said(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (chunk) => {
    text += String(chunk);
  });
  socket.write(bytes);
  await once(socket, 'close');
  return text;
}

const FRONTS = ['serve', 'gate'] as const;

/** A handler of this package, or a gate in front of somebody else's; what passes a gate is answered 202. */
async function front(kind: (typeof FRONTS)[number]) {
  const { env, issuer, logged, audit } = world();
  const token = issuer.issue(ANN);
  if (kind === 'serve') {
    const factory = () => new McpServer({ name: 'labs', version: '1' });
    const served = await serve(
      defineAgent('labs', () => createHmcpHandler(factory, env)),
      env,
    );
    closing.push(() => served.close());
    return { port: served.port, token, logged, audit };
  }
  const hmcp = createProtection({ ...env, operations: EXISTING });
  const http = createServer((request, response) => void hmcp.gate(request, response, () => response.writeHead(202).end()));
  return { port: await listening(http), token, logged, audit };
}

const HOST = new URL(RESOURCE).host;
const body = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' });

describe.each(FRONTS)('an odd request (%s)', (kind) => {
  const asked = async (line: string, { host = HOST, more = '' } = {}) => {
    const { port, token, logged } = await front(kind);
    const head = `Host: ${host}\r\nContent-Type: application/json\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n`;
    const accept = 'Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n';
    const text = await said(port, `${line} HTTP/1.1\r\n${head}${accept}${more}Content-Length: ${body.length}\r\n\r\n${body}`);
    return { status: Number(text.split(' ')[1]), logged };
  };

  test('whose target names its host, as to a proxy, is served there, whatever its header says', async () => {
    expect((await asked(`POST ${RESOURCE}`)).status).toBe(202);
    expect((await asked(`POST ${RESOURCE}`, { host: 'elsewhere.example' })).status).toBe(202);
  });

  test.each([
    ['a target at another host', `POST http://elsewhere.example/mcp`, {}, 403],
    ['a target that begins with two slashes', 'POST //elsewhere.example/mcp', {}, 404],
    ['a target that only seems to name a host', 'POST //[/mcp', {}, 404],
    ['a target that is no address', 'POST http://[/mcp', {}, 400],
    ['a method no request of the web has', 'TRACE /mcp', {}, 400],
    ['two content types', 'POST /mcp', { more: 'Content-Type: text/plain\r\n' }, 415],
    ['two hosts', 'POST /mcp', { more: 'Host: elsewhere.example\r\n' }, kind === 'serve' ? 400 : 403],
  ])('with %s is refused as the caller’s mistake, and no operator is told', async (_what, line, more, status) => {
    const answer = await asked(line, more);
    expect([answer.status, answer.logged]).toEqual([status, []]);
  });

  test('that ends halfway is nobody’s fault here', async () => {
    const { port, token, logged, audit } = await front(kind);
    const socket = connect(port, '127.0.0.1');
    const head = `Host: ${HOST}\r\nContent-Type: application/json\r\nAuthorization: Bearer ${token}\r\n`;
    socket.write(`POST /mcp HTTP/1.1\r\n${head}Expect: 100-continue\r\nContent-Length: 100\r\n\r\n{"json`);
    await once(socket, 'data'); // it waits for the rest
    socket.resetAndDestroy();
    const other = `POST /mcp HTTP/1.1\r\n${head}Connection: close\r\nContent-Length: 2\r\n\r\n[]`;
    expect(await said(port, other)).toContain(' 400 ');
    expect([logged, audit.records.length]).toEqual([[], 1]);
  });
});

test('a listener behind somebody who read the body answers, and does not wait for it for ever', async () => {
  const listener = nodeListener({ fetch: async () => new Response('served') });
  const http = createServer(async (request, response) => {
    for await (const _ of request);
    listener(request, response);
  });
  const port = await listening(http);
  expect(await said(port, 'POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}')).toContain(' 500 ');
});

test.each(['text/plain', 'text/event-stream'])('every cookie of an answer of %s is set', async (type) => {
  const headers: [string, string][] = [
    ['content-type', type],
    ['set-cookie', 'a=1'],
    ['set-cookie', 'b=2'],
  ];
  const port = await listening(createServer(nodeListener({ fetch: async () => new Response('x', { headers }) })));
  const text = await said(port, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  expect(text.toLowerCase().match(/set-cookie: .=./g)).toEqual(['set-cookie: a=1', 'set-cookie: b=2']);
});

test('an answer that was fetched elsewhere is framed once, whatever framed it there', async () => {
  const fetched = () => new Response('hello', { headers: { 'transfer-encoding': 'chunked', 'content-length': '99' } });
  const port = await listening(createServer(nodeListener({ fetch: async () => fetched() })));
  const text = await said(port, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  expect(text.toLowerCase()).not.toContain('transfer-encoding');
  expect(text).toMatch(/content-length: 5\r\n.*\r\n\r\nhello$/s);
});

test('a caller that goes away ends its request, though nobody holds the request any more', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const late = lateServer();
  const p = await protectedHttp(late.sdk);
  closing.push(() => p.close());
  const leaving = new AbortController();
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    authorization: `Bearer ${p.issuer.issue(ANN)}`,
  };
  const call = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'late', arguments: {} } });
  const gone = fetch(p.url, { method: 'POST', body: call, headers, signal: leaving.signal }).catch(() => 'gone');
  await late.running;
  for (let round = 0; round < 4; round += 1) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  leaving.abort();
  await gone;
  await vi.waitFor(() => expect(p.audit.records).toMatchObject([{ event: 'result.withheld', code: 40901 }]));
});
