import { createServer, request as httpRequest, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ERRORS, OTHER_ANSWERS } from '@hmcp/core';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as ClientTransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { InMemoryTransport, WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createProtection, MAX_BODY_BYTES } from '../src/index.js';
import { EXISTING, lateServer, V1, V1_LOW, V2 } from './support/existing-servers.js';
import { type Protected, protectedHttp, protectedStdio } from './support/protected-carriers.js';
import { ANN, BO, envelope, NEVER, RESOURCE, SECRET, TestIssuer, world } from './support/world.js';

const CARRIERS: readonly (readonly [string, () => Promise<Protected>])[] = [
  ['SDK v1 McpServer, HTTP without sessions', () => protectedHttp(V1)],
  ['SDK v1 McpServer, HTTP with sessions', () => protectedHttp(V1, { sessions: true })],
  ['SDK v1 Server, HTTP with sessions', () => protectedHttp(V1_LOW, { sessions: true })],
  ['SDK v1 McpServer, HTTP, body not handed on', () => protectedHttp(V1, { handsBody: false })],
  ['SDK v2 McpServer, HTTP without sessions', () => protectedHttp(V2)],
  ['SDK v2 McpServer, HTTP with sessions', () => protectedHttp(V2, { sessions: true })],
  ['SDK v1 McpServer, stdio', () => protectedStdio(V1)],
  ['SDK v1 Server, stdio', () => protectedStdio(V1_LOW)],
  ['SDK v2 McpServer, stdio', () => protectedStdio(V2)],
];
const call = (name: string, args: Record<string, unknown> = {}, more: object = {}) => ({ name, arguments: args, ...more });

