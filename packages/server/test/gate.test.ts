import { once } from 'node:events';
import { connect } from 'node:net';
import { createTokenVerifier } from '@hmcp/auth';
import { McpServer } from '@modelcontextprotocol/server';
import { describe, expect, test } from 'vitest';
import { type AgentEnv, createHmcpHandler, defineAgent, MAX_BODY_BYTES, MAX_DEPTH, patientTool, serve } from '../src/index.js';
import { ask, post, request } from './support/wire.js';
import { ANN, BO, envelope, FHIR, listResults, NEVER, observation, RESOURCE, world } from './support/world.js';

function labs(more: Partial<AgentEnv> = {}) {
  const w = world(more);
  const calls: string[] = [];
  const factory = () => {
    const server = new McpServer({ name: 'labs', version: '1' });
    patientTool(server, listResults, () => {
      calls.push('list-results');
      return { results: [observation(ANN)] };
    });
    return server;
  };
  const handler = createHmcpHandler(factory, w.env);
  return { ...w, calls, factory, handler, own: w.issuer.issue(ANN) };
}

const CALL = { name: 'list-results', arguments: {} };
const legacyCall = JSON.stringify(request('tools/call', CALL, 'legacy'));

describe('size and syntax', () => {
  const nested = (depth: number) =>
    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}}`;

  test.each([
    ['no JSON', '{"jsonrpc":', 400, -32700],
    ['nothing', '', 400, -32700],
    ['a BOM', `\uFEFF${legacyCall}`, 400, -32700],
    ['a repeated name', '{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', 400, -32600],
    [
      'a repeated name deep inside, written with escapes',
      '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"patient":"a","p\\u0061tient":"b"}}',
      400,
      -32600,
    ],
    ['a batch', `[${legacyCall}]`, 400, -32600],
    ['an empty batch', '[]', 400, -32600],
    ['a number', '7', 400, -32600],
    ['null', 'null', 400, -32600],
    ['nesting beyond the limit', nested(MAX_DEPTH), 400, -32600],
    ['nesting that exhausts a stack', nested(100_000), 400, -32600],
  ])('%s is %i %i, recorded, and no token is looked at', async (_what, body, status, code) => {
    const { handler, audit, calls } = labs();
    const answer = await post(handler, body);
    expect(answer).toMatchObject({ status, error: { code } });
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(audit.records).toMatchObject([{ event: 'request.refused', code: status, check: 'size' }]);
    expect(calls).toEqual([]);
  });

  test('nesting up to the limit is read', async () => {
    const { handler, own } = labs();
    expect((await post(handler, nested(MAX_DEPTH - 2), { token: own })).status).toBe(200);
  });

  test('bytes that are no UTF-8 are 400', async () => {
    const { handler } = labs();
    expect(await post(handler, new Uint8Array([0x7b, 0xff, 0x7d]))).toMatchObject({ status: 400, error: { code: -32700 } });
  });

  test('a body beyond the limit is 413, and is not read to its end', async () => {
    const { handler, audit } = labs();
    let pulled = 0;
    const endless = new ReadableStream({
      pull(controller) {
        pulled += 1;
        controller.enqueue(new Uint8Array(65_536).fill(32));
      },
    });
    expect((await post(handler, endless)).status).toBe(413);
    expect(pulled).toBeLessThan(MAX_BODY_BYTES / 65_536 + 4);
    expect(audit.last).toMatchObject({ code: 413, check: 'size' });
  });

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonp',
    '',
  ])('content type %j is 415', async (type) => {
    const { handler } = labs();
    expect((await post(handler, legacyCall, { headers: { 'content-type': type } })).status).toBe(415);
  });

  test.each(['GET', 'PUT', 'DELETE', 'HEAD', 'OPTIONS'])('%s is 405', async (method) => {
    const { handler } = labs();
    const response = await handler.fetch(new Request(RESOURCE, { method }));
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('POST');
  });
});

describe('host and origin', () => {
  test.each([
    ['another host', { host: 'evil.example' }],
    ['another port', { host: '127.0.0.1:4811' }],
    ['another origin', { origin: 'https://evil.example' }],
    ['no origin of its own', { origin: 'null' }],
  ])('%s is 403 before the token is looked at', async (_what, headers) => {
    const { handler, audit, calls, own } = labs();
    const answer = await post(handler, legacyCall, { token: own, headers });
    expect(answer.status).toBe(403);
    expect(answer.headers.get('www-authenticate')).toBeNull();
    expect(audit.records).toMatchObject([{ event: 'request.refused', code: 403, check: 'header' }]);
    expect(calls).toEqual([]);
  });

  test('its own and a listed origin may call', async () => {
    const { handler, own } = labs({ allowedOrigins: ['https://portal.example'] });
    for (const origin of ['http://127.0.0.1:4810', 'https://portal.example']) {
      expect((await post(handler, legacyCall, { token: own, headers: { origin } })).status).toBe(200);
    }
  });

  test('another path is 404', async () => {
    const { handler } = labs();
    expect((await handler.fetch(new Request(`${new URL(RESOURCE).origin}/other`, { method: 'POST' }))).status).toBe(404);
  });
});

describe('Authorization', () => {
  const metadata = 'resource_metadata="http://127.0.0.1:4810/.well-known/oauth-protected-resource/mcp"';

  test('no credentials are 401 with a challenge that names no error', async () => {
    const { handler, audit } = labs();
    const answer = await post(handler, legacyCall);
    expect(answer.status).toBe(401);
    expect(answer.headers.get('www-authenticate')).toBe(`Bearer ${metadata}`);
    expect(audit.records).toMatchObject([{ event: 'request.refused', code: 401, check: 'token' }]);
  });

  const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

  test.each([
    ['no token', {}, 401],
    ['a host that is not served', { host: 'elsewhere.example' }, 403],
    ['a malformed header', { 'x-hmcp-patient': 'Patient/x' }, 400],
    ['another content type', { 'content-type': 'text/plain' }, 415],
  ])('a refusal for %s is recorded with the trace of its request, by which its caller finds it', async (_, more, code) => {
    const { handler, audit } = labs();
    await post(handler, legacyCall, { headers: { traceparent: trace, ...more } });
    expect(audit.records).toMatchObject([{ code, traceparent: trace }]);
  });

  test.each([
    '',
    'pt-ann-4711',
    `${trace}-pt-ann-4711`,
    trace.toUpperCase(),
    `01${trace.slice(2)}`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-0af7651916cd43dd8448eb211c80319c-${'0'.repeat(16)}-01`,
    `${trace}, ${trace}`,
  ])('a trace that is malformed, %j, is not recorded', async (traceparent) => {
    const { handler, audit } = labs();
    await post(handler, legacyCall, { headers: { traceparent } });
    expect(audit.records).toMatchObject([{ code: 401 }]);
    expect(audit.last?.traceparent).toBeUndefined();
  });

  test('a token that does not verify is 401 invalid_token, and stands nowhere', async () => {
    const { handler, audit, logged } = labs();
    const answer = await post(handler, legacyCall, { token: 'forged-token' });
    expect(answer.status).toBe(401);
    expect(answer.headers.get('www-authenticate')).toContain('error="invalid_token"');
    expect(answer.headers.get('www-authenticate')).toContain(metadata);
    expect(JSON.stringify([answer, [...answer.headers], audit.records, logged])).not.toContain('forged-token');
  });

  test('a token in the query is 400', async () => {
    const { handler, own } = labs();
    const url = `${RESOURCE}?access_token=${own}`;
    const headers = { 'content-type': 'application/json' };
    const response = await handler.fetch(new Request(url, { method: 'POST', body: legacyCall, headers }));
    expect(response.status).toBe(400);
    expect(response.headers.get('www-authenticate')).toContain('error="invalid_request"');
  });

  test('a token in the body, as on a pipe, is 400', async () => {
    const { handler, own, calls } = labs();
    const answer = await ask(handler, 'tools/call', { ...CALL, _meta: { 'dev.hmcp/authorization': own } }, { token: own });
    expect(answer.status).toBe(400);
    expect(calls).toEqual([]);
  });

  test.each([
    'Bearer a, Bearer b',
    'Bearer',
    'Bearer a b',
    'Bearer ä'.normalize('NFKD').replace(/[^\x20-\x7e]/g, '~~ ~'),
  ])('malformed credentials are 400: %s', async (authorization) => {
    const { handler } = labs();
    expect((await post(handler, legacyCall, { headers: { authorization } })).status).toBe(400);
  });

  test('keys that cannot be fetched are 503 with Retry-After, never 401', async () => {
    const issuer = 'http://127.0.0.1:9/as';
    const verifier = createTokenVerifier({
      resource: RESOURCE,
      issuers: [{ issuer, fhirServer: FHIR }],
      fetch: async () => Promise.reject(new Error('connect ECONNREFUSED 127.0.0.1:9')),
    });
    const { handler, audit } = labs({ verifier });
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const token = `${part({ alg: 'ES256', typ: 'at+jwt', kid: 'k1' })}.${part({ iss: issuer })}.c2ln`;
    const answer = await post(handler, legacyCall, { token });
    expect(answer.status).toBe(503);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(answer.text).not.toContain('ECONNREFUSED');
    expect(audit.records).toMatchObject([{ event: 'request.refused', code: 503, check: 'token' }]);
  });

  test('a verifier that breaks is a refusal, and its text goes nowhere', async () => {
    const verifier = { resource: RESOURCE, verify: async () => Promise.reject(new TypeError(`row of ${ANN}`)) };
    const { handler, logged } = labs({ verifier });
    const answer = await post(handler, legacyCall, { token: 'x' });
    expect(answer.status).toBe(401);
    expect(answer.text + JSON.stringify(logged)).not.toContain(ANN);
  });

  test('a refusal that cannot be recorded is 50302 and says nothing else', async () => {
    const { handler, audit } = labs();
    audit.failing = true;
    const answer = await post(handler, legacyCall);
    expect(answer).toMatchObject({ status: 200, error: { code: 50302, data: { check: 'audit', retry: 'same' } } });
  });
});

