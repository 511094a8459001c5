import { HmcpError, META } from '@hmcp/core';
import { currentScope, outsideScope } from '@hmcp/core/request-scope';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openSession, type Session } from '../src/index.js';
import { SessionActs } from '../src/session-acts.js';
import { type AnyClient, PIPE, ways } from './support/any-client.js';
import { type Behaviour, startPeer, type TestPeer } from './support/peer-server.js';
import { type SessionWorld, sessionWorld, type TestGrant } from './support/session-world.js';
import { ANN, BO, gate, scopeOf, type World, world } from './support/world.js';

let bed: SessionWorld;
let labs: TestPeer;
let here: World;
let session: Session;
let ann: TestGrant;
const clients: AnyClient[] = [];
beforeEach(async () => {
  bed = await sessionWorld();
  labs = await startPeer();
  const scopes = 'patient/Observation.rs';
  here = world([
    { name: 'labs', resource: labs.url, kind: 'hmcp', scopes },
    { name: 'pipe', resource: PIPE, kind: 'hmcp', scopes },
  ]);
  ann = bed.grant(ANN);
  session = await openSession({ agent: here.agent, grant: ann });
});
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
  await here.agent.close();
  await labs.close();
  await bed.close();
});

const toBo = () => session.switchPatient({ authorize: async () => bed.grant(BO), confirm: async () => ({ confirm: true }) });

