import { fileURLToPath } from 'node:url';
import { META } from '@hmcp/core';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport as StdioClientTransportV1 } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport as StreamableHTTPClientTransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { afterEach, describe, expect, test } from 'vitest';
import type { Agent, ClientTransport } from '../src/index.js';
import { type Behaviour, startPeer, type TestPeer } from './support/peer-server.js';
import { ANN, BO, FHIR, gate, observation, scopeOf, verifiedToken, type World, world } from './support/world.js';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function labsWorld(): Promise<World & { labs: TestPeer }> {
  const labs = await startPeer();
  const made = world([{ name: 'labs', resource: labs.url, kind: 'hmcp', scopes: 'patient/Observation.rs' }]);
  closers.push(labs.close, () => made.agent.close());
  return { ...made, labs };
}

/** What a client of either generation gives: an answer, or an error's code, data and text. */
interface AnyClient {
  call(meta?: Record<string, unknown>): Promise<{ structuredContent?: unknown }>;
  read(): Promise<{ contents: unknown[] }>;
  errors: Error[];
}
type Connect = (agent: Agent, url: string) => Promise<AnyClient>;

const connectV2 =
  (mode: 'auto' | 'legacy'): Connect =>
  async (agent, url) => {
    const client = new Client({ name: 'any', version: '1' }, { versionNegotiation: { mode } });
    const errors: Error[] = [];
    client.onerror = (error) => errors.push(error);
    const transport = new StreamableHTTPClientTransport(new URL(url));
    closers.push(() => client.close());
    await client.connect(agent.transport(transport, 'labs'));
    return {
      errors,
      call: (_meta) => client.callTool({ name: 'list-results', arguments: {}, ...(_meta ? { _meta } : {}) }),
      read: () => client.readResource({ uri: 'chart://current' }),
    };
  };

const connectV1: Connect = async (agent, url) => {
  const client = new ClientV1({ name: 'any', version: '1' });
  const errors: Error[] = [];
  client.onerror = (error) => errors.push(error);
  const transport = new StreamableHTTPClientTransportV1(new URL(url));
  closers.push(() => client.close());
  await client.connect(agent.transport(transport, 'labs') as never);
  return {
    errors,
    call: async (_meta) => {
      const { structuredContent } = await client.callTool({ name: 'list-results', arguments: {}, ...(_meta ? { _meta } : {}) });
      return { structuredContent };
    },
    read: () => client.readResource({ uri: 'chart://current' }),
  };
};

const generations = [
  { name: 'SDK v2', connect: connectV2('auto') },
  { name: 'SDK v2 in its 2025 mode', connect: connectV2('legacy') },
  { name: 'SDK v1', connect: connectV1 },
];

