import { explain, HmcpError, parseScopes } from '@hmcp/core';
import { afterEach, describe, expect, test } from 'vitest';
import * as z from 'zod';
import { type Behaviour, startPeer, type TestPeer } from './support/peer-server.js';
import {
  ANN,
  BO,
  FHIR,
  listResults,
  NOW,
  observation,
  refusalOf,
  scopeOf,
  verifiedToken,
  type World,
  world,
} from './support/world.js';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function labsWorld(options: { legacy?: boolean } = {}): Promise<World & { labs: TestPeer }> {
  const labs = await startPeer(options);
  const made = world([{ name: 'labs', resource: labs.url, kind: 'hmcp' }]);
  closers.push(labs.close, () => made.agent.close());
  return { ...made, labs };
}

const eras = [
  { era: 'of revision 2026-07-28', legacy: false },
  { era: 'of 2025', legacy: true },
];

describe.each(eras)('a call to an hmcp server $era', ({ legacy }) => {
  test('sends the envelope and an exchanged token, and gives the parsed answer', async () => {
    const { agent, labs, tokens, audit } = await labsWorld({ legacy });
    const scope = scopeOf(ANN);
    const answer = await scope.run(() => agent.call('labs', listResults, { category: 'laboratory' }));

    expect(answer).toEqual({ results: [observation(ANN)] });
    const [sent] = labs.calls();
    const { params } = JSON.parse(sent?.body ?? '{}');
    expect(params._meta['dev.hmcp/context']).toEqual(scope.facts.envelope);
    expect(params.arguments).toEqual({ category: 'laboratory' });
    expect(sent?.headers.authorization).toBe(`Bearer for-${new URL(labs.url).port}-from-access-${ANN}`);
    expect(sent?.headers.traceparent).toMatch(/^00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)[0-9a-f]{16}-01$/);
    expect(params._meta.traceparent).toBe(sent?.headers.traceparent);
    expect(sent?.headers.baggage ?? sent?.headers.tracestate).toBeUndefined();
    expect(audit.events).toEqual(['hop.call', 'hop.result']);
    expect(tokens.requests.every(({ scope: asked }) => asked === 'patient/Observation.rs patient/Patient.r')).toBe(true);
    expect(tokens.requests.every(({ resource, lifeSeconds }) => resource === labs.url && lifeSeconds === 30)).toBe(true);
  });

  test('three patients at once on one connection: each call carries and gets its own', async () => {
    const { agent, labs } = await labsWorld({ legacy });
    const patients = [ANN, BO, 'pt-cy-1'];
    const answers = await Promise.all(patients.map((patient) => scopeOf(patient).run(() => agent.call('labs', listResults, {}))));
    expect(answers).toEqual(patients.map((patient) => ({ results: [observation(patient)] })));
    for (const { headers, body } of labs.calls()) {
      const { patient } = JSON.parse(body).params._meta['dev.hmcp/context'];
      expect(headers.authorization).toMatch(new RegExp(`-from-access-${patient}$`));
    }
    expect(labs.received.filter(({ body }) => /"(server\/discover|initialize)"/.test(body)).length).toBeLessThanOrEqual(2);
  });

  test.each<[Behaviour, number]>([
    ['no-binding', 40903],
    ['wrong-pk', 40903],
    ['wrong-intent', 40903],
    ['wrong-by', 40903],
    ['foreign-patients', 40903],
    ['sealed-binding', 40901],
    ['foreign-observation', 40903],
    ['foreign-in-text', 40903],
    ['foreign-in-resource', 40903],
    ['foreign-mention', 40903],
    ['foreign-member', 40903],
    ['unknown-type', 40903],
  ])('an answer with fault %s is dropped with %i, check "result", and nothing of it is seen', async (behaviour, code) => {
    const { agent, labs, audit } = await labsWorld({ legacy });
    labs.behaviour = behaviour;
    const dropped: unknown[] = [];
    agent.events.on('result-dropped', (event) => dropped.push(event));
    const scope = scopeOf(ANN);
    const error = await refusalOf(scope.run(() => agent.call('labs', listResults, {})));

    expect([error.code, error.check, error.data.by]).toEqual([code, 'result', 'https://triage.example/mcp']);
    expect(audit.events).toEqual(['hop.call', 'hop.dropped']);
    expect(scope.refusals).toEqual([error]);
    expect(dropped).toHaveLength(1);
    const whose = behaviour.startsWith('foreign-') && behaviour !== 'foreign-patients';
    if (whose) expect(audit.records.at(-1)?.compared).toMatchObject([{ said: 'context' }, { said: 'result' }]);
    const seen = JSON.stringify([error, error.message, error.stack, error.cause, audit.records, dropped]);
    expect(seen).not.toMatch(/pt-bo-0815|pt-ann-4711|obs-99|Horoscope/);
  });
});

