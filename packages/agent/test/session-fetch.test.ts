import { getEventListeners } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { HmcpError, META } from '@hmcp/core';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StreamableHTTPClientTransport as StreamableHTTPClientTransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { partsOf } from '../src/agent-parts.js';
import { openSession, type Session } from '../src/index.js';
import { PeerLink } from '../src/peer-link.js';
import { listen } from './support/peer-server.js';
import { type RecordingServer, startRecordingServer } from './support/recording-server.js';
import { LABS, type SessionWorld, sessionWorld, TYPED } from './support/session-world.js';
import { ANN, BO, gate, observation, refusalOf, scopeOf, type World, world } from './support/world.js';

const closers: (() => Promise<unknown>)[] = [];
let bed: SessionWorld;
beforeEach(async () => {
  bed = await sessionWorld();
  closers.push(bed.close);
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const post = (message: unknown, more: RequestInit = {}): RequestInit => ({
  method: 'POST',
  headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
  body: typeof message === 'string' ? message : JSON.stringify(message),
  ...more,
});
const call = (id: string | number = 1, args: Record<string, unknown> = {}) => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name: 'list-results', arguments: args },
});

/** A server written by hand, which answers as a test wants. */
async function rawPeer(answer: (request: IncomingMessage, response: ServerResponse, body: string) => void) {
  const heard: { method: string; headers: IncomingMessage['headers']; body: string }[] = [];
  const http = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    heard.push({ method: request.method ?? '', headers: request.headers, body });
    answer(request, response, body);
  });
  const url = await listen(http);
  closers.push(async () => {
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  });
  return { url, heard };
}

async function sessionWith(kind: 'hmcp' | 'plain' | 'external', url: string): Promise<World & { session: Session }> {
  const made = world([{ name: 'peer', resource: url, kind, scopes: 'patient/Observation.rs' }]);
  closers.push(() => made.agent.close());
  return { ...made, session: await openSession({ agent: made.agent, grant: bed.grant(ANN) }) };
}

const json = (response: ServerResponse, value: unknown, status = 200) => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
};
const idOf = (body: string): unknown => JSON.parse(body).id;
/** What a server outside any trust would answer about somebody. */
const rows = (body: string, patient: string) => ({
  jsonrpc: '2.0',
  id: idOf(body),
  result: { structuredContent: { results: [observation(patient)] }, content: [] },
});