describe.each(CARRIERS)('%s', (_name, make) => {
  let p: Protected;
  beforeAll(async () => {
    p = await make();
  });
  afterAll(() => p.close());
  const records = () => p.audit.records.splice(0);

  test('a declared tool is served with the patient filled in, its answer bound and recorded', async () => {
    const { result, error } = await p.ask('tools/call', call('get-labs', {}, { _meta: envelope(ANN, 'intent-7') }), 'own');
    expect(error).toBeUndefined();
    expect(JSON.stringify(result?.content)).toContain(`Patient/${ANN}`);
    expect(result?._meta).toMatchObject({ 'dev.hmcp/context': { intent: { id: 'intent-7' }, patients: [expect.any(String)] } });
    expect(p.ran()).toEqual(['get-labs']);
    expect(records()).toMatchObject([{ event: 'request.served', tool: 'get-labs', intent: 'intent-7' }]);
  });

  test('the argument for the patient is hidden from the listed tool', async () => {
    const { result, text } = await p.ask('tools/list', {}, 'own');
    expect((result?.tools as { name: string }[]).map(({ name }) => name)).toContain('get-labs');
    expect(text).not.toContain('patientId');
    records();
  });

  test('an argument that names another patient is 40903, and the handler does not run', async () => {
    const answer = await p.ask('tools/call', call('get-labs', { patientId: BO }), 'own');
    expect(answer.error).toMatchObject({ code: 40903, data: { check: 'argument' } });
    expect(p.ran()).toEqual([]);
    expect(records()).toMatchObject([{ event: 'request.refused', code: 40903, check: 'argument' }]);
  });

  test('an envelope of another patient than the token is 40903', async () => {
    const answer = await p.ask('tools/call', call('get-labs', {}, { _meta: envelope(BO) }), 'own');
    expect(answer.error).toMatchObject({ code: 40903, data: { check: 'equality' } });
    expect(p.ran()).toEqual([]);
    records();
  });

  test('a result about another patient is withheld', async () => {
    const answer = await p.ask('tools/call', call('wrong-labs'), 'own');
    expect(answer.error).toMatchObject({ code: 40903, data: { check: 'result' } });
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(p.ran()).toEqual(['wrong-labs']);
    expect(records()).toMatchObject([{ event: 'result.withheld', code: 40903 }]);
  });

  test('what a failing tool says does not leave', async () => {
    const answer = await p.ask('tools/call', call('boom'), 'own');
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(answer.result?.isError ?? answer.error !== undefined).toBe(true);
    expect(p.ran()).toEqual(['boom']);
    records();
  });

  test('a token without the scope is 403 with a challenge on HTTP, 40300 on a pipe', async () => {
    const answer = await p.ask('tools/call', call('get-labs'), 'narrow');
    if (p.http) expect(answer.status).toBe(403);
    else expect(answer.error).toMatchObject({ code: 40300, data: { check: 'scope' } });
    expect(p.ran()).toEqual([]);
    expect(records()).toMatchObject([{ event: 'request.refused', code: p.http ? 403 : 40300, check: 'scope' }]);
  });

  test.each(['none', 'invalid'] as const)('with token %s nothing is reached', async (who) => {
    const answer = await p.ask('tools/call', call('get-labs'), who);
    if (p.http) expect(answer.status).toBe(401);
    else expect(answer.error).toMatchObject({ code: 40100 });
    expect(p.ran()).toEqual([]);
    expect(records()).toMatchObject([{ event: 'request.refused', check: 'token' }]);
  });

  test.each([
    ['tools/call', call('bare')],
    ['tools/call', call('late-bare')],
    ['tools/call', call('no-such-tool')],
    ['tools/call', call('toString')],
    ['tools/call', { name: 7 }],
    ['org.example/private-bare', {}],
    ['org.example/fallback', {}],
    ['resources/read', { uri: 'chart://current' }],
    ['prompts/get', { name: 'summary' }],
    ['tasks/list', {}],
    ['__proto__', {}],
  ])('undeclared: %s %j answers 40303, however it was registered', async (method, params) => {
    const answer = await p.ask(method, params, 'own');
    expect(answer.error).toMatchObject({ code: 40303, data: { check: 'operation' } });
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(p.ran()).toEqual([]);
    records();
  });

  test('whom a subscription is about is decided too', async () => {
    const listen = (uris: string[], who: 'own' | 'narrow') =>
      p.ask('subscriptions/listen', { notifications: { resourceSubscriptions: uris } }, who);
    expect((await listen(['chart://hidden'], 'own')).error).toMatchObject({ code: 40303 });
    const narrow = await listen(['chart://labs'], 'narrow');
    if (p.http) expect(narrow.status).toBe(403);
    else expect(narrow.error).toMatchObject({ code: 40300 });
    expect(records()).toMatchObject([{ code: 40303 }, { code: p.http ? 403 : 40300 }]);
    expect(p.ran()).toEqual([]);
  });

  test('what is registered late or in private is served once it is declared', async () => {
    expect((await p.ask('tools/call', call('late'), 'own')).error).toBeUndefined();
    expect((await p.ask('org.example/private', {}, 'own')).result).toMatchObject({ answer: 'done' });
    expect(p.ran()).toEqual(['late', 'org.example/private']);
    records();
  });

  test('no handler is given the token', async () => {
    await p.ask('tools/call', call('get-labs'), 'own', { cookie: 'a=b' });
    expect(p.ran()).toEqual(['get-labs']);
    if (p.http) expect(p.seen.length).toBeGreaterThan(0);
    for (const text of p.seen) expect(text).not.toMatch(/token-\d|a=b/);
    records();
  });
});

