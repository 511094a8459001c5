import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { createProtection } from '../src/index.js';
import { EXISTING } from './support/existing-servers.js';
import { ANN, SECRET, TestIssuer, world } from './support/world.js';

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

type Raw = IncomingMessage & { originalUrl?: string; body?: unknown };

/** A gate behind what a framework does with a request first; what passes is answered 202 with its body as the gate left it. */
async function behind(framework: (request: Raw) => Promise<void> | void) {
  const http = createServer();
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  closing.push(() => new Promise((resolve) => http.close(resolve).closeAllConnections()));
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`;
  const issuer = new TestIssuer(url);
  const { env, audit, logged } = world({ resource: url, verifier: issuer });
  const hmcp = createProtection({ ...env, operations: EXISTING });
  http.on('request', async (request: Raw, response) => {
    await framework(request);
    await hmcp.gate(request, response, () => response.writeHead(202).end(JSON.stringify(request.body)));
  });
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${issuer.issue(ANN)}` };
  return { audit, logged, send: (body: string) => fetch(url, { method: 'POST', body, headers }) };
}

async function read(request: Raw): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const message = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' });
const twice = '{"jsonrpc":"2.0","method":"ping","method":"notifications/initialized"}';

describe('the gate, mounted', () => {
  test('says which paths it answers: of the resource, and of the document a 401 points to', () => {
    const pathsOf = (resource: string) => {
      const { env } = world({ resource, verifier: new TestIssuer(resource) });
      return createProtection({ ...env, operations: EXISTING }).paths;
    };
    const document = '/.well-known/oauth-protected-resource';
    expect(pathsOf('https://labs.example/v2/mcp')).toEqual(['/v2/mcp', document, `${document}/v2/mcp`]);
    expect(pathsOf('https://labs.example/')).toEqual(['/', document]);
  });

  test.each<[string, (request: Raw) => Promise<void> | void]>([
    ['nothing', () => undefined],
    ['a router that shortens the address', (request) => void Object.assign(request, { originalUrl: request.url, url: '/' })],
    ['a parser of JSON', async (request) => void Object.assign(request, { body: JSON.parse(String(await read(request))) })],
    ['a parser of text', async (request) => void Object.assign(request, { body: String(await read(request)) })],
    ['a reader of bytes', async (request) => void Object.assign(request, { body: await read(request) })],
    ['a parser that was not asked', (request) => void Object.assign(request, { body: {} })],
  ])('decides on the body behind %s', async (_what, framework) => {
    const { send } = await behind(framework);
    const passed = await send(message);
    expect([passed.status, await passed.text()]).toEqual([202, message]);
    expect((await send('[]')).status).toBe(400);
  });

  test.each<[string, (request: Raw) => Promise<void>]>([
    ['text', async (request) => void Object.assign(request, { body: String(await read(request)) })],
    ['bytes', async (request) => void Object.assign(request, { body: await read(request) })],
  ])('a name that is there twice is seen behind a parser that left %s', async (_what, framework) => {
    expect((await (await behind(framework)).send(twice)).status).toBe(400);
  });

  test('a body that was read and left nowhere is 500, and a notice says what to do', async () => {
    const { send, logged, audit } = await behind(async (request) => void (await read(request)));
    const answer = await send(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: SECRET } }));
    expect(answer.status).toBe(500);
    const told = [await answer.text(), ...logged, JSON.stringify(audit.records)].join('\n');
    expect(told).toContain('put the gate first');
    expect(told).not.toContain(SECRET);
  });

  test('so it is in front of a web-standard transport', async () => {
    const resource = 'https://labs.example/mcp';
    const issuer = new TestIssuer(resource);
    const { env, logged } = world({ resource, verifier: issuer });
    const serve = createProtection({ ...env, operations: EXISTING }).fetch(async () => new Response(null, { status: 202 }));
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${issuer.issue(ANN)}` };
    const request = () => new Request(resource, { method: 'POST', body: message, headers });
    const read = request();
    await read.text();
    expect((await serve(read)).status).toBe(500);
    expect(logged.join()).toContain('put the gate first');
    expect((await serve(request())).status).toBe(202);
  });

  test('a request without a body is malformed, whoever read it', async () => {
    const { send, logged } = await behind(async (request) => void (await read(request)));
    expect((await send('')).status).toBe(400);
    expect(logged).toEqual([]);
  });
});