describe('scope', () => {
  test.each([
    'modern',
    'legacy',
  ] as const)('a refusal is 403 with one complete challenge before the first byte (%s)', async (era) => {
    const { handler, issuer, audit, calls } = labs();
    const token = issuer.issue(ANN, { scope: 'patient/Condition.rs' });
    const answer = await ask(handler, 'tools/call', { ...CALL, _meta: envelope(ANN) }, { token, era });
    expect(answer.status).toBe(403);
    expect(answer.headers.get('content-type')).toContain('application/json');
    const challenge = answer.headers.get('www-authenticate');
    expect(challenge).toContain('error="insufficient_scope"');
    expect(challenge).toContain('scope="patient/Observation.rs"');
    expect(challenge).toContain('resource_metadata=');
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(audit.records).toMatchObject([{ event: 'request.refused', code: 403, check: 'scope' }]);
    expect(calls).toEqual([]);
  });
});

describe('X-HMCP-Patient', () => {
  test.each(['', `${ANN}, ${BO}`, 'x'.repeat(65), `Patient/${ANN}`, 'a b'])('%j is 400', async (value) => {
    const { handler, own, audit } = labs();
    expect((await post(handler, legacyCall, { token: own, headers: { 'x-hmcp-patient': value } })).status).toBe(400);
    expect(audit.records).toMatchObject([{ event: 'request.refused', code: 400, check: 'header' }]);
  });

  test('of another patient is 40903, of the same one served', async () => {
    const { handler, own, calls } = labs();
    const answer = await ask(handler, 'tools/call', CALL, { token: own, headers: { 'x-hmcp-patient': BO } });
    expect(answer).toMatchObject({ status: 200, error: { code: 40903, data: { check: 'header' } } });
    expect(calls).toEqual([]);
    const agreed = await ask(handler, 'tools/call', CALL, { token: own, headers: { 'x-hmcp-patient': ANN } });
    expect(agreed.result).toBeDefined();
    expect(agreed.headers.get('deprecation')).toBeNull();
  });

  test('as a source is off: 42801', async () => {
    const { handler, issuer } = labs({ policy: { decide: async () => 'allow' } });
    const token = issuer.issue(undefined);
    const answer = await ask(handler, 'tools/call', CALL, { token, headers: { 'x-hmcp-patient': ANN } });
    expect(answer.error).toMatchObject({ code: 42801, data: { check: 'header' } });
  });

  test('as a source, once on: served with Deprecation and Sunset, and recorded as such', async () => {
    const transition = { clients: ['portal'], until: Date.now() + 86_400_000 };
    const { handler, issuer, audit } = labs({ policy: { decide: async () => 'allow' }, transition });
    const token = issuer.issue(undefined);
    const answer = await ask(handler, 'tools/call', CALL, { token, headers: { 'x-hmcp-patient': ANN } });
    expect(answer.result).toBeDefined();
    expect(answer.headers.get('deprecation')).toBe('true');
    expect(answer.headers.get('sunset')).toBe(new Date(transition.until).toUTCString());
    expect(audit.last).toMatchObject({ event: 'request.served', contextMethod: 'header' });
  });
});