describe('the gate', () => {
  let p: Protected;
  beforeAll(async () => {
    p = await protectedHttp(V1, { sessions: true });
  });
  afterAll(() => p.close());

  test('serves the metadata document, and says where it is in a 401', async () => {
    const where = new URL('/.well-known/oauth-protected-resource/mcp', p.url);
    expect(await (await fetch(where)).json()).toMatchObject({
      resource: p.url,
      scopes_supported: ['patient/Condition.rs', 'patient/Observation.rs'],
    });
    const response = await fetch(p.url, { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } });
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toContain(where.href);
  });

  test.each([
    ['GET', '/mcp', {}, 405],
    ['PUT', '/mcp', {}, 405],
    ['OPTIONS', '/mcp', {}, 405],
    ['POST', '/mcp/', {}, 404],
    ['GET', '/MCP', {}, 404],
    ['POST', '/mcp%2f', {}, 404],
    ['POST', '/', {}, 404],
    ['DELETE', '/mcp', {}, 401],
    ['POST', '/mcp', { host: 'evil.example' }, 403],
    ['POST', '/mcp', { origin: 'https://evil.example' }, 403],
    ['POST', '/mcp', { authorization: ['Bearer token-1', 'Bearer token-2'] }, 400],
    ['POST', '/mcp', { 'content-type': 'text/plain' }, 415],
  ])('%s %s with %j is %i before anything else', async (method, path, headers, status) => {
    const answered = await new Promise<number>((resolve, reject) => {
      const all = { 'content-type': 'application/json', ...headers } as Record<string, string>;
      const request = httpRequest(new URL(path, p.url), { method, headers: all }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      request.once('error', reject);
      request.end(method === 'POST' ? '{"jsonrpc":"2.0","id":1,"method":"ping"}' : undefined);
    });
    expect(answered).toBe(status);
    expect(p.ran()).toEqual([]);
  });

  test.each([
    ['over the limit', `"${'x'.repeat(MAX_BODY_BYTES)}"`, 413],
    ['far over the limit', `"${'x'.repeat(5 * MAX_BODY_BYTES)}"`, 413],
    ['of a batch', '[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400],
    ['with a repeated name', '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', 400],
    ['that is no JSON', '{', 400],
  ])('a body %s is refused', async (_what, body, status) => {
    const authorization = `Bearer ${p.issuer.issue(ANN)}`;
    const headers = { 'content-type': 'application/json', authorization };
    expect((await fetch(p.url, { method: 'POST', body, headers })).status).toBe(status);
  });

  test('a session is its first caller’s: another one’s token is 404, and does not end it', async () => {
    const thief = p.issuer.issue(ANN, { clientId: 'thief' });
    const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
    const stolen = { ...headers, authorization: `Bearer ${thief}`, 'mcp-session-id': 'session-1' };
    p.audit.records.splice(0);
    const body = JSON.stringify({ jsonrpc: '2.0', id: 9, method: 'tools/call', params: call('get-labs') });
    expect((await fetch(p.url, { method: 'POST', body, headers: stolen })).status).toBe(404);
    expect((await fetch(p.url, { method: 'DELETE', headers: stolen })).status).toBe(404);
    expect(p.audit.records).toMatchObject([
      { code: 404, check: 'session' },
      { code: 404, check: 'session' },
    ]);
    expect(p.ran()).toEqual([]);
    expect((await p.ask('tools/call', call('get-labs'), 'own')).error).toBeUndefined();
    p.ran();
  });

  test('a client of SDK v1 opens a session, calls in it, and ends it', async () => {
    const authorization = `Bearer ${p.issuer.issue(ANN)}`;
    const client = new ClientV1({ name: 'any', version: '1' });
    const transport = new ClientTransportV1(new URL(p.url), { requestInit: { headers: { authorization } } });
    await client.connect(transport as never);
    expect(client.getServerCapabilities()).toMatchObject({ extensions: { 'dev.hmcp/context': { context: 'token' } } });
    expect(JSON.stringify(await client.callTool(call('get-labs')))).toContain(ANN);
    await expect(client.callTool(call('bare'))).rejects.toMatchObject({ code: 40303 });
    await transport.terminateSession();
    await client.close();
    expect(p.ran()).toEqual(['get-labs']);
  });
});

describe('half a protection', () => {
  test.each([
    ['SDK v1', V1],
    ['SDK v2', V2],
  ])('%s: a transport without a gate in front is reached by nobody, whatever the body brings', async (_name, sdk) => {
    const p = await protectedHttp(sdk, { gated: false });
    const token = p.issuer.issue(ANN);
    for (const [method, params] of [
      ['tools/call', call('get-labs')],
      ['tools/call', call('get-labs', {}, { _meta: { 'dev.hmcp/authorization': token } })],
      ['tools/list', {}],
    ] as const) {
      expect((await p.ask(method, params, 'own')).error).toMatchObject({ code: 40100, data: { check: 'token' } });
    }
    expect(p.ran()).toEqual([]);
    await p.close();
  });

  test.each([
    ['SDK v1', V1],
    ['SDK v2', V2],
  ])('%s: an answer of a transport that nobody protected is withheld', async (_name, sdk) => {
    const p = await protectedHttp(sdk, { protects: false });
    for (const [method, params] of [
      ['tools/call', call('wrong-labs')],
      ['tools/list', {}],
    ] as const) {
      const answer = await p.ask(method, params, 'own');
      // An answer, not a failure of the connection; and nothing on the console of the SDK's HTTP layer.
      expect(answer.status).toBe(200);
      expect(answer.error).toEqual({ code: -32603, message: 'Internal error: the transport of this server is not protected' });
      for (const word of NEVER) expect(answer.text).not.toContain(word);
      expect(p.audit.last).toMatchObject({ event: 'result.withheld', code: -32603, method });
    }
    const notice = 'an answer of a transport that is not protected was withheld: hand each transport to `protect`';
    expect(p.logged.map((line) => JSON.parse(line))).toEqual([{ notice }, { notice }]);
    p.audit.failing = true;
    expect((await p.ask('tools/call', call('wrong-labs'), 'own')).error).toMatchObject({ code: 50302 });
    await p.close();
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ['with its head first', (response) => response.writeHead(200, { 'x-row': BO }).end(BO)],
    [
      'as a stream',
      (response) => {
        response.writeHead(200).flushHeaders();
        response.write(BO);
        response.end(BO);
      },
    ],
    ['without a head', (response) => void response.end(BO)],
    [
      'piece by piece, without a head',
      (response) => {
        for (const row of [BO, BO]) response.write(row);
        response.end();
      },
    ],
    [
      'after its head was flushed',
      (response) => {
        response.flushHeaders();
        response.end(BO);
      },
    ],
    ['later', (response) => void setImmediate(() => response.setHeader('x-row', BO).end(BO))],
  ])('what nobody protected and writes %s goes nowhere', async (_how, write) => {
    const http = createServer();
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`;
    const issuer = new TestIssuer(url);
    const { env, audit } = world({ resource: url, verifier: issuer });
    const hmcp = createProtection({ ...env, operations: EXISTING });
    http.on('request', (request, response) => void hmcp.gate(request, response, () => write(response)));
    const response = await fetch(url, {
      method: 'POST',
      body: JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'tools/call', params: call('get-labs') }),
      headers: { 'content-type': 'application/json', authorization: `Bearer ${issuer.issue(ANN)}` },
    });
    const text = await response.text();
    expect([response.status, JSON.parse(text)]).toMatchObject([200, { id: 7, error: { code: -32603 } }]);
    expect(text + JSON.stringify([...response.headers])).not.toContain(BO);
    expect(audit.records).toMatchObject([{ event: 'result.withheld', check: 'result' }]);
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  });

  test('a body that earlier middleware read is checked as it read it', async () => {
    const http = createServer();
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`;
    const issuer = new TestIssuer(url);
    const { env } = world({ resource: url, verifier: issuer });
    const hmcp = createProtection({ ...env, operations: EXISTING });
    http.on('request', async (request, response) => {
      let text = '';
      for await (const chunk of request.setEncoding('utf8')) text += chunk;
      Object.assign(request, { body: JSON.parse(text) });
      await hmcp.gate(request, response, () => response.writeHead(202).end(JSON.stringify((request as { body?: unknown }).body)));
    });
    const token = issuer.issue(ANN);
    const send = (body: unknown) =>
      fetch(url, {
        method: 'POST',
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      });
    const message = { jsonrpc: '2.0', method: 'notifications/initialized' };
    expect((await send(message)).status).toBe(202);
    expect((await send([message])).status).toBe(400);
    await new Promise((resolve) => http.close(resolve));
  });

  test.each([
    ['a caller that goes away', false, { event: 'result.withheld', code: 40901 }],
    ['a session that ends', true, { event: 'request.refused', reason: 'cancelled by the caller' }],
  ])('%s ends the request: what the handler says then is withheld', async (_what, sessions, record) => {
    const late = lateServer();
    const p = await protectedHttp(late.sdk, { sessions });
    const leaving = new AbortController();
    const authorization = `Bearer ${p.issuer.issue(ANN)}`;
    const session: Record<string, string> = sessions ? { 'mcp-session-id': 'session-1' } : {};
    const headers = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      authorization,
      ...session,
    };
    const body = JSON.stringify({ jsonrpc: '2.0', id: 99, method: 'tools/call', params: call('late') });
    const asked = fetch(p.url, { method: 'POST', body, headers, signal: leaving.signal })
      .then((response) => response.text())
      .catch(() => '');
    await late.running;
    if (sessions) expect((await fetch(p.url, { method: 'DELETE', headers })).status).toBe(200);
    else leaving.abort();
    expect(await asked).toBe('');
    await vi.waitFor(() => expect(p.audit.records).toMatchObject([record]));
    await p.close();
  });

  test('what fails behind the gate is 500, and says nothing', async () => {
    const http = createServer();
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`;
    const issuer = new TestIssuer(url);
    const hmcp = createProtection({ ...world({ resource: url, verifier: issuer }).env, operations: EXISTING });
    http.on('request', (request, response) => void hmcp.gate(request, response, () => Promise.reject(new Error(SECRET))));
    const response = await fetch(url, {
      method: 'POST',
      body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${issuer.issue(ANN)}` },
    });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain(SECRET);
    await new Promise((resolve) => http.close(resolve));
  });
});