describe.each(generations)('a plain client of $name on an instrumented transport', ({ connect }) => {
  test('carries the context of whatever request it is used in, one connection for all', async () => {
    const { agent, labs } = await labsWorld();
    const client = await scopeOf(ANN).run(() => connect(agent, labs.url));
    const patients = [ANN, BO, 'pt-cy-1'];
    const answers = await Promise.all(patients.map((patient) => scopeOf(patient).run(() => client.call())));
    expect(answers.map((answer) => answer.structuredContent)).toEqual(
      patients.map((patient) => ({ results: [observation(patient)] })),
    );
    for (const { headers, body } of labs.calls()) {
      const { patient } = JSON.parse(body).params._meta[META.context];
      expect(headers.authorization).toMatch(new RegExp(`-from-access-${patient}$`));
    }
  });

  test('cannot write the context itself: the envelope of the request wins, everything else of ours is removed', async () => {
    const { agent, labs } = await labsWorld();
    const scope = scopeOf(ANN);
    const client = await scope.run(() => connect(agent, labs.url));
    const spoof = {
      [META.context]: { version: '1', patient: BO, intent: { id: 'spoof' } },
      [META.authorization]: 'stolen',
      'dev.hmcp/other': BO,
      baggage: `p=${BO}`,
      'example.com/own': 'kept',
    };
    await scope.run(() => client.call(spoof));
    const { _meta } = JSON.parse(labs.calls()[0]?.body ?? '').params;
    expect(_meta[META.context]).toEqual(scope.facts.envelope);
    expect(_meta['example.com/own']).toBe('kept');
    expect(labs.calls()[0]?.body).not.toMatch(/pt-bo|stolen|spoof|baggage/);
  });

  test('sends nothing about a patient outside a request, and the server hears nothing', async () => {
    const { agent, labs } = await labsWorld();
    const client = await scopeOf(ANN).run(() => connect(agent, labs.url));
    await expect(client.call()).rejects.toMatchObject({ code: 42801 });
    expect(labs.calls()).toEqual([]);
  });

  test.each<[Behaviour, number]>([
    ['no-binding', 40903],
    ['wrong-pk', 40903],
    ['sealed-binding', 40901],
    ['foreign-observation', 40903],
    ['foreign-in-text', 40903],
    ['foreign-in-resource', 40903],
    ['unknown-type', 40903],
  ])('never sees an answer with fault %s: the call ends with %i, check "result"', async (behaviour, code) => {
    const { agent, labs } = await labsWorld();
    const scope = scopeOf(ANN);
    const client = await scope.run(() => connect(agent, labs.url));
    labs.behaviour = behaviour;
    const error = await scope.run(() => client.call()).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code, data: { check: 'result', by: 'https://triage.example/mcp', hop: 1 } });
    expect(scope.refusals).toMatchObject([{ code, check: 'result' }]);
    const seen = JSON.stringify([error, String(error), client.errors.map(String)]);
    expect(seen).not.toMatch(/pt-bo|obs-99|Horoscope/);
  });

  test.each([401, 403, 500])('HTTP %i reaches neither its errors nor its log as text', async (status) => {
    const { agent, labs } = await labsWorld();
    const scope = scopeOf(ANN);
    const client = await scope.run(() => connect(agent, labs.url));
    labs.status = status;
    const error = await scope.run(() => client.call()).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: status === 500 ? 50301 : 40302, data: { check: 'peer' } });
    expect(JSON.stringify([error, String(error), client.errors.map(String)])).not.toMatch(/pt-ann|liked|from-access/);
  });

  test('a resource of one patient is never served to the next from a cache', async () => {
    const { agent, labs } = await labsWorld();
    const client = await scopeOf(ANN).run(() => connect(agent, labs.url));
    const anns = await scopeOf(ANN).run(() => client.read());
    const bos = await scopeOf(BO).run(() => client.read());
    expect(JSON.stringify(anns.contents)).toContain(ANN);
    expect(JSON.stringify(bos.contents)).toContain(BO);
    expect(JSON.stringify(bos.contents)).not.toContain(ANN);
  });

  test('an answer that comes after the request has ended is dropped', async () => {
    const { agent, labs, audit } = await labsWorld();
    const scope = scopeOf(ANN);
    const client = await scope.run(() => connect(agent, labs.url));
    const [arrived, released] = [gate(), gate()];
    labs.onCall = () => {
      arrived.open();
      return released.opened;
    };
    const call = scope.run(() => client.call()).catch((reason: unknown) => reason);
    await arrived.opened;
    scope.close();
    released.open();
    expect(await call).toMatchObject({ code: 40901, data: { check: 'result' } });
    expect(audit.records.at(-1)).toMatchObject({ event: 'hop.dropped', code: 40901 });
  });
});

describe('the bare SDK, for comparison', () => {
  test("serves one patient's resource to the next from its cache, when the server's hint says so", async () => {
    const { labs } = await labsWorld();
    const client = new Client({ name: 'bare', version: '1' }, { versionNegotiation: { mode: 'auto' } });
    closers.push(() => client.close());
    await client.connect(new StreamableHTTPClientTransport(new URL(labs.url)));
    const read = (patient: string) => {
      const _meta = { [META.context]: { version: '1', patient, intent: { id: 'i1' } } };
      return client.readResource({ uri: 'chart://current', _meta });
    };
    expect(JSON.stringify(await read(ANN))).toContain(ANN);
    expect(JSON.stringify(await read(BO))).toContain(ANN);
  });
});