/** How a call ended: the refusal as any SDK reports it, with everything else that could be seen of it. */
async function endOf(call: Promise<unknown>) {
  const error = await call.then(
    (value) => new Error(`was served: ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  const { code, check } = HmcpError.from(error) ?? {};
  return { code, check, seen: `${String(error)} ${JSON.stringify(error)} ${JSON.stringify((error as { data?: unknown }).data)}` };
}
const intents = () => [...new Set(here.audit.records.flatMap(({ event, intent }) => (event === 'hop.call' ? [intent] : [])))];
const patientsIn = (answer: { structuredContent?: unknown }) =>
  [ANN, BO].filter((patient) => JSON.stringify(answer.structuredContent).includes(`Patient/${patient}`));

/** Resolves when the next call about a patient is at the peer, where it stays until let in. */
function underWay(kind: 'http' | 'stdio') {
  const [arrived, door] = [gate(), gate()];
  labs.onCall = () => {
    arrived.open();
    return door.opened;
  };
  // A child of the test has no ears here: it has been written to when the turn of the record is over.
  if (kind === 'stdio') session.events.once('call', () => setImmediate(arrived.open));
  const letIn = () => {
    labs.onCall = () => undefined;
    door.open();
  };
  return { arrived: arrived.opened, letIn };
}

describe.each(ways)('a client of $name', ({ connect: open, kind }) => {
  const connect = async (at: Session = session) => {
    const client = await open(at, labs.url);
    clients.push(client);
    return client;
  };

  test('connects, lists and calls outside every act: each request about the patient is an act of its own', async () => {
    const client = await connect();
    expect(await client.tools()).toEqual(['list-results']);
    const answers = await Promise.all([client.call(), client.call()]);
    // A framework shows `_meta` to its model.
    expect(JSON.stringify(answers.map(({ _meta }) => _meta))).not.toMatch(/dev\.hmcp|"pk"/);
    expect(answers.map(patientsIn)).toEqual([[ANN], [ANN]]);
    expect(intents()).toHaveLength(2);
    expect(here.audit.events).toEqual(expect.arrayContaining(['hop.call', 'hop.result', 'hop.call', 'hop.result']));
  });

  test('in an act has the intent of that act, however it is reached from there', async () => {
    const client = await connect();
    const answers = await session.act(async () => {
      const later = new Promise<void>((resolve) => setImmediate(resolve)).then(() => client.call());
      return [patientsIn(await client.call()), patientsIn(await later)];
    });
    expect(answers).toEqual([[ANN], [ANN]]);
    expect(intents()).toHaveLength(1);
  });

  test('goes on about the next patient after a switch; with an act that was before it, it is refused', async () => {
    const client = await connect();
    const leftBehind = await session.act(async () => {
      const [asked, goOn] = [gate(), gate()];
      const late = goOn.opened.then(() => endOf(client.call()));
      asked.open();
      return { go: goOn.open, late: () => late };
    });
    expect(patientsIn(await client.call())).toEqual([ANN]);
    expect(await toBo()).toMatchObject({ result: 'committed', epoch: 2 });
    expect(patientsIn(await client.call())).toEqual([BO]);
    expect(await session.act(async () => patientsIn(await client.call()))).toEqual([BO]);
    leftBehind.go();
    expect(await leftBehind.late()).toMatchObject({ code: 40901, check: 'epoch' });
  });

  test('is settled with 40901 by a switch while its call is under way, and never sees the late answer', async () => {
    const client = await connect();
    const { arrived, letIn } = underWay(kind);
    const late = endOf(client.call({ category: 'wait' }));
    await arrived;
    await toBo();
    const end = await late;
    expect(end).toMatchObject({ code: 40901, check: 'result' });
    expect(end.seen).not.toMatch(/pt-ann|obs-|Potassium/);
    const dropped = new Promise<void>((resolve) => here.agent.events.on('result-dropped', () => resolve()));
    letIn();
    expect(patientsIn(await client.call({ category: 'open' }))).toEqual([BO]);
    await dropped;
    expect(here.audit.records.filter(({ event }) => event === 'hop.dropped')).toMatchObject([{ code: 40901 }]);
  });

  test('after close is refused 41001, and what was under way is settled at once', async () => {
    const client = await connect();
    const { arrived } = underWay(kind);
    const pending = endOf(client.call({ category: 'wait' }));
    await arrived;
    await session.close();
    expect(await pending).toMatchObject({ code: 40901, check: 'result' });
    const sent = labs.calls().length;
    expect(await endOf(client.call())).toMatchObject({ code: 41001, check: 'session' });
    expect(await endOf(client.tools())).toMatchObject({ code: 41001, check: 'session' });
    expect(labs.calls()).toHaveLength(sent);
  });
});

describe.each(ways.filter(({ kind }) => kind === 'http'))('over HTTP, a client of $name', ({ connect: open }) => {
  const connect = async () => {
    const client = await open(session, labs.url);
    clients.push(client);
    return client;
  };

  test('that lost the async context of an act makes a request of its own, about the patient of that moment', async () => {
    const client = await connect();
    await session.act(async () => {
      await client.call();
      expect(patientsIn(await outsideScope(() => client.call()))).toEqual([ANN]);
    });
    expect(intents()).toHaveLength(2);
    await toBo();
    await session.act(async () => {
      expect(patientsIn(await outsideScope(() => client.call()))).toEqual([BO]);
    });
  });

  test('inside a request or an act that is not of its session is refused 42801, and nothing is sent', async () => {
    const client = await connect();
    const other = await openSession({ agent: here.agent, grant: bed.grant(BO) });
    const sent = labs.received.length;
    const scope = scopeOf(BO);
    expect(await scope.run(() => endOf(client.call()))).toMatchObject({ code: 42801, check: 'session' });
    expect(await scope.run(() => endOf(client.tools()))).toMatchObject({ code: 42801, check: 'session' });
    expect(scope.refusals).toMatchObject([{ code: 42801 }, { code: 42801 }]);
    expect(await other.act(() => endOf(client.call()))).toMatchObject({ code: 42801, check: 'session' });
    await expect(scope.run(() => open(session, labs.url))).rejects.toThrow();
    expect(labs.received).toHaveLength(sent);
    expect(here.audit.events).toEqual(expect.arrayContaining(['hop.refused']));
  });

  test.each<[Behaviour, number]>([
    ['no-binding', 40903],
    ['wrong-pk', 40903],
    ['wrong-by', 40903],
    ['sealed-binding', 40901],
    ['foreign-observation', 40903],
    ['foreign-in-text', 40903],
    ['foreign-in-resource', 40903],
    ['unknown-type', 40903],
  ])('never sees an answer with fault %s: %i, check "result"', async (behaviour, code) => {
    const client = await connect();
    labs.behaviour = behaviour;
    const end = await endOf(client.call());
    expect(end).toMatchObject({ code, check: 'result' });
    expect(`${end.seen} ${client.errors.map(String).join()}`).not.toMatch(/pt-bo|obs-99|Horoscope/);
  });

  test.each([
    [401, 40302],
    [403, 40302],
    [404, 50301],
    [500, 50301],
    [307, 50301],
  ])('HTTP %i of the peer is %i, and its text reaches nobody', async (status, code) => {
    const client = await connect();
    labs.status = status;
    const end = await endOf(client.call());
    expect(end).toMatchObject({ code, check: 'peer' });
    expect(`${end.seen} ${client.errors.map(String).join()}`).not.toMatch(/pt-ann|liked|from-grant/);
  });

  test('cannot write the context itself, and a refusal of the peer keeps code, author and hop', async () => {
    const client = await connect();
    const meta = { [META.context]: { version: '1', patient: BO, intent: { id: 'spoof' } }, [META.authorization]: 'stolen' };
    expect(patientsIn(await client.call({}, { meta }))).toEqual([ANN]);
    expect(labs.calls().map(({ body }) => body)).toEqual([expect.not.stringMatching(/pt-bo|stolen|spoof/)]);
    const data = { retry: 'never', by: 'https://behind.example/mcp', hop: 2, check: 'argument', intent: 'i-1' };
    labs.refusal = { code: 40903, message: `about ${BO}`, data };
    const end = await endOf(client.call());
    expect(end).toMatchObject({ code: 40903, check: 'argument' });
    expect(end.seen).toContain('behind.example');
    expect(end.seen).not.toMatch(/pt-bo/);
  });

  test('sees progress of its own request, and not what is bound to nobody', async () => {
    const client = await connect();
    const progress: unknown[] = [];
    const within: unknown[] = [];
    const onprogress = (one: unknown) => {
      progress.push(one);
      within.push(currentScope()?.closed);
    };
    await client.call({}, { onprogress });
    expect(progress.splice(0)).toMatchObject([{ progress: 1, message: 'half way' }]);
    await session.act(() => client.call({}, { onprogress }));
    // What reacts to a message stays where the request was made: outside every act, or in its open one.
    expect(within).toEqual([undefined, false]);
    labs.behaviour = 'foreign-mention';
    expect(await endOf(client.call({}, { onprogress: (one) => progress.push(one) }))).toMatchObject({ code: 40903 });
    expect(progress).toHaveLength(1);
  });

  test('that turns away cancels its own request, and the next one is served', async () => {
    const client = await connect();
    const { arrived, letIn } = underWay('http');
    const stop = new AbortController();
    const call = client.call({}, { signal: stop.signal });
    call.catch(() => undefined);
    await arrived;
    stop.abort();
    await expect(call).rejects.toThrow();
    letIn();
    expect(patientsIn(await client.call())).toEqual([ANN]);
    expect(here.audit.records.filter(({ event }) => event === 'hop.dropped')).toMatchObject([{ outcome: 0 }]);
  });

  test('is served nothing when the audit cannot be written', async () => {
    const client = await connect();
    here.audit.failing = ({ event }) => event === 'hop.call';
    expect(await endOf(client.call())).toMatchObject({ code: 50302 });
    expect(labs.calls()).toEqual([]);
  });
});

describe.each(ways)('an act that a client of $name made for one request', ({ connect, kind }) => {
  test('is over when the request is, however it ended', async () => {
    const begin = vi.spyOn(SessionActs.prototype, 'begin');
    onTestFinished(() => begin.mockRestore());
    const open = () => begin.mock.results.filter(({ value }) => !value.closed).length;
    const client = await connect(session, labs.url);
    clients.push(client);
    await client.tools();
    await client.call();
    expect([open(), begin.mock.results.length >= 3]).toEqual([0, true]);
    const stop = new AbortController();
    const { arrived, letIn } = underWay(kind);
    const given = client.call({ category: 'wait' }, { signal: stop.signal });
    given.catch(() => undefined);
    await arrived;
    expect(open()).toBe(1);
    stop.abort();
    await expect(given).rejects.toThrow();
    letIn();
    here.tokens.fault = 'refused';
    expect(await endOf(client.call())).toMatchObject({ code: 40302 });
    here.tokens.fault = undefined;
    labs.behaviour = 'wrong-pk';
    if (kind === 'http') expect(await endOf(client.call())).toMatchObject({ code: 40903 });
    labs.status = 500;
    await client.call({ category: 'exit' }).catch(() => undefined);
    await client.tools().catch(() => undefined);
    await expect.poll(open).toBe(0);
  });
});

describe('a plain peer that is a child process', () => {
  test.each(ways.filter(({ kind }) => kind === 'stdio'))('of $name gets nothing of the context, and is checked', async ({
    connect,
  }) => {
    const plain = world([{ name: 'pipe', resource: PIPE, kind: 'plain' }]);
    const client = await connect(await openSession({ agent: plain.agent, grant: bed.grant(ANN) }), labs.url);
    clients.push(client);
    const meta = { [META.authorization]: 'stolen', [META.context]: { patient: ANN } };
    // The child answers about whom it was told of: "Patient/null" is nobody's, so it is dropped.
    expect(await endOf(client.call({}, { meta }))).toMatchObject({ code: 40903, check: 'result' });
    expect(plain.audit.records).toMatchObject([
      { event: 'hop.call', binding: 'none' },
      { event: 'hop.dropped', code: 40903 },
    ]);
    expect(plain.tokens.requests).toEqual([]);
  });
});

describe('what a session cannot protect is refused when it is set up', () => {
  const http = (url: string) => new StreamableHTTPClientTransport(new URL(url));
  const pipe = () => new StdioClientTransport({ command: process.execPath });

  test.each<[string, () => unknown, RegExp]>([
    ['an address nobody declared', () => session.transport(http('http://127.0.0.1:1/mcp')), /not exactly one declared peer/],
    [
      'the declared address and more',
      () => session.transport(http(`${labs.url}?patient=${ANN}`)),
      /not exactly one declared peer/,
    ],
    ['a name nobody declared', () => session.transport(http(labs.url), { peer: ANN }), /no peer of this name/],
    ['the name of another peer', () => session.transport(http(labs.url), { peer: 'pipe' }), /declared address of peer "pipe"/],
    ['a pipe without a name', () => session.transport(pipe()), /needs \{ peer \}/],
    [
      'a shape that tells no kind',
      () => session.transport({ send: async () => undefined }, { peer: 'labs' }),
      /kind of this transport/,
    ],
    ['a transport twice', () => session.transport(session.transport(http(labs.url))), /already instrumented/],
  ])('%s', (_, protect, message) => {
    expect(protect).toThrow(TypeError);
    expect(protect).toThrow(message);
    expect(() => protect()).not.toThrow(ANN);
  });

  test('an address that two peers share', () => {
    const twice = ['one', 'two'].map((name) => ({ name, resource: labs.url, kind: 'hmcp' as const }));
    const open = openSession({ agent: world(twice).agent, grant: bed.grant(ANN) });
    return expect(open.then((shared) => shared.transport(http(labs.url)))).rejects.toThrow(/not exactly one declared peer/);
  });
});