describe('createProtection', () => {
  const protection = () => {
    const { env, issuer, audit } = world();
    return { hmcp: createProtection({ ...env, operations: EXISTING }), issuer, audit };
  };

  test('refuses a transport that is connected, or protected already', () => {
    const { hmcp } = protection();
    const [near, far] = InMemoryTransport.createLinkedPair();
    near.onmessage = () => undefined;
    expect(() => hmcp.protect(near)).toThrow(new TypeError('protect a transport before it is connected'));
    hmcp.protect(far);
    expect(() => hmcp.protect(far)).toThrow(new TypeError('the transport is protected already'));
  });

  test('a handler that stood on the transport before the server gets each message once, decided', async () => {
    const { hmcp, issuer } = protection();
    const ran: string[] = [];
    const [near, far] = InMemoryTransport.createLinkedPair();
    const transport = hmcp.protect(far, { accessToken: issuer.issue(ANN) });
    const methods: unknown[] = [];
    transport.onmessage = (message) => methods.push((message as { method?: unknown }).method);
    await V2.server((what) => ran.push(what)).connect(transport);
    const answers: unknown[] = [];
    const settled = new Promise<void>((resolve) => {
      near.onmessage = (message) => {
        if (!('id' in message)) return; // the list of tools changed
        answers.push(message);
        if (answers.length === 2) resolve();
      };
    });
    await near.start();
    await near.send({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: call('bare') });
    await near.send({ jsonrpc: '2.0', id: 2, method: 'tools/call', params: call('get-labs') });
    await settled;
    expect(answers).toMatchObject([
      { id: 1, error: { code: 40303 } },
      { id: 2, result: {} },
    ]);
    // The lists are what the guard itself asked for, after the first refusal and before the first call of a tool.
    expect([methods, ran]).toEqual([['tools/list', 'tools/list', 'tools/call'], ['get-labs']]);
    await near.close();
  });

  test.each([
    ['beside a token of the request', (own: string) => ({ 'dev.hmcp/authorization': own }), 40100],
    ['alone', () => ({}), undefined],
  ])('a pinned token %s: %s %s', async (_how, meta, code) => {
    const { hmcp, issuer } = protection();
    const own = issuer.issue(ANN);
    const [near, far] = InMemoryTransport.createLinkedPair();
    await V1.server(() => undefined).connect(hmcp.protect(far, { accessToken: own }));
    const answer = new Promise<unknown>((resolve) => {
      near.onmessage = (message) => 'id' in message && resolve(message);
    });
    await near.start();
    await near.send({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: call('get-labs', {}, { _meta: meta(own) }) });
    expect(await answer).toMatchObject(code === undefined ? { result: {} } : { error: { code } });
    await near.close();
  });

  test('a server that hands another caller’s request to a session is refused by the guard', async () => {
    const { hmcp, issuer } = protection();
    const ran: string[] = [];
    const transport = new WebStandardStreamableHTTPServerTransport({ sessionIdGenerator: () => 'one-for-all' });
    await V2.server((what) => ran.push(what)).connect(hmcp.protect(transport));
    // Routes everybody to one session, whatever they ask for.
    const serve = hmcp.fetch((request, passed) => {
      const headers = new Headers(request.headers);
      if (ran.push('routed') > 1) headers.set('mcp-session-id', 'one-for-all');
      return transport.handleRequest(new Request(request, { headers }), passed);
    });
    const send = async (token: string, method: string, params: object) => {
      const accept = 'application/json, text/event-stream';
      const headers = { 'content-type': 'application/json', accept, authorization: `Bearer ${token}` };
      const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
      return (await serve(new Request(RESOURCE, { method: 'POST', body, headers }))).text();
    };
    const clientInfo = { name: 'test', version: '1' };
    await send(issuer.issue(ANN), 'initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo });
    const stranger = await send(issuer.issue(BO, { subject: 'dr-other' }), 'tools/call', call('get-labs'));
    expect(stranger).toContain('"code":40100');
    expect(await send(issuer.issue(ANN), 'tools/call', call('get-labs'))).toContain(ANN);
    expect(ran.filter((what) => what !== 'routed')).toEqual(['get-labs']);
  });

  test('refuses an operation without scope at the start', () => {
    const { env } = world();
    const start = () => createProtection({ ...env, operations: { tools: { x: { scope: ' ', patientArgument: null } } } });
    expect(start).toThrow('without scope');
    expect(start).toThrow(`40303 operation_undeclared, ${ERRORS[40303].says}. Mend: ${ERRORS[40303].mend}.`);
  });

  test('refuses a verifier of another resource at the start, in the words of the answer it would come to', () => {
    const { env } = world();
    const start = () => createProtection({ ...env, resource: 'http://127.0.0.1:4811/mcp', operations: {} });
    expect(start).toThrow(`401 unauthorized, ${OTHER_ANSWERS[401].says}. Mend: ${OTHER_ANSWERS[401].mend}.`);
  });

  test.each([
    ['own', 'get-labs', 200, undefined],
    ['own', 'bare', 200, 40303],
    ['narrow', 'get-labs', 403, undefined],
    ['none', 'get-labs', 401, undefined],
  ] as const)('a web-standard server: token %s, tool %s is %i %s', async (who, tool, status, code) => {
    const { hmcp, issuer } = protection();
    const ran: string[] = [];
    const serve = hmcp.fetch(async (request, passed) => {
      expect(request.headers.get('authorization')).toBeNull();
      const transport = new WebStandardStreamableHTTPServerTransport({});
      await V2.server((what) => ran.push(what)).connect(hmcp.protect(transport));
      return transport.handleRequest(request, passed);
    });
    const token = { own: issuer.issue(ANN), narrow: issuer.issue(ANN, { scope: 'patient/Condition.rs' }), none: undefined }[who];
    const response = await serve(
      new Request(RESOURCE, {
        method: 'POST',
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: call(tool) }),
        headers: {
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
      }),
    );
    expect(response.status).toBe(status);
    const text = await response.text();
    if (status === 200) expect(text).toContain(code === undefined ? ANN : `"code":${code}`);
    expect(ran).toEqual(status === 200 && code === undefined ? ['get-labs'] : []);
  });

  test('a web-standard server that nobody protected says nothing', async () => {
    const { hmcp, issuer } = protection();
    const serve = hmcp.fetch(async () => Response.json({ result: BO }));
    const response = await serve(
      new Request(RESOURCE, {
        method: 'POST',
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: call('get-labs') }),
        headers: { 'content-type': 'application/json', authorization: `Bearer ${issuer.issue(ANN)}` },
      }),
    );
    expect([response.status, await response.json()]).toEqual([
      200,
      {
        jsonrpc: '2.0',
        id: 1,
        error: { code: -32603, message: 'Internal error: the transport of this server is not protected' },
      },
    ]);
  });
});