describe('the network of an instrumented transport', () => {
  test('follows no redirect with a context, whatever the transport was told', async () => {
    const { agent, labs } = await labsWorld();
    const elsewhere = await startPeer();
    closers.push(elsewhere.close);
    const client = new Client({ name: 'any', version: '1' }, { versionNegotiation: { mode: 'auto' } });
    closers.push(() => client.close());
    const transport = new StreamableHTTPClientTransport(new URL(labs.url), { redirectPolicy: 'follow' });
    const scope = scopeOf(ANN);
    await scope.run(() => client.connect(agent.transport(transport, 'labs')));
    [labs.status, labs.location] = [307, elsewhere.url];
    const error = await scope
      .run(() => client.callTool({ name: 'list-results', arguments: {} }))
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 50301, data: { check: 'peer' } });
    expect(elsewhere.received).toEqual([]);
  });

  test('opens no stream beside the requests: it would belong to none', async () => {
    const { agent, labs } = await labsWorld();
    const scope = scopeOf(ANN);
    const client = await scope.run(() => connectV2('legacy')(agent, labs.url));
    await scope.run(() => client.call());
    expect(labs.received.every(({ method }) => method === 'POST')).toBe(true);
  });

  test('a handler that the client chains sees each checked message once, and nothing else', async () => {
    const { agent, labs } = await labsWorld();
    const transport = agent.transport(new StreamableHTTPClientTransport(new URL(labs.url)), 'labs');
    const seen: unknown[] = [];
    transport.onmessage = (message) => void seen.push(message);
    const client = new Client({ name: 'any', version: '1' });
    closers.push(() => client.close());
    const scope = scopeOf(ANN);
    await scope.run(() => client.connect(transport));
    await scope.run(() => client.callTool({ name: 'list-results', arguments: {} }));
    labs.behaviour = 'foreign-observation';
    await scope.run(() => client.callTool({ name: 'list-results', arguments: {} })).catch(() => undefined);
    expect(seen).toMatchObject([{ result: { protocolVersion: expect.any(String) } }, { result: {} }, { error: { code: 40903 } }]);
    expect(JSON.stringify(seen)).not.toContain(BO);
  });
});

describe('what comes during a call', () => {
  async function progressOf(behaviour: Behaviour) {
    const made = await labsWorld();
    const scope = scopeOf(ANN);
    const client = new Client({ name: 'any', version: '1' }, { versionNegotiation: { mode: 'auto' } });
    closers.push(() => client.close());
    const others: string[] = [];
    client.setNotificationHandler('notifications/message', () => void others.push('message'));
    client.fallbackNotificationHandler = async ({ method }) => void others.push(method);
    const transport = new StreamableHTTPClientTransport(new URL(made.labs.url));
    await scope.run(() => client.connect(made.agent.transport(transport, 'labs')));
    made.labs.behaviour = behaviour;
    const progress: unknown[] = [];
    const onprogress = (event: unknown) => void progress.push(event);
    await scope.run(() => client.callTool({ name: 'list-results', arguments: {} }, { onprogress })).catch(() => undefined);
    return { ...made, progress, others };
  }

  test('progress with the binding of its request is delivered; a log line and a vendor notification without are not', async () => {
    const { progress, others, audit } = await progressOf('good');
    expect(progress).toMatchObject([{ progress: 1, message: 'half way' }]);
    expect(others).toEqual([]);
    expect(audit.events).toEqual(['hop.call', 'hop.result']);
  });

  test.each<Behaviour>([
    'no-binding',
    'wrong-pk',
    'wrong-intent',
    'wrong-by',
    'foreign-mention',
  ])('progress with fault %s is dropped and audited', async (behaviour) => {
    const { progress, audit } = await progressOf(behaviour);
    expect(progress).toEqual([]);
    expect(audit.records.filter(({ event }) => event === 'hop.dropped')).toHaveLength(2);
  });
});