describe('session.fetch, asked for what it is not for,', () => {
  test.each([
    ['a request to an address nobody declared', 'http://127.0.0.1:1/mcp', post(call())],
    ['the declared address and a path more', '/x', post(call())],
    ['the declared address with a query', `?patient=${ANN}`, post(call())],
    ['a catalogue there', 'http://127.0.0.1:1/mcp', post({ jsonrpc: '2.0', id: 1, method: 'tools/list' })],
  ])('refuses %s: a JSON-RPC error 42801, audited, and nothing is sent', async (_, address, init) => {
    const { url, heard } = await rawPeer((_request, response) => json(response, {}));
    const { session, audit } = await sessionWith('hmcp', url);
    const response = await session.fetch(address.startsWith('http') ? address : `${url}${address}`, init);
    const { id, error } = (await response.json()) as { id: unknown; error: unknown };
    expect([response.status, id]).toEqual([200, 1]);
    expect(HmcpError.from(error)).toMatchObject({ code: 42801, check: 'peer' });
    expect(heard).toEqual([]);
    expect(audit.records).toMatchObject([{ event: 'hop.refused', peer: 'undeclared', code: 42801 }]);
  });

  test.each([
    ['GET', undefined],
    ['DELETE', undefined],
    ['POST', 'no message'],
    ['PUT', 'no message'],
  ])('throws 42801 for %s of an address nobody declared', async (method, body) => {
    const { session } = await sessionWith('hmcp', 'http://127.0.0.1:1/mcp');
    const error = await refusalOf(session.fetch(`http://127.0.0.1:2/?p=${ANN}`, { method, ...(body ? { body } : {}) }));
    expect([error.code, error.check]).toEqual([42801, 'peer']);
    expect(JSON.stringify(error) + String(error)).not.toContain(ANN);
  });

  test.each([
    ['nothing', undefined],
    ['no JSON', '{"jsonrpc":'],
    ['a batch', [call(1), call(2)]],
    ['null', null],
    ['no JSON-RPC', { id: 1, method: 'tools/call' }],
    ['an id that is null', { ...call(), id: null }],
    ['an id that is an object', { ...call(), id: {} }],
    ['parameters in a list', { ...call(), params: [ANN] }],
    ['a method that is no text', { ...call(), method: 7 }],
  ])('throws a TypeError for a POST of %s, and sends nothing', async (_, message) => {
    const { url, heard } = await rawPeer((_request, response) => json(response, {}));
    const { session } = await sessionWith('hmcp', url);
    const error = await session.fetch(url, message === undefined ? { method: 'POST' } : post(message)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(TypeError);
    expect(String(error)).not.toContain(ANN);
    expect(heard).toEqual([]);
  });

  test.each(['GET', 'PUT', 'PATCH', 'HEAD'])('answers %s of a peer with 405: no stream beside the requests', async (method) => {
    const { url, heard } = await rawPeer((_request, response) => json(response, {}));
    for (const kind of ['hmcp', 'plain'] as const) {
      const { session } = await sessionWith(kind, url);
      expect((await session.fetch(url, { method })).status).toBe(405);
    }
    expect(heard).toEqual([]);
  });
});

describe('what session.fetch sends', () => {
  test('is the envelope and a token of its own to an hmcp peer; headers of a context are removed, those of MCP stay', async () => {
    const { url, heard } = await rawPeer((_request, response, body) => json(response, rows(body, ANN)));
    const { session } = await sessionWith('hmcp', url);
    const headers = {
      authorization: 'Bearer stolen',
      'x-hmcp-patient': BO,
      'x-patient-id': BO,
      baggage: BO,
      'content-length': '3',
      'content-type': 'application/json',
      accept: 'application/json',
      'mcp-session-id': 's-1',
      'mcp-protocol-version': '2025-11-25',
    };
    await session.fetch(url, post(call(), { headers }));
    const [sent] = heard;
    expect(JSON.parse(sent?.body ?? '').params._meta[META.context]).toMatchObject({ patient: ANN });
    expect(sent?.headers).toMatchObject({ 'mcp-session-id': 's-1', 'mcp-protocol-version': '2025-11-25' });
    expect(sent?.headers.authorization).toMatch(/-from-grant-/);
    expect(JSON.stringify(sent)).not.toMatch(/pt-bo|stolen/);
  });

  test.each<[string, (url: string) => Parameters<typeof fetch>]>([
    ['a Request', (url: string) => [new Request(url, post(call()))]],
    ['bytes', (url: string) => [url, post(call(), { body: new TextEncoder().encode(JSON.stringify(call())) })]],
    ['a URL object', (url: string) => [new URL(url), post(call())]],
  ])('is read from %s too', async (_, asked) => {
    const { url, heard } = await rawPeer((_request, response, body) => json(response, rows(body, ANN)));
    const { session } = await sessionWith('plain', url);
    const response = await session.fetch(...asked(url));
    expect(JSON.stringify(await response.json())).toContain(ANN);
    expect(heard).toHaveLength(1);
  });

  test.each([
    { kind: 'plain' as const, event: 'hop.call' },
    { kind: 'external' as const, event: 'hop.disclosure' },
  ])('is nothing of the context to a peer declared $kind, over the transport as over fetch', async ({ kind, event }) => {
    const server: RecordingServer = await startRecordingServer();
    closers.push(server.close);
    const { session, audit, tokens } = await sessionWith(kind, server.url);
    const _meta = { [META.context]: { patient: ANN }, baggage: ANN };
    for (const transport of [
      session.transport(new StreamableHTTPClientTransport(new URL(server.url))),
      new StreamableHTTPClientTransport(new URL(server.url), { fetch: session.fetch }),
    ]) {
      const client = new Client({ name: 'any', version: '1' }, { versionNegotiation: { mode: 'auto' } });
      closers.push(() => client.close());
      await client.connect(transport);
      expect((await client.callTool({ name: 'lookup', arguments: { term: 'x' }, _meta })).structuredContent).toEqual({
        found: 3,
      });
      server.answer = { about: observation(BO) };
      const error = await client.callTool({ name: 'lookup', arguments: { term: 'x' } }).catch((reason: unknown) => reason);
      expect(HmcpError.from(error)).toMatchObject({ code: 40903, check: 'result' });
      server.answer = { found: 3 };
    }
    expect(server.bytes()).not.toMatch(/pt-ann|dev\.hmcp|grant-|intent|dr-grey/);
    expect(server.bytes().toLowerCase()).not.toMatch(/authorization|baggage|traceparent|x-hmcp/);
    expect(tokens.requests).toEqual([]);
    const [served, dropped] = [
      [event, 'hop.result'],
      [event, 'hop.dropped'],
    ];
    expect(audit.events).toEqual([served, dropped, served, dropped].flat());
  });

  test('ends the session of a connection with a token, and says only how that went', async () => {
    const { url, heard } = await rawPeer((_request, response) => response.writeHead(200).end(`bye ${ANN}`));
    const { session } = await sessionWith('hmcp', url);
    const response = await session.fetch(url, { method: 'DELETE', headers: { 'mcp-session-id': 's-1' } });
    expect([response.status, await response.text()]).toEqual([200, '']);
    expect(heard).toMatchObject([{ method: 'DELETE', headers: { 'mcp-session-id': 's-1' } }]);
    expect(heard[0]?.headers.authorization).toMatch(/-from-grant-/);
    await session.close();
    expect(await refusalOf(session.fetch(url, { method: 'DELETE' }))).toMatchObject({ code: 41001 });
    expect(heard).toHaveLength(1);
  });
});

describe('what session.fetch hands on', () => {
  const asked = async (answer: Parameters<typeof rawPeer>[0], message: unknown = call()) => {
    const { url } = await rawPeer(answer);
    const made = await sessionWith('plain', url);
    return { ...made, response: await made.session.fetch(url, post(message)) };
  };
  const events = (response: ServerResponse, text: string) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'mcp-session-id': 's-9', 'x-patient': BO });
    response.end(text);
  };

  test('is written anew: no header, event id or retry time of the peer', async () => {
    const { response } = await asked((_, out, body) =>
      events(out, `id: ${BO}\nretry: 9\ndata: ${JSON.stringify(rows(body, ANN))}\n\n`),
    );
    expect(response.headers.get('mcp-session-id')).toBe('s-9');
    const text = await response.text();
    expect(text).toContain(ANN);
    expect(text + JSON.stringify([...response.headers])).not.toMatch(/pt-bo|retry|^id:/m);
  });

  test.each([
    ['JSON', (out: ServerResponse, body: string) => json(out, rows(body, BO))],
    ['an event', (out: ServerResponse, body: string) => events(out, `data: ${JSON.stringify(rows(body, BO))}\n\n`)],
    ['an event in pieces', (out: ServerResponse, body: string) => events(out, `data:${JSON.stringify(rows(body, BO))}\r\r`)],
    ['a list of answers', (out: ServerResponse, body: string) => json(out, [rows(body, BO), rows(body, ANN)])],
    [
      'JSON of an unknown charset',
      (out: ServerResponse, body: string) => {
        out.writeHead(200, { 'content-type': 'Application/JSON; charset=x' });
        out.end(JSON.stringify(rows(body, BO)));
      },
    ],
  ])('is never another patient, sent as %s: 40903 instead', async (_, answer) => {
    const { response, audit } = await asked((_request, out, body) => answer(out, body));
    const text = await response.text();
    expect(text).toContain('"code":40903');
    expect(text).not.toMatch(/pt-bo|obs-7/);
    expect(audit.events).toContain('hop.dropped');
  });

  test.each([
    [
      'an event of another kind',
      (out: ServerResponse, body: string) => events(out, `event: x\ndata: ${JSON.stringify(rows(body, BO))}\n\n`),
    ],
    [
      'an event that does not end',
      (out: ServerResponse, body: string) => events(out, `data: ${JSON.stringify(rows(body, ANN))}\n`),
    ],
    ['an answer to another id', (out: ServerResponse) => json(out, rows('{"id":"other"}', BO))],
    ['no JSON', (out: ServerResponse) => events(out, `data: {"${BO}\n\n`)],
    ['no message', (out: ServerResponse) => json(out, { patient: BO })],
    ['an empty list', (out: ServerResponse) => json(out, [])],
    ['HTML', (out: ServerResponse) => out.writeHead(200, { 'content-type': 'text/html' }).end(BO)],
    ['202', (out: ServerResponse) => out.writeHead(202).end()],
    ['a status with text', (out: ServerResponse) => out.writeHead(500).end(BO)],
    ['a status with JSON', (out: ServerResponse) => json(out, { jsonrpc: '2.0', id: 1, error: { code: 1, message: BO } }, 400)],
    ['a redirect', (out: ServerResponse) => out.writeHead(307, { location: 'http://127.0.0.1:1/' }).end()],
    ['nothing, and hangs up', (out: ServerResponse) => out.destroy()],
  ])('is 50301 for %s', async (_, answer) => {
    const { response } = await asked((_request, out, body) => answer(out, body));
    const text = await response.text();
    expect(response.status).toBe(200);
    expect(text).toContain('"code":50301');
    expect(text).not.toMatch(/pt-bo|pt-ann/);
  });

  test.each([
    [
      'hangs up',
      (out: ServerResponse, body: string) => {
        out.writeHead(200, { 'content-type': 'text/event-stream' });
        out.write(`data: ${JSON.stringify(rows(body, ANN))}\n\n`, () => setImmediate(() => out.destroy()));
      },
    ],
    [
      'sends no JSON',
      (out: ServerResponse, body: string) => events(out, `data: ${JSON.stringify(rows(body, ANN))}\n\ndata: {\n\n`),
    ],
    ['adds what is no message to a list', (out: ServerResponse, body: string) => json(out, [rows(body, ANN), 'x'])],
  ])('is the answer that was recorded, also where the peer then %s', async (_, answer) => {
    const { response, audit } = await asked((_request, out, body) => answer(out, body));
    expect(await response.text()).toContain(ANN);
    expect(audit.events).toEqual(['hop.call', 'hop.result']);
  });

  test('is 50301 for an answer that grows out of all proportion, and no memory is filled with it', async () => {
    const { response } = await asked((_, out, body) => {
      out.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' });
      out.end(gzipSync(JSON.stringify(rows(body, ANN)).padStart(17 << 20)));
    });
    expect(await response.text()).toContain('"code":50301');
  });

  test('ends with the answer: a peer that keeps its stream open keeps nothing here, and is cut', async () => {
    const closed = gate();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const { url } = await rawPeer((_, out, body) => {
        out.on('close', closed.open);
        out.writeHead(200, { 'content-type': 'text/event-stream' });
        out.write(`data: ${JSON.stringify(rows(body, ANN))}\n\n`);
      });
      const { session } = await sessionWith('plain', url);
      const { signal } = new AbortController();
      const response = await session.fetch(url, post(call(), { signal }));
      expect(await response.text()).toContain(ANN);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
      await vi.advanceTimersByTimeAsync(5000);
      await closed.opened;
    } finally {
      vi.useRealTimers();
    }
  });

  test('of a catalogue that ends without its answer is an error, not an end', async () => {
    const { response } = await asked((_, out) => events(out, ': nothing\n\n'), { jsonrpc: '2.0', id: 1, method: 'tools/list' });
    await expect(response.text()).rejects.toThrow('the connection to the peer failed');
  });

  test('of a request of the peer is nothing: it is refused to the peer', async () => {
    const question = { jsonrpc: '2.0', id: 9, method: 'sampling/createMessage', params: {} };
    const { url, heard } = await rawPeer((_, out, body) => {
      if (!body.includes('tools/call')) out.writeHead(202).end();
      else events(out, `data: ${JSON.stringify(question)}\n\ndata: ${JSON.stringify(rows(body, ANN))}\n\n`);
    });
    const { session } = await sessionWith('plain', url);
    const text = await (await session.fetch(url, post(call()))).text();
    expect(text).not.toContain('sampling');
    await expect.poll(() => heard.map(({ body }) => body).join()).toContain('requests of a server are refused');
  });
});

