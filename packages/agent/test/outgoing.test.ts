import { definePatientTool } from '@hmcp/core';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { afterEach, describe, expect, test } from 'vitest';
import * as z from 'zod';
import type { Peer } from '../src/index.js';
import { type RecordingServer, startRecordingServer } from './support/recording-server.js';
import { ANN, BO, FHIR, observation, refusalOf, scopeOf, type World, world } from './support/world.js';

const lookup = definePatientTool({
  name: 'lookup',
  scope: 'patient/hmcp:read',
  description: 'Looks a term up',
  input: z.object({ term: z.string() }),
  output: z.looseObject({}),
});

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function plainWorld(kind: Peer['kind']): Promise<World & { server: RecordingServer }> {
  const server = await startRecordingServer();
  const made = world([{ name: 'guidelines', resource: server.url, kind, scopes: 'patient/hmcp:read' }]);
  closers.push(server.close, () => made.agent.close());
  return { ...made, server };
}

/** Everything of a request's context that could tell a server whom it is about. */
function expectNothingOf(bytes: string, patient: string): void {
  expect(bytes).toContain('"tools/call"');
  for (const secret of [patient, `access-${patient}`, 'from-access', 'intent-of', 'dev.hmcp/context"', FHIR, 'dr-grey']) {
    // Our capability is announced by its name; nothing but the name is.
    const allowed = secret === 'dev.hmcp/context"' ? bytes.replaceAll('"dev.hmcp/context":{"versions":["1"]}', '') : bytes;
    expect(allowed).not.toContain(secret);
    expect(bytes).not.toContain(Buffer.from(secret).toString('base64').replace(/=+$/, ''));
  }
  expect(bytes.toLowerCase()).not.toMatch(/authorization|baggage|tracestate|traceparent|x-hmcp|0af7651916cd43dd/);
}

describe.each([
  { kind: 'plain' as const, event: 'hop.call' },
  { kind: 'external' as const, event: 'hop.disclosure' },
])('a call to a server declared $kind', ({ kind, event }) => {
  test('sends nothing of the context, in headers, envelope or trace, and is audited with binding none', async () => {
    const { agent, server, audit, tokens } = await plainWorld(kind);
    const calls: unknown[] = [];
    agent.events.on('call', (call) => calls.push(call));
    const answer = await scopeOf(ANN).run(() => agent.call('guidelines', lookup, { term: 'potassium' }));
    expect(answer).toEqual({ found: 3 });
    expectNothingOf(server.bytes(), ANN);
    expect(server.toolCalls).toHaveLength(1);
    expect(tokens.requests).toEqual([]);
    expect(audit.records).toMatchObject([
      { event, binding: 'none', peer: server.url },
      { event: 'hop.result', binding: 'none' },
    ]);
    expect(calls).toMatchObject([{ binding: 'none', disclosed: kind === 'external', peer: 'guidelines' }]);
  });

  test('is dropped when it answers with somebody else', async () => {
    const { agent, server } = await plainWorld(kind);
    server.answer = { about: observation(BO) };
    const scope = scopeOf(ANN);
    const error = await refusalOf(scope.run(() => agent.call('guidelines', lookup, { term: 'potassium' })));
    expect([error.code, error.check]).toEqual([40903, 'result']);
    expect(scope.refusals).toEqual([error]);
  });
});

/** What a caller might write by mistake, or a library by itself, to tell the next server whom it is about. */
const planted = {
  'dev.hmcp/context': { version: '1', patient: ANN, intent: { id: 'intent-of-ann' } },
  'dev.hmcp/authorization': `access-${ANN}`,
  'DEV.HMCP/context': { patient: ANN },
  'dev.hmcp/anything': ANN,
  baggage: `patient=${ANN}`,
  tracestate: `hmcp=${ANN}`,
};
const plantedHeaders = {
  'X-HMCP-Patient': ANN,
  'X-Patient-ID': ANN,
  'X-FHIR-Access-Token': `access-${ANN}`,
  'X-FHIR-Server-URL': FHIR,
  baggage: `patient=${ANN}`,
  tracestate: `hmcp=${ANN}`,
};

describe.each(['plain', 'external', 'undeclared'] as const)('any client on the instrumented transport of a server %s', (kind) => {
  test('cannot send context that it wrote itself', async () => {
    const { agent, server } = await plainWorld(kind === 'undeclared' ? 'plain' : kind);
    const client = new Client({ name: 'any', version: '1' }, { versionNegotiation: { mode: 'auto' } });
    const transport = new StreamableHTTPClientTransport(new URL(server.url), { requestInit: { headers: plantedHeaders } });
    closers.push(() => client.close());
    await client.connect(agent.transport(transport, kind === 'undeclared' ? 'nobody' : 'guidelines'));
    const call = () => client.callTool({ name: 'lookup', arguments: { term: 'x' }, _meta: planted });
    await (kind === 'undeclared' ? call() : scopeOf(ANN).run(call));
    const bytes = server.bytes();
    expectNothingOf(bytes, ANN);
    expect(bytes).not.toMatch(/dev\.hmcp\/a/i);
  });
});