describe('what the SDK refuses itself', () => {
  test('headers that do not match the body are 400 -32020, recorded, and repeat nothing', async () => {
    const { handler, own, audit } = labs();
    const answer = await ask(handler, 'tools/call', CALL, { token: own, headers: { 'mcp-name': `other-${BO}` } });
    expect(answer).toMatchObject({ status: 400, error: { code: -32020, message: 'Header mismatch' } });
    expect(answer.text).not.toContain(BO);
    expect(audit.records).toMatchObject([{ event: 'request.refused', code: 400 }]);
  });

  test('a revision nobody serves is -32022 with the ones that are', async () => {
    const { handler, own } = labs();
    const body = request('tools/call', CALL);
    Object.assign(body.params._meta ?? {}, { 'io.modelcontextprotocol/protocolVersion': '2099-01-01' });
    const headers = { 'mcp-protocol-version': '2099-01-01', 'mcp-method': 'tools/call', 'mcp-name': 'list-results' };
    const answer = await post(handler, JSON.stringify(body), { token: own, headers });
    expect(answer).toMatchObject({
      status: 400,
      error: { code: -32022, data: { supported: expect.arrayContaining(['2026-07-28']) } },
    });
  });
});

describe('metadata', () => {
  test.each([
    '/.well-known/oauth-protected-resource',
    '/.well-known/oauth-protected-resource/mcp',
  ])('%s names issuers and scopes without a token', async (path) => {
    const { handler } = labs();
    const response = await handler.fetch(new Request(new URL(path, RESOURCE)));
    expect(response.headers.get('access-control-allow-origin')).toBe('*');
    expect(await response.json()).toEqual({
      resource: RESOURCE,
      authorization_servers: ['https://as.example'],
      scopes_supported: ['patient/Observation.rs'],
      bearer_methods_supported: ['header'],
    });
    expect((await handler.fetch(new Request(new URL(path, RESOURCE), { method: 'POST' }))).status).toBe(405);
  });
});