describe('clients that share one session.fetch', () => {
  test('number their requests alike and get each its own answer; a cancellation that may mean two stops neither', async () => {
    const waiting: (() => void)[] = [];
    const all = gate();
    const { url, heard } = await rawPeer((_, out, body) => {
      const { text } = JSON.parse(body).params.arguments ?? {};
      const results = [{ ...observation(ANN), code: { text } }];
      waiting.push(() => json(out, { jsonrpc: '2.0', id: idOf(body), result: { structuredContent: { results }, content: [] } }));
      if (waiting.length === 2) all.open();
    });
    const { session } = await sessionWith('plain', url);
    const answers = ['one', 'two'].map(async (text) => (await session.fetch(url, post(call(7, { text })))).json());
    await all.opened;
    const cancelled = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 7 } };
    expect((await session.fetch(url, post(cancelled))).status).toBe(202);
    for (const answer of waiting.reverse()) answer();
    expect((await Promise.all(answers)).map((answer) => JSON.stringify(answer).match(/one|two/)?.[0])).toEqual(['one', 'two']);
    expect(heard).toHaveLength(2);
  });

  test('a cancellation that means one request reaches the peer, without its reason', async () => {
    const arrived = gate();
    const { url, heard } = await rawPeer((_, out, body) =>
      body.includes('tools/call') ? arrived.open() : out.writeHead(202).end(),
    );
    const { session } = await sessionWith('hmcp', url);
    const asked = session.fetch(url, post(call(7)));
    await arrived.opened;
    const params = { requestId: 7, reason: `wrong person, not ${ANN}` };
    await session.fetch(url, post({ jsonrpc: '2.0', method: 'notifications/cancelled', params }));
    expect((await asked).status).toBe(202);
    expect(heard).toHaveLength(2);
    expect(JSON.parse(heard[1]?.body ?? '').params).toEqual({ requestId: 7 });
    expect(heard[1]?.headers.authorization).toMatch(/-from-grant-/);
  });

  test('leave nothing listening on the signal they hand in for their whole life', async () => {
    const { url } = await rawPeer((_, out, body) => json(out, rows(body, ANN)));
    const { session } = await sessionWith('plain', url);
    const { signal } = new AbortController();
    await (await session.fetch(url, post(call(), { signal }))).text();
    await expect.poll(() => getEventListeners(signal, 'abort').length).toBe(0);
  });

  test('who stops reading a stream gives the request up', async () => {
    const arrived = gate();
    const { url } = await rawPeer((_, out) => {
      out.writeHead(200, { 'content-type': 'text/event-stream' });
      out.write(': hello\n\n');
      out.on('close', arrived.open);
    });
    const { session, audit } = await sessionWith('plain', url);
    const response = await session.fetch(url, post(call()));
    await response.body?.cancel();
    await arrived.opened;
    expect(audit.records.at(-1)).toMatchObject({ event: 'hop.dropped', outcome: 0 });
  });

  test('belong to their own session: inside a request of another patient 42801', async () => {
    const { url, heard } = await rawPeer((_, out, body) => json(out, rows(body, ANN)));
    const { session } = await sessionWith('plain', url);
    const response = await scopeOf(BO).run(() => session.fetch(url, post(call())));
    expect(HmcpError.from(((await response.json()) as { error: unknown }).error)).toMatchObject({
      code: 42801,
      check: 'session',
    });
    await expect(
      scopeOf(BO).run(() => session.fetch(url, post({ jsonrpc: '2.0', method: 'notifications/initialized' }))),
    ).rejects.toThrow(HmcpError);
    expect(heard).toEqual([]);
  });
});