describe('an operation that is about no patient', () => {
  test('gets a token and no envelope; its answer is bound to nobody, and still may name nobody else', async () => {
    const { agent, labs, audit } = await labsWorld();
    const contract = { ...listResults, patientScope: 'none', output: z.looseObject({}) } as const;
    // The server, which got no envelope, answers about somebody it made up.
    const error = await refusalOf(scopeOf(ANN).run(() => agent.call('labs', contract, {})));
    expect([error.code, error.reason]).toEqual([40903, 'another patient']);
    expect(labs.calls()[0]?.body).not.toMatch(/pt-ann|intent-of-ann/);
    expect(labs.calls()[0]?.headers.authorization).toContain('Bearer for-');
    expect(audit.records).toMatchObject([{ binding: 'none' }, { binding: 'none', event: 'hop.dropped' }]);
    labs.behaviour = 'wrong-shape';
    await expect(scopeOf(ANN).run(() => agent.call('labs', contract, {}))).resolves.toEqual({ results: 'none' });
  });
});

describe('a server that does not serve', () => {
  test.each([
    [401, 40302],
    [403, 40302],
    [302, 50301],
    [308, 50301],
    [404, 50301],
    [500, 50301],
    [503, 50301],
  ])('HTTP %i is %i, check "peer", from the first call and from a later one', async (status, code) => {
    const { agent, labs } = await labsWorld();
    labs.status = status;
    const first = await refusalOf(scopeOf(ANN).run(() => agent.call('labs', listResults, {})));
    expect([first.code, first.check]).toEqual([code, 'peer']);
    labs.status = undefined;
    await scopeOf(ANN).run(() => agent.call('labs', listResults, {}));
    labs.status = status;
    const scope = scopeOf(ANN);
    const later = await refusalOf(scope.run(() => agent.call('labs', listResults, {})));
    expect([later.code, later.check, later.data.hop]).toEqual([code, 'peer', 1]);
    expect(scope.refusals).toEqual([later]);
    expect(JSON.stringify([first, later, first.stack, later.stack])).not.toMatch(/pt-ann|liked/);
  });

  test.each([
    [401, undefined, 'peer'],
    [403, 'Bearer error="insufficient_scope", scope="patient/Observation.rs"', 'scope'],
    [403, 'Bearer error=insufficient_scope', 'scope'],
    [403, 'Bearer error="invalid_token"', 'peer'],
    [403, 'insufficient_scope pt-ann-4711', 'peer'],
    [401, 'Bearer error="insufficient_scope"', 'peer'], // no token, no scope
  ])('HTTP %i with the challenge %j is check "%s"', async (status, challenge, check) => {
    const { agent, labs } = await labsWorld();
    Object.assign(labs, { status, challenge });
    const error = await refusalOf(scopeOf(ANN).run(() => agent.call('labs', listResults, {})));
    expect([error.code, error.check]).toEqual([40302, check]);
    expect(`${explain(error)} ${JSON.stringify(error)}`).not.toMatch(/pt-ann|Bearer/);
  });

  test('a peer that refuses the token, in the handshake or later, was told the trace that its caller recorded', async () => {
    const { agent, labs, audit } = await labsWorld();
    for (const warm of [false, true]) {
      labs.status = undefined;
      if (warm) await scopeOf(ANN).run(() => agent.call('labs', listResults, {}));
      labs.status = 401;
      await refusalOf(scopeOf(ANN, { traceparent: undefined }).run(() => agent.call('labs', listResults, {})));
      const { traceparent } = audit.records.findLast(({ event }) => event === 'hop.refused') ?? {};
      expect(traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
      expect(labs.received.map(({ headers }) => headers.traceparent)).toContain(traceparent);
    }
  });

  test('nobody listening is 50301, and the next call connects anew', async () => {
    const { agent, labs } = await labsWorld();
    await labs.close();
    const scope = scopeOf(ANN);
    const error = await refusalOf(scope.run(() => agent.call('labs', listResults, {})));
    expect([error.code, error.check]).toEqual([50301, 'peer']);
    expect(scope.refusals[0]).toBe(error);
  });

  test("one request's failure to connect is not the other's that waited for it", async () => {
    const { agent, labs, tokens } = await labsWorld();
    const exchange = tokens.exchange.bind(tokens);
    tokens.exchange = async (request) => {
      if (request.subjectToken === `access-${ANN}`) throw new Error('down for Ann');
      return exchange(request);
    };
    const [ann, bo] = await Promise.allSettled([
      scopeOf(ANN).run(() => agent.call('labs', listResults, {})),
      scopeOf(BO).run(() => agent.call('labs', listResults, {})),
    ]);
    expect(ann).toMatchObject({ status: 'rejected', reason: { code: 50301 } });
    expect(bo).toMatchObject({ status: 'fulfilled' });
    expect(labs.calls()).toHaveLength(1);
  });

  test('a server that forgot the connection (404) is connected to anew by the next call', async () => {
    const { agent, labs } = await labsWorld();
    const connects = () => labs.received.filter(({ body }) => body.includes('server/discover')).length;
    const call = () => scopeOf(ANN).run(() => agent.call('labs', listResults, {}));
    await call();
    await call();
    expect(connects()).toBe(1);
    labs.status = 404;
    expect(await refusalOf(call())).toMatchObject({ code: 50301, check: 'peer' });
    labs.status = undefined;
    await call();
    expect(connects()).toBe(2);
  });

  test('no answer in time is 50301, and the call is recorded as refused', async () => {
    const { agent, labs, audit } = await labsWorld();
    labs.behaviour = 'hangs';
    const error = await refusalOf(scopeOf(ANN).run(() => agent.call('labs', listResults, {}, { timeoutMs: 150 })));
    expect([error.code, error.check, error.reason]).toEqual([50301, 'peer', 'no answer in time']);
    expect(audit.events).toEqual(['hop.call', 'hop.refused']);
  });

  test('a caller that turns away gets its own reason; no refusal is held against the request', async () => {
    const { agent, labs, audit } = await labsWorld();
    labs.behaviour = 'hangs';
    const controller = new AbortController();
    labs.onCall = () => controller.abort(new Error('enough'));
    const scope = scopeOf(ANN);
    const call = scope.run(() => agent.call('labs', listResults, {}, { signal: controller.signal }));
    await expect(call).rejects.toThrow('enough');
    expect(scope.refusals).toEqual([]);
    expect(audit.records.at(-1)).toMatchObject({ event: 'hop.dropped', outcome: 0 });
  });

  test('the end of the request ends its calls: 40901, dropped and audited', async () => {
    const { agent, labs, audit } = await labsWorld();
    labs.behaviour = 'hangs';
    const scope = scopeOf(ANN);
    labs.onCall = () => scope.close();
    const error = await refusalOf(scope.run(() => agent.call('labs', listResults, {})));
    expect([error.code, error.check]).toEqual([40901, 'result']);
    expect(audit.records.at(-1)).toMatchObject({ event: 'hop.dropped', code: 40901 });
  });
});

describe('a refusal further on', () => {
  const data = { retry: 'never', by: 'https://meds.example/mcp', hop: 3, check: 'argument', intent: 'intent-1' };

  test('keeps its code, who refused, hop and check', async () => {
    const { agent, labs, audit } = await labsWorld();
    labs.refusal = { code: 40903, message: 'text of pt-bo-0815', data };
    const scope = scopeOf(ANN);
    const refused: unknown[] = [];
    agent.events.on('refused', (event) => refused.push(event));
    const error = await refusalOf(scope.run(() => agent.call('labs', listResults, {})));
    expect([error.code, error.data]).toEqual([40903, data]);
    expect(error.message).not.toContain('pt-bo');
    expect(scope.refusals).toEqual([error]);
    expect(refused).toMatchObject([{ code: 40903, check: 'argument', by: data.by, tool: 'list-results' }]);
    expect(audit.records.at(-1)).toMatchObject({ event: 'hop.refused', code: 40903, check: 'argument' });
  });

  test.each([
    [40100, 'peer'],
    [40300, 'scope'],
  ])('%i of a pipe is the refusal of this process\'s token: 40302, check "%s"', async (code, check) => {
    const { agent, labs } = await labsWorld();
    labs.refusal = { code, message: '', data: { ...data, check: 'token' } };
    const error = await refusalOf(scopeOf(ANN).run(() => agent.call('labs', listResults, {})));
    expect([error.code, error.check, error.data.by]).toEqual([40302, check, 'https://triage.example/mcp']);
  });

  test.each([
    ['a code of ours without its data', { code: 40903, message: 'pt-bo-0815' }],
    ['a code of ours with a check that is none', { code: 40903, message: 'x', data: { ...data, check: 'pt-bo-0815' } }],
    ['another code', { code: -32603, message: 'row of pt-bo-0815', data: { row: 'pt-bo-0815' } }],
    ['invalid params', { code: -32602, message: 'pt-bo-0815' }],
  ])('%s is a plain error in fixed words', async (_, refusal) => {
    const { agent, labs } = await labsWorld();
    labs.refusal = refusal;
    const error = await scopeOf(ANN)
      .run(() => agent.call('labs', listResults, {}))
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(HmcpError);
    expect(String(error)).toBe('Error: "list-results" was answered with an error');
  });

  test('isError is a plain error in fixed words, whatever the tool wrote', async () => {
    const { agent, labs } = await labsWorld();
    labs.behaviour = 'is-error';
    const call = scopeOf(ANN).run(() => agent.call('labs', listResults, {}));
    await expect(call).rejects.toThrow(/^"list-results" reported an error$/);
  });

  const text = (said: string) => ({ type: 'text', text: said });
  test.each<[string, object[], z.ZodType, unknown]>([
    ['JSON in a text is read as JSON', [text('{"results":[]}')], z.unknown(), { results: [] }],
    ['a text that is no JSON is that text', [text('no known\nallergies')], z.string(), 'no known\nallergies'],
    ['so it is where any shape will do', [text('no known allergies')], z.unknown(), 'no known allergies'],
    ['a number in a text is the text where a text is wanted', [text('42')], z.string(), '42'],
    ['and the number where any shape will do', [text('42')], z.unknown(), 42],
    ['an empty text is one', [text('')], z.unknown(), ''],
    ['several are a list', [text('one'), text('two')], z.unknown(), [text('one'), text('two')]],
    ['nothing is an empty list', [], z.unknown(), []],
  ])('without structuredContent: %s', async (_, contents, output, expected) => {
    const { agent, labs } = await labsWorld();
    labs.contents = contents;
    expect(await scopeOf(ANN).run(() => agent.call('labs', { ...listResults, output }, {}))).toEqual(expected);
  });

  test.each<[string, object[]]>([
    ['a text', [text('results')]],
    ['several texts', [text('{"results":[]}'), text('{"results":[]}')]],
    ['nothing', []],
    ['JSON that only begins right', [text('{"results":[]} and more')]],
  ])('%s is not taken for the object of a contract', async (_, contents) => {
    const { agent, labs } = await labsWorld();
    labs.contents = contents;
    const call = scopeOf(ANN).run(() => agent.call('labs', listResults, {}));
    await expect(call).rejects.toThrow('the answer of "list-results" does not have the shape of its contract');
  });

  test("an answer without the contract's shape is a plain error in fixed words", async () => {
    const { agent, labs } = await labsWorld();
    labs.behaviour = 'wrong-shape';
    const call = scopeOf(ANN).run(() => agent.call('labs', listResults, {}));
    await expect(call).rejects.toThrow('the answer of "list-results" does not have the shape of its contract');
  });
});

describe('before anything is sent', () => {
  test('a refused exchange is 40302, check "exchange", an unreachable authorization server 50301, check "peer"', async () => {
    const { agent, labs, tokens, audit } = await labsWorld();
    for (const [fault, code, check] of [
      ['refused', 40302, 'exchange'],
      ['unreachable', 50301, 'peer'],
    ] as const) {
      tokens.fault = fault;
      const scope = scopeOf(ANN);
      const error = await refusalOf(scope.run(() => agent.call('labs', listResults, {})));
      expect([error.code, error.check]).toEqual([code, check]);
      expect(scope.refusals).toEqual([error]);
    }
    expect(labs.received).toEqual([]);
    expect(new Set(audit.events)).toEqual(new Set(['hop.refused']));
  });

  const scoped = (scope: string) => scopeOf(ANN, { token: verifiedToken(ANN, { scope, scopes: parseScopes(scope) }) });

  test.each([
    ['nothing', ''],
    ['a part of it', 'patient/Observation.rs'],
    ['another level', 'user/Observation.rs user/Patient.r'],
    ['reading without searching', 'patient/Observation.r patient/Patient.r'],
    ['a constraint more', 'patient/Observation.rs?category=laboratory patient/Patient.r'],
    ['a word nobody knows', 'patient/Observation.rs Patient'],
    ['another case', 'PATIENT/Observation.rs patient/Patient.r'],
  ])('a token that covers %s of the contract is 40302, check "scope", and nothing is exchanged', async (_, granted) => {
    const { agent, labs, tokens, audit } = await labsWorld();
    const error = await refusalOf(scoped(granted).run(() => agent.call('labs', listResults, {})));
    expect([error.code, error.check]).toEqual([40302, 'scope']);
    expect(explain(error)).toContain('Mend: launch with `scope` and `onward` of every contract');
    expect([tokens.requests, labs.received, audit.events]).toEqual([[], [], ['hop.refused']]);
  });

  test.each([
    ['in words of SMART 1', 'patient/Observation.read patient/Patient.read'],
    ['by any type', 'patient/*.rs'],
    ['in pieces', 'patient/Observation.r patient/Observation.s patient/Patient.r'],
  ])('a token that covers the contract %s is exchanged', async (_, granted) => {
    const { agent, tokens } = await labsWorld();
    await scoped(granted).run(() => agent.call('labs', listResults, {}));
    expect(tokens.requests.length).toBeGreaterThan(0);
  });

  test('a scope that only the authorization server can read is left to it', async () => {
    const { agent, tokens } = await labsWorld();
    const contract = { ...listResults, onward: 'https://hospital.example/scopes/print' };
    await scopeOf(ANN).run(() => agent.call('labs', contract, {}));
    expect(tokens.requests[0]?.scope).toContain('https://hospital.example/scopes/print');
  });

  test('a token that ends before the call could is 40302, check "token"', async () => {
    const { agent, labs } = await labsWorld();
    const token = verifiedToken(ANN, { expiresAt: NOW / 1000 + 20 });
    const late = scopeOf(ANN, { token });
    const error = await refusalOf(late.run(() => agent.call('labs', listResults, {}, { timeoutMs: 30_000 })));
    expect([error.code, error.check]).toEqual([40302, 'token']);
    const over = scopeOf(ANN, { token: verifiedToken(ANN, { expiresAt: NOW / 1000 }) });
    expect((await refusalOf(over.run(() => agent.call('labs', listResults, {})))).code).toBe(40302);
    expect(labs.received).toEqual([]);
  });

  test('without an own timeout a call waits only as long as its token lives', async () => {
    const { agent, tokens } = await labsWorld();
    const scope = scopeOf(ANN, { token: verifiedToken(ANN, { expiresAt: NOW / 1000 + 20 }) });
    await scope.run(() => agent.call('labs', listResults, {}));
    expect(tokens.requests.at(-1)?.lifeSeconds).toBe(19);
  });

  test('outside every request there is nobody to call about: 42801', async () => {
    const { agent, labs, audit } = await labsWorld();
    const error = await refusalOf(agent.call('labs', listResults, {}));
    expect([error.code, error.check]).toEqual([42801, 'envelope']);
    expect(labs.received).toEqual([]);
    expect(audit.records).toMatchObject([{ event: 'hop.refused', code: 42801 }]);
  });

  test('a server nobody declared is refused 42801, check "peer"', async () => {
    const { agent, audit } = await labsWorld();
    const scope = scopeOf(ANN);
    const error = await refusalOf(scope.run(() => agent.call('lab', listResults, {})));
    expect([error.code, error.check]).toEqual([42801, 'peer']);
    expect(scope.refusals).toEqual([error]);
    expect(audit.records).toMatchObject([{ event: 'hop.refused', peer: 'undeclared' }]);
  });

  test('a sealed envelope, which nobody here can check, is not sent: 42801', async () => {
    const { agent, labs } = await labsWorld();
    const envelope = { version: '1', seal: 'a.b.c', intent: { id: 'i', epoch: 1 } } as const;
    const error = await refusalOf(scopeOf(ANN, { envelope }).run(() => agent.call('labs', listResults, {})));
    expect([error.code, error.check]).toEqual([42801, 'seal']);
    expect(labs.calls()).toEqual([]);
  });

  test('arguments that do not satisfy the contract are a TypeError, and nothing is sent', async () => {
    const { agent, labs } = await labsWorld();
    const call = scopeOf(ANN).run(() => agent.call('labs', listResults, { category: 7 as never }));
    await expect(call).rejects.toThrow(new TypeError('the arguments of "list-results" do not satisfy its contract'));
    expect(labs.received).toEqual([]);
  });
});

describe('the audit of a caller', () => {
  test('is durable before the request leaves and before the answer is delivered', async () => {
    const { agent, labs, audit } = await labsWorld();
    const order: string[] = [];
    audit.onAppend = async (record) => {
      await Promise.resolve();
      order.push(record.event);
    };
    labs.onCall = () => void order.push('served');
    await scopeOf(ANN).run(() => agent.call('labs', listResults, {}));
    order.push('delivered');
    expect(order).toEqual(['hop.call', 'served', 'hop.result', 'delivered']);
  });

  test.each(['hop.call', 'hop.result'])('that cannot keep %s answers 50302, check "audit"', async (event) => {
    const { agent, labs, audit } = await labsWorld();
    audit.failing = (record) => record.event === event;
    const scope = scopeOf(ANN);
    const error = await refusalOf(scope.run(() => agent.call('labs', listResults, {})));
    expect([error.code, error.check]).toEqual([50302, 'audit']);
    expect(scope.refusals.map(({ code }) => code)).toContain(50302);
    expect(labs.calls()).toHaveLength(event === 'hop.call' ? 0 : 1);
    expect(JSON.stringify(error)).not.toContain('disk');
  });

  test('names nobody: the patient by key, the person by hash, no token, argument or result', async () => {
    const { agent, audit } = await labsWorld();
    await scopeOf(ANN).run(() => agent.call('labs', listResults, { category: 'secret-category' }));
    expect(audit.records[1]).toMatchObject({
      event: 'hop.result',
      outcome: 0,
      by: 'https://triage.example/mcp',
      hop: 1,
      clientId: 'triage-client',
      intent: 'intent-of-ann',
      pk: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      pkScope: 'local',
      method: 'tools/call',
      tool: 'list-results',
      binding: 'checked',
      types: { Observation: 1 },
      unverifiable: 0,
    });
    const text = JSON.stringify(audit.records);
    expect(text).not.toMatch(/pt-ann|dr-grey|secret-category|access-|for-\d+|Potassium/);
    expect(text).not.toContain(FHIR);
  });

  test('a listener that throws changes nothing', async () => {
    const { agent } = await labsWorld();
    agent.events.on('call', () => {
      throw new Error('listener');
    });
    await expect(scopeOf(ANN).run(() => agent.call('labs', listResults, {}))).resolves.toBeDefined();
  });
});