describe('on a socket', () => {
  /** Serves on a free port, under a resource identifier that names it. */
  async function onSocket() {
    const w = world();
    const reached: string[] = [];
    let url = RESOURCE;
    const agent = defineAgent('labs', (env) => {
      const inner = createHmcpHandler(() => {
        const server = new McpServer({ name: 'labs', version: '1' });
        patientTool(server, listResults, () => {
          reached.push('list-results');
          return { results: [] };
        });
        return server;
      }, env);
      // The Host header names the free port, the resource identifier another one.
      const fetch = (asked: Request) => {
        const headers = new Headers(asked.headers);
        headers.set('host', new URL(RESOURCE).host);
        return inner.fetch(
          new Request(RESOURCE, { method: asked.method, headers, body: asked.body, duplex: 'half' } as RequestInit),
        );
      };
      return { ...inner, fetch };
    });
    const served = await serve(agent, w.env);
    url = `http://127.0.0.1:${served.port}/mcp`;
    return { ...w, ...served, url, reached };
  }

  const raw = (lines: readonly string[], body: string) =>
    [
      `POST /mcp HTTP/1.1`,
      'Host: 127.0.0.1',
      'Content-Type: application/json',
      'Accept: application/json, text/event-stream',
      ...lines,
      `Content-Length: ${Buffer.byteLength(body)}`,
      '',
      body,
    ].join('\r\n');

  async function statuses(port: number, requests: readonly string[]): Promise<number[]> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    const found = () => [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status));
    for (const [i, one] of requests.entries()) {
      socket.write(one);
      while (found().length <= i) await once(socket, 'data');
    }
    socket.destroy();
    return found();
  }

  test('two Authorization headers, or two patient headers, are 400 and recorded', async () => {
    const { port, close, audit, issuer, reached } = await onSocket();
    const [a, b] = [issuer.issue(ANN), issuer.issue(BO)];
    const two = raw([`Authorization: Bearer ${a}`, `Authorization: Bearer ${b}`], legacyCall);
    const patients = raw([`Authorization: Bearer ${a}`, `X-HMCP-Patient: ${ANN}`, `x-hmcp-patient: ${BO}`], legacyCall);
    expect(await statuses(port, [two, patients])).toEqual([400, 400]);
    expect(audit.records).toMatchObject([
      { code: 400, check: 'token' },
      { code: 400, check: 'header' },
    ]);
    expect(reached).toEqual([]);
    await close();
  });

  test('every request of one socket brings its own token', async () => {
    const { port, close, issuer, reached } = await onSocket();
    const good = raw([`Authorization: Bearer ${issuer.issue(ANN)}`], legacyCall);
    const bare = raw([], legacyCall);
    expect(await statuses(port, [good, bare, good, bare])).toEqual([200, 401, 200, 401]);
    expect(reached).toHaveLength(2);
    await close();
  });

  test('anything but loopback needs TLS in front, and says so', async () => {
    const agent = defineAgent('labs', () => {
      throw new Error('must not be created');
    });
    await expect(serve(agent, world().env, { host: '0.0.0.0' })).rejects.toThrow('"behindProxy"');
  });
});