describe('what a session cannot control', () => {
  test('a request that is still being written when the session goes on is not done about the next patient: 40901', async () => {
    const { url, heard } = await rawPeer((_, out, body) => json(out, rows(body, BO)));
    const { session } = await sessionWith('plain', url);
    let writer: ReadableStreamDefaultController<Uint8Array> | undefined;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        writer = controller;
      },
    });
    const asked = session.fetch(url, { method: 'POST', body, duplex: 'half' } as RequestInit);
    const { result } = await session.switchPatient({
      authorize: async () => bed.grant(BO),
      confirm: async () => ({ confirm: true }),
    });
    writer?.enqueue(new TextEncoder().encode(JSON.stringify(call())));
    writer?.close();
    expect(result).toBe('committed');
    const { error } = (await (await asked).json()) as { error?: unknown };
    expect(HmcpError.from(error)).toMatchObject({ code: 40901, check: 'epoch' });
    expect(heard).toEqual([]);
  });

  test.each([
    ['plain', 'POST'],
    ['external', 'POST'],
    ['plain', 'DELETE'],
  ] as const)('a %s peer that sends a %s on to another address: nothing arrives there', async (kind, method) => {
    const elsewhere = await rawPeer((_, out, body) => json(out, body === '' ? {} : rows(body, ANN)));
    const { url, heard } = await rawPeer((_, out) => out.writeHead(307, { location: elsewhere.url }).end());
    const { session } = await sessionWith(kind, url);
    const transport = session.transport(new StreamableHTTPClientTransportV1(new URL(url), { redirectPolicy: 'follow' }));
    if (method === 'DELETE') expect((await session.fetch(url, { method })).status).toBe(307);
    else expect(await refusalOf(transport.send(call() as never))).toMatchObject({ code: 50301, check: 'peer' });
    expect(heard).toHaveLength(1);
    expect(elsewhere.heard).toEqual([]);
  });

  test('a plain peer that never answers is let go of when the session closes', async () => {
    const [arrived, closed] = [gate(), gate()];
    const { url } = await rawPeer((_, out) => {
      out.on('close', closed.open);
      arrived.open();
    });
    const { session } = await sessionWith('plain', url);
    const asked = session.fetch(url, post(call()));
    await arrived.opened;
    await session.close();
    expect(await (await asked).text()).toContain('"code":40901');
    await closed.opened;
  });

  test('a peer that answers the cancellation of its request with a stream says nothing by it, and is not listened to', async () => {
    const [arrived, closed] = [gate(), gate()];
    const { url } = await rawPeer((_, out, body) => {
      if (body.includes('tools/call')) return arrived.open();
      out.on('close', closed.open);
      out.writeHead(200, { 'content-type': 'text/event-stream', 'mcp-session-id': BO });
      out.write(': hello\n\n');
    });
    const { session } = await sessionWith('plain', url);
    const asked = session.fetch(url, post(call()));
    await arrived.opened;
    await session.close();
    await closed.opened;
    expect([...(await asked).headers].join()).not.toMatch(/pt-bo/);
    expect(await (await asked).text()).toContain('"code":40901');
  });

  test('a cancellation the peer cannot be told of ends its request all the same', async () => {
    const [arrived, closed] = [gate(), gate()];
    const { url } = await rawPeer((_, out, body) => {
      if (!body.includes('tools/call')) return void out.destroy();
      out.on('close', closed.open);
      arrived.open();
    });
    const { session } = await sessionWith('plain', url);
    const asked = session.fetch(url, post(call(7)));
    await arrived.opened;
    const params = { requestId: 7 };
    const told = session.fetch(url, post({ jsonrpc: '2.0', method: 'notifications/cancelled', params }));
    await expect(told).rejects.toThrow('the connection to the peer failed');
    expect((await asked).status).toBe(202);
    await closed.opened;
  });

  test.each([
    [
      'before it is asked',
      async (stop: () => void, asked: () => Promise<unknown>) => {
        stop();
        return asked();
      },
    ],
    [
      'while it is under way',
      async (stop: () => void, asked: () => Promise<unknown>, arrived: Promise<unknown>) => {
        const answer = asked();
        await arrived;
        stop();
        return answer;
      },
    ],
  ])('a client that aborts %s learns of it as from any fetch', async (_, act) => {
    const arrived = gate();
    const { url } = await rawPeer(() => arrived.open());
    const { session, audit } = await sessionWith('plain', url);
    const stop = new AbortController();
    const asked = () => session.fetch(url, post(call(), { signal: stop.signal }));
    await expect(act(() => stop.abort(), asked, arrived.opened)).rejects.toMatchObject({ name: 'AbortError' });
    expect(audit.events).not.toContain('hop.refused');
  });

  test('a second request of an id that is under way is not sent: the first gets its own answer', async () => {
    const [arrived, go] = [gate(), gate()];
    const { url, heard } = await rawPeer(async (_, out, body) => {
      arrived.open();
      await go.opened;
      json(out, rows(body, ANN));
    });
    const { session } = await sessionWith('plain', url);
    const transport = session.transport(new StreamableHTTPClientTransportV1(new URL(url)));
    const answers: unknown[] = [];
    transport.onmessage = (message) => void answers.push(message);
    await transport.start();
    const first = transport.send(call() as never);
    await arrived.opened;
    await expect(transport.send(call() as never)).rejects.toThrow('still under way');
    await expect(transport.send({ jsonrpc: '2.0', id: 1, method: 'tools/list' })).rejects.toThrow('still under way');
    go.open();
    await first;
    await expect.poll(() => answers.length).toBe(1);
    expect(heard).toHaveLength(1);
  });

  test('a catalogue its client gave up leaves no act open', async () => {
    const { agent } = world([{ name: 'peer', resource: 'https://peer.example/mcp', kind: 'plain' }]);
    closers.push(() => agent.close());
    const ended = vi.fn();
    const { link: parts, peers } = partsOf(agent);
    const link = new PeerLink(peers.get('peer'), 'http', parts, async () => ({ scope: scopeOf(ANN), end: ended }));
    const stop = new AbortController();
    const sent = async () => undefined;
    await link.outgoing({ jsonrpc: '2.0', id: 1, method: 'tools/list' }, sent, { requestSignal: stop.signal }, () => undefined);
    expect(ended).not.toHaveBeenCalled();
    stop.abort();
    expect(ended).toHaveBeenCalled();
    await link.outgoing({ jsonrpc: '2.0', id: 1, method: 'tools/list' }, sent, {}, () => undefined);
  });

  test('the token of an http connection never travels in the message, whatever its kind is said to be', async () => {
    const { session } = await sessionWith('hmcp', 'https://peer.example/mcp');
    const transport = new StreamableHTTPClientTransport(new URL('https://peer.example/mcp'));
    expect(() => session.transport(transport, { kind: 'stdio' })).toThrow(TypeError);
  });
});