describe('scopes of a client without a contract', () => {
  test('are those the declaration names', async () => {
    const { agent, labs, tokens } = await labsWorld();
    await scopeOf(ANN).run(() => connectV2('auto')(agent, labs.url));
    expect(new Set(tokens.requests.map(({ scope }) => scope))).toEqual(new Set(['patient/Observation.rs']));
  });

  const metadata = (scopes: unknown, resource = 'https://labs.example/mcp') =>
    new Response(JSON.stringify({ resource, scopes_supported: scopes }));

  async function askedFor(answer: () => Response, granted = 'patient/Observation.rs patient/hmcp:read') {
    const asked: string[] = [];
    const fetch = async (url: string | URL | Request) => {
      asked.push(String(url));
      return answer();
    };
    const { agent, tokens } = world([{ name: 'labs', resource: 'https://labs.example/mcp', kind: 'hmcp' }], { fetch });
    const transport = agent.transport(new StreamableHTTPClientTransport(new URL('https://labs.example/mcp')), 'labs');
    tokens.fault = 'refused'; // far enough: what was asked for is known
    const scope = scopeOf(ANN, { token: verifiedToken(ANN, { scope: granted }) });
    const client = new Client({ name: 'any', version: '1' });
    const error = await scope.run(() => client.connect(transport)).catch((reason: unknown) => reason);
    return { asked, scope: tokens.requests[0]?.scope, error };
  }

  test("else those of the server's metadata that the caller's token covers", async () => {
    const supported = ['patient/Observation.rs', 'patient/MedicationRequest.rs', 'patient/hmcp:read', 'user/*.rs', 'nonsense'];
    const { asked, scope } = await askedFor(() => metadata(supported));
    expect(asked).toEqual(['https://labs.example/.well-known/oauth-protected-resource/mcp']);
    expect(scope).toBe('patient/Observation.rs patient/hmcp:read');
  });

  test.each([
    ['covers none of them', () => metadata(['patient/Condition.rs']), 40302, 'scope'],
    ['offers none', () => metadata(undefined), 40302, 'scope'],
    ['is of another resource', () => metadata(['patient/Observation.rs'], 'https://else.example/mcp'), 50301, 'peer'],
    ['is no JSON', () => new Response('<html>'), 50301, 'peer'],
    ['is ill-typed', () => metadata('patient/Observation.rs'), 50301, 'peer'],
    ['is missing', () => new Response('', { status: 404 }), 50301, 'peer'],
    ['is endless', () => new Response(' '.repeat(70_000)), 50301, 'peer'],
  ])('metadata that %s asks for nothing', async (_, answer, code, check) => {
    const { scope, error } = await askedFor(answer);
    expect(scope).toBeUndefined();
    expect(error).toMatchObject({ code, check });
  });
});

describe.each([
  {
    name: 'SDK v2',
    client: () => new Client({ name: 'any', version: '1' }, { versionNegotiation: { mode: 'auto' } }),
    Transport: StdioClientTransport,
  },
  { name: 'SDK v1', client: () => new ClientV1({ name: 'any', version: '1' }), Transport: StdioClientTransportV1 },
])('a child process on a pipe, $name', ({ client: make, Transport }) => {
  const resource = 'https://pipe-labs.example/mcp';
  const script = fileURLToPath(new URL('support/stdio-server.mjs', import.meta.url));

  async function pipe(kind: 'hmcp' | 'plain') {
    const made = world([{ name: 'pipe', resource, kind, scopes: 'patient/Observation.rs' }]);
    const client = make() as Client;
    const parameters = { command: process.execPath, args: [script, FHIR, resource], stderr: 'ignore' as const };
    const transport = made.agent.transport(new Transport(parameters) as ClientTransport, 'pipe');
    closers.push(() => client.close());
    await client.connect(transport as unknown as StdioClientTransport);
    return { ...made, client };
  }

  test('gets envelope and token in the message, each request its own, and its answer is checked', async () => {
    const { client, audit } = await pipe('hmcp');
    const answers = await Promise.all(
      [ANN, BO].map((patient) => scopeOf(patient).run(() => client.callTool({ name: 'list-results', arguments: {} }))),
    );
    for (const [at, patient] of [ANN, BO].entries()) {
      const content = answers[at]?.structuredContent as { results: unknown[]; token: string };
      expect(content.token).toMatch(new RegExp(`-from-access-${patient}$`));
      expect(JSON.stringify(content.results)).toContain(patient);
    }
    expect(audit.events.filter((event) => event === 'hop.result')).toHaveLength(2);
  });

  test('that is plain gets neither', async () => {
    const { client } = await pipe('plain');
    const _meta = { [META.authorization]: 'spoof', [META.context]: { patient: BO } };
    const call = () => client.callTool({ name: 'list-results', arguments: {}, _meta });
    const error = await scopeOf(ANN)
      .run(call)
      .catch((reason: unknown) => reason);
    // The child made up "Patient/null", which is nobody's: dropped by the caller's own check.
    expect(error).toMatchObject({ code: 40903, data: { check: 'result' } });
    const outside = (await call()).structuredContent as { token: unknown; keys: string[] };
    expect(outside.token).toBeNull();
    expect(outside.keys.filter((key) => key.startsWith('dev.hmcp'))).toEqual([]);
  });
});