describe('a server nobody declared', () => {
  test('serves outside requests and is refused 42801, check "peer", from inside one, connected or not', async () => {
    const { agent, server, audit } = await plainWorld('plain');
    const connect = async () => {
      const client = new Client({ name: 'any', version: '1' }, { versionNegotiation: { mode: 'auto' } });
      closers.push(() => client.close());
      await client.connect(agent.transport(new StreamableHTTPClientTransport(new URL(server.url)), 'nobody'));
      return client;
    };
    const client = await connect();
    const before = server.bytes().length;
    const scope = scopeOf(ANN);
    for (const call of [
      () => client.callTool({ name: 'lookup', arguments: { term: 'x' } }),
      () => client.listTools(),
      () => client.request({ method: 'dev.example/any', params: {} }, z.looseObject({})),
    ]) {
      const error = await refusalOf(scope.run(call));
      expect([error.code, error.check]).toEqual([42801, 'peer']);
    }
    await expect(scope.run(connect)).rejects.toThrow();
    expect(server.bytes()).toHaveLength(before);
    expect(audit.records.every(({ event, peer }) => event === 'hop.refused' && peer === 'undeclared')).toBe(true);
    expect(scope.refusals).toHaveLength(4);
  });
});

describe('the declared address', () => {
  test('is the only one an instrumented transport reaches', async () => {
    const { agent, server } = await plainWorld('hmcp');
    const other = await startRecordingServer();
    closers.push(other.close);
    for (const address of [other.url, `${server.url}/`, `${server.url}?x=1`, server.url.replace('127.0.0.1', 'localhost')]) {
      const transport = agent.transport(new StreamableHTTPClientTransport(new URL(address)), 'guidelines');
      const client = new Client({ name: 'any', version: '1' });
      const scope = scopeOf(ANN);
      const error = await refusalOf(scope.run(() => client.connect(transport)));
      expect([error.code, error.check]).toEqual([42801, 'peer']);
    }
    expect(other.bytes() + server.bytes()).toBe('');
  });
});

describe('what cannot be protected is refused when it is set up', () => {
  test('a transport twice, one of unknown shape, a pipe said to be HTTP', () => {
    const { agent } = world([]);
    const transport = agent.transport(new StreamableHTTPClientTransport(new URL('http://127.0.0.1:1/mcp')), 'nobody');
    expect(() => agent.transport(transport, 'nobody')).toThrow('already instrumented');
    const unknown = { send: async () => undefined };
    expect(() => agent.transport(unknown, 'nobody')).toThrow('the kind of this transport cannot be told');
    expect(() => agent.transport({ send: async () => undefined }, 'nobody', { kind: 'http' })).toThrow(TypeError);
  });

  test.each([
    ['a name with a space', { name: 'the labs' }, /"name"/],
    ['no resource', { resource: '' }, /resource of peer labs/],
    ['a relative resource', { resource: '/mcp' }, /resource of peer labs/],
    ['a resource with a fragment', { resource: 'https://labs.example/mcp#x' }, /resource of peer labs/],
    ['http to another machine', { resource: 'http://labs.example/mcp' }, /url of peer labs/],
    ['http url to another machine', { url: 'http://10.0.0.1/mcp' }, /url of peer labs/],
    ['a url with a password', { url: 'https://a:b@labs.example/mcp' }, /url of peer labs/],
    ['another scheme', { url: 'file:///etc/passwd' }, /url of peer labs/],
    ['an unknown kind', { kind: 'friend' as never }, /"kind"/],
  ])('a peer with %s', (_, fault, message) => {
    const peer: Peer = { name: 'labs', resource: 'https://labs.example/mcp', kind: 'hmcp', ...fault };
    expect(() => world([peer])).toThrow(message);
    expect(() => world([peer])).toThrow(TypeError);
  });

  test('a peer declared twice, a short key, an empty client, no peers at all', () => {
    const peer: Peer = { name: 'labs', resource: 'https://labs.example/mcp', kind: 'hmcp' };
    expect(() => world([peer, peer])).toThrow('declared twice');
    for (const pseudonymKey of ['', 'short']) expect(() => world([], { pseudonymKey })).toThrow('"pseudonymKey"');
    expect(() => world([], { clientId: '' })).toThrow('"clientId"');
    expect(() => world(undefined as never)).toThrow('"peers" is missing');
  });
});