describe('in a session of a manager', () => {
  test('each request carries the seal, the intent and its epoch; after the switch those of the next patient', async () => {
    const peers = [{ name: 'labs', resource: LABS, kind: 'hmcp', scopes: 'patient/Observation.rs' }] as const;
    const sealed = await sessionWorld({ agent: { peers } });
    closers.push(sealed.close);
    const session = await sealed.open(ANN);
    const client = new Client({ name: 'any', version: '1' }, { versionNegotiation: { mode: 'auto' } });
    closers.push(() => client.close());
    await client.connect(new StreamableHTTPClientTransport(new URL(LABS), { fetch: session.fetch }));
    const ask = async () => JSON.stringify((await client.callTool({ name: 'list-results', arguments: {} })).structuredContent);
    expect(await ask()).toContain(ANN);
    await session.switchPatient({
      authorize: async () => sealed.grant(BO),
      confirm: async ({ fields, target }) =>
        fields[0]?.kind === 'yes-no' ? { [fields[0].name]: true } : { ...TYPED[target.patient] },
    });
    expect(await ask()).toContain(BO);
    expect(sealed.labs.calls.map(({ envelope, seal }) => [seal.patient, seal.epoch, envelope.intent.epoch])).toEqual([
      [ANN, 1, 1],
      [BO, 2, 2],
    ]);
    sealed.labs.fault = 'epoch';
    const error = await client.callTool({ name: 'list-results', arguments: {} }).catch((reason: unknown) => reason);
    expect(HmcpError.from(error)).toMatchObject({ code: 40901, check: 'result' });
  });

  test('a call begun without a seal gets one, also where the grant is renewed in the same breath', async () => {
    const peers = [{ name: 'labs', resource: LABS, kind: 'hmcp', scopes: 'patient/Observation.rs' }] as const;
    const sealed = await sessionWorld({ agent: { peers } });
    closers.push(sealed.close);
    const session = await sealed.open(ANN);
    sealed.network = async (_, serve) => {
      const response = await serve();
      const text = (await response.text()).replace(/("seal\\*":\\*")e/g, '$1x'); // a seal that does not fit is not used
      return new Response(text, { status: response.status, headers: response.headers });
    };
    await session.switchPatient({
      authorize: async () => sealed.grant(BO),
      confirm: async ({ fields, target }) =>
        fields[0]?.kind === 'yes-no' ? { [fields[0].name]: true } : { ...TYPED[target.patient] },
    });
    sealed.network = (_, serve) => serve();
    const asked = session.fetch(LABS, post(call()));
    session.renew(sealed.grant(BO));
    expect(JSON.stringify(await (await asked).text())).toContain(BO);
    expect(sealed.labs.calls.map(({ seal }) => [seal?.patient, seal?.epoch])).toEqual([[BO, 2]]);
  });
});
