import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AuthorityUnavailable, ExchangeRefused, type ExchangeRequest } from '@hmcp/auth';
import { definePatientTool } from '@hmcp/core';
import { McpServer } from '@modelcontextprotocol/server';
import { afterEach, describe, expect, test } from 'vitest';
import * as z from 'zod';
import { createHmcpHandler, type FhirClient, patientTool } from '../src/index.js';
import { ask } from './support/wire.js';
import { ANN, BO, NEVER, observation, SECRET, world } from './support/world.js';

type Answer = readonly [status: number, body: unknown, headers?: Record<string, string>];
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const contract = definePatientTool({
  name: 'ask-fhir',
  scope: 'patient/Observation.rs',
  description: 'x',
  input: z.object({}),
  output: z.looseObject({}),
});

/** A FHIR server of one answer, and an agent in front whose handler does `work` with its narrowed client. */
async function clinic(
  answer: (url: URL, request: IncomingMessage) => Answer | undefined,
  work: (fhir: FhirClient) => Promise<unknown>,
) {
  const asked: { url: URL; authorization: string | undefined; headers: IncomingMessage['headers'] }[] = [];
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '', base());
    asked.push({ url, authorization: request.headers.authorization, headers: request.headers });
    const [status, body, headers] = answer(url, request) ?? [];
    if (status === undefined) return void request.socket.destroy();
    response.writeHead(status, { 'content-type': 'application/fhir+json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const base = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}/r4`;
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const exchanges: ExchangeRequest[] = [];
  const faults: { fault?: Error } = {};
  const tokens = {
    async exchange(request: ExchangeRequest) {
      exchanges.push(request);
      if (faults.fault) throw faults.fault;
      return { accessToken: `exchanged-${exchanges.length}`, scope: request.scope, expiresAt: Date.now() / 1000 + 60 };
    },
  };
  const w = world({ tokens });
  const handler = createHmcpHandler(() => {
    const mcp = new McpServer({ name: 'labs', version: '1' });
    patientTool(mcp, contract, async (_args, { fhir }) => ({ said: (await work(fhir)) ?? null }));
    return mcp;
  }, w.env);
  const token = w.issuer.issue(ANN, { fhirServer: base() });
  const call = (as = token) =>
    ask(handler, 'tools/call', { name: 'ask-fhir', arguments: {} }, { token: as, headers: { traceparent: TRACE } });
  return { ...w, base, asked, exchanges, faults, call, token };
}

const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const bundle = (resources: readonly unknown[], more: object = {}): Answer => [
  200,
  { resourceType: 'Bundle', type: 'searchset', entry: resources.map((resource) => ({ resource })), ...more },
];
const search = (parameters?: Record<string, string>) => (fhir: FhirClient) => fhir.search('Observation', parameters);
const read = (fhir: FhirClient) => fhir.read('Observation', 'obs-7');

describe('what is asked', () => {
  test('a search is narrowed to the patient, with a token exchanged for it and never the caller’s own', async () => {
    const c = await clinic(() => bundle([observation(ANN)]), search({ category: 'laboratory', _count: '50' }));
    expect((await c.call()).result).toMatchObject({ structuredContent: { said: [{ id: 'obs-7' }] } });
    expect(c.asked).toHaveLength(1);
    expect(c.asked[0]?.url.search).toBe(`?patient=${ANN}&category=laboratory&_count=50`);
    expect(c.asked[0]?.authorization).toBe('Bearer exchanged-1');
    expect(c.exchanges).toEqual([{ subjectToken: c.token, resource: c.base(), scope: 'patient/Observation.s', sid: undefined }]);
    expect(JSON.stringify(c.asked[0]?.headers)).not.toContain(c.token);
    expect(c.asked[0]?.headers.traceparent).toBe(TRACE);
  });

  test('a search of Patient is for this one', async () => {
    const c = await clinic(
      () => bundle([{ resourceType: 'Patient', id: ANN }]),
      (fhir) => fhir.search('Patient'),
    );
    expect((await c.call()).result).toBeDefined();
    expect(c.asked[0]?.url.search).toBe(`?_id=${ANN}`);
  });

  test('a user-level token is exchanged at its own level', async () => {
    const c = await clinic(() => [200, observation(ANN)], read);
    const token = c.issuer.issue(ANN, { fhirServer: c.base(), scope: 'user/Observation.rs' });
    expect((await c.call(token)).result).toBeDefined();
    expect(c.exchanges[0]?.scope).toBe('user/Observation.r');
  });

  test.each([
    'patient',
    'Patient',
    'subject',
    '_id',
    '_has:Group:member:_id',
    '_include',
    '_include:iterate',
    '_revinclude',
    '_contained',
    '_list',
    '_filter',
    '_query',
    'subject:Patient',
    'subject.name',
    'encounter.subject',
    'patient:identifier',
  ])('%s reaches beyond the patient: 40903, and nothing is sent', async (name) => {
    const c = await clinic(() => bundle([]), search({ [name]: BO }));
    expect((await c.call()).error).toMatchObject({ code: 40903, data: { check: 'argument' } });
    expect(c.asked).toEqual([]);
    expect(c.exchanges).toEqual([]);
    expect(c.audit.last).toMatchObject({ event: 'request.refused', code: 40903, check: 'argument' });
  });

  test.each([
    ['Observation', '../Patient'],
    ['Observation', `x?patient=${BO}`],
    ['Observation', ''],
    ['Observation/x', 'y'],
    ['observation', 'x'],
    ['$everything', 'x'],
  ])('read(%j, %j) is no resource: 40302, and nothing is sent', async (type, id) => {
    const c = await clinic(
      () => [200, observation(ANN)],
      (fhir) => fhir.read(type, id),
    );
    expect((await c.call()).error).toMatchObject({ code: 40302, data: { check: 'argument' } });
    expect(c.asked).toEqual([]);
  });
});

describe('whatever is not the patient’s is the same 40302', () => {
  const cases: readonly (readonly [string, (url: URL) => Answer, (fhir: FhirClient) => Promise<unknown>])[] = [
    ['a row of another patient', () => [200, observation(BO, SECRET)], read],
    ['a row of another patient among its own', () => bundle([observation(ANN), observation(BO, SECRET)]), search()],
    [
      'another patient',
      () => [200, { resourceType: 'Patient', id: BO, name: [{ text: SECRET }] }],
      (fhir) => fhir.read('Patient', ANN),
    ],
    ['a missing resource', () => [404, { resourceType: 'OperationOutcome', issue: [{ diagnostics: SECRET }] }], read],
    ['a resource that is gone', () => [410, SECRET], read],
    ['a refusal', () => [403, { text: SECRET }], read],
    ['an unaccepted token', () => [401, SECRET], read],
    ['a malformed request', () => [400, SECRET], read],
    ['another resource than asked', () => [200, { ...observation(ANN), id: 'obs-8' }], read],
    ['another type than asked', () => [200, { resourceType: 'Organization', id: 'obs-7' }], read],
    ['an unknown type', () => [200, { resourceType: 'Horoscope', id: 'obs-7' }], read],
  ];

  test('byte for byte', async () => {
    const texts = new Set<string>();
    for (const [, answer, work] of cases) {
      const c = await clinic(answer, work);
      const said = await c.call();
      expect(said.error).toMatchObject({ code: 40302, data: { check: 'argument', retry: 'never', hop: 1 } });
      for (const word of NEVER) expect(said.text + JSON.stringify([c.audit.records, c.logged])).not.toContain(word);
      expect(c.audit.records).toMatchObject([{ event: 'request.refused', code: 40302, check: 'argument' }]);
      texts.add(JSON.stringify({ ...said.error, data: { ...said.error?.data, intent: '' } }));
    }
    expect(texts.size).toBe(1);
  });

  test('while the local audit says what the FHIR server answered', async () => {
    const reasons = [];
    for (const status of [401, 403, 404, 400]) {
      const c = await clinic(() => [status, SECRET], read);
      await c.call();
      reasons.push(c.audit.last?.reason);
    }
    expect(reasons).toEqual([
      'the FHIR server does not accept the token',
      'the FHIR server refused',
      'the FHIR server knows no such resource',
      'the FHIR server refused or knows no such resource',
    ]);
  });

  test('a handler that swallows it and fails otherwise is answered by it all the same', async () => {
    const c = await clinic(
      () => [404, {}],
      (fhir) => fhir.read('Observation', 'obs-7').catch(() => Promise.reject(new Error(SECRET))),
    );
    expect((await c.call()).error).toMatchObject({ code: 40302 });
  });
});

describe('what is refused for its token, before the FHIR server is asked', () => {
  test.each([
    ['invalid_target', 'exchange', /not registered/],
    ['subject_expiring', 'token', /ends before/],
    ['a word nobody knows', 'exchange', /^the exchange of the token was refused$/],
  ] as const)('an exchange refused with %s is 40302, check "%s"', async (word, check, reason) => {
    const c = await clinic(() => [200, observation(ANN)], read);
    c.faults.fault = new ExchangeRefused(word);
    expect((await c.call()).error).toMatchObject({ code: 40302, data: { check } });
    expect(c.audit.last).toMatchObject({ check, reason: expect.stringMatching(reason) });
    expect(c.asked).toEqual([]);
  });

  test('a type that the token covers at no level is 40302, check "scope", and nothing is exchanged', async () => {
    const c = await clinic(
      () => [200, observation(ANN)],
      (fhir) => fhir.read('Condition', 'c-1'),
    );
    const token = c.issuer.issue(ANN, { fhirServer: c.base(), scope: 'patient/Observation.rs' });
    expect((await c.call(token)).error).toMatchObject({ code: 40302, data: { check: 'scope' } });
    expect(c.exchanges).toEqual([]);
    expect(c.asked).toEqual([]);
  });
});

describe('a server that cannot be asked is 50301', () => {
  test.each<readonly [string, () => Answer | undefined]>([
    ['500', () => [500, SECRET]],
    ['503', () => [503, SECRET]],
    ['429', () => [429, SECRET]],
    ['no answer', () => undefined],
    ['a redirect', () => [302, '', { location: 'http://127.0.0.1:9/elsewhere' }]],
    ['no JSON', () => [200, '<Observation/>']],
    ['JSON that is no resource', () => [200, [SECRET]]],
    ['nothing', () => [200, '']],
  ])('%s', async (_what, answer) => {
    const c = await clinic(answer, read);
    const said = await c.call();
    expect(said.error).toMatchObject({ code: 50301, data: { check: 'peer', retry: 'same' } });
    for (const word of NEVER) expect(said.text).not.toContain(word);
  });

  test.each<readonly [string, unknown]>([
    ['a search that is no Bundle', observation(ANN)],
    ['a Bundle of rows that are none', { resourceType: 'Bundle', entry: [{ resource: { id: 'x' } }] }],
  ])('%s', async (_what, body) => {
    const c = await clinic(() => [200, body], search());
    expect((await c.call()).error).toMatchObject({ code: 50301 });
  });

  test('a redirect is not followed, wherever it leads', async () => {
    const c = await clinic(
      (url) => (url.searchParams.has('moved') ? [200, observation(ANN)] : [307, '', { location: '?moved=1' }]),
      read,
    );
    expect((await c.call()).error).toMatchObject({ code: 50301 });
    expect(c.asked).toHaveLength(1);
  });

  test('an authority that is down', async () => {
    const c = await clinic(() => [200, observation(ANN)], read);
    c.faults.fault = new AuthorityUnavailable('down');
    expect((await c.call()).error).toMatchObject({ code: 50301 });
  });
});

describe('pages', () => {
  test('are followed to the end; outcomes and rows of other types are left out', async () => {
    const outcome = { resourceType: 'OperationOutcome', issue: [{ severity: 'warning', diagnostics: 'slow' }] };
    const c = await clinic((url) => {
      if (url.searchParams.has('page')) return bundle([observation(ANN, 2), outcome]);
      const next = { relation: 'next', url: `${url.origin}/r4?page=2` };
      return bundle([observation(ANN, 1), { resourceType: 'Practitioner', id: 'p1' }], { link: [next] });
    }, search());
    const { result } = await c.call();
    expect(result).toMatchObject({ structuredContent: { said: [{ id: 'obs-1' }, { id: 'obs-2' }] } });
  });

  test.each([
    'http://127.0.0.1:9/r4?page=2',
    'https://evil.example/r4/Observation',
    '/r4x/Observation',
    '/admin',
    '../admin',
    'file:///etc/passwd',
    7,
    'http://[',
  ])('a next page at %j is refused, and not fetched', async (url) => {
    const c = await clinic(() => bundle([observation(ANN)], { link: [{ relation: 'next', url }] }), search());
    expect((await c.call()).error).toMatchObject({ code: 40302, data: { check: 'argument' } });
    expect(c.asked).toHaveLength(1);
  });

  test('without end are refused: half of a list would look like all of it', async () => {
    const c = await clinic((url) => bundle([], { link: [{ relation: 'next', url: `${url.origin}/r4?page=x` }] }), search());
    expect((await c.call()).error).toMatchObject({ code: 50301 });
    expect(c.asked).toHaveLength(50);
  });
});

test('a row kept from an earlier request is not answered to the next', async () => {
  let kept: unknown;
  const c = await clinic(
    () => [200, observation(ANN)],
    async (fhir) => {
      kept ??= await fhir.read('Observation', 'obs-7');
      return { copy: kept };
    },
  );
  expect((await c.call()).result).toBeDefined();
  expect((await c.call()).error).toMatchObject({ code: 40903, data: { check: 'result' } });
});

test('without an exchange there is no FHIR: 50301', async () => {
  const w = world();
  const handler = createHmcpHandler(() => {
    const mcp = new McpServer({ name: 'labs', version: '1' });
    patientTool(mcp, contract, async (_args, { fhir }) => ({ said: await read(fhir) }));
    return mcp;
  }, w.env);
  const { error } = await ask(handler, 'tools/call', { name: 'ask-fhir', arguments: {} }, { token: w.issuer.issue(ANN) });
  expect(error).toMatchObject({ code: 50301, data: { check: 'peer' } });
});

test('without outgoing calls configured, `call` is 42801', async () => {
  const w = world();
  const handler = createHmcpHandler(() => {
    const mcp = new McpServer({ name: 'labs', version: '1' });
    patientTool(mcp, contract, async (_args, { call }) => ({ said: await call('other', contract, {}) }));
    return mcp;
  }, w.env);
  const { error } = await ask(handler, 'tools/call', { name: 'ask-fhir', arguments: {} }, { token: w.issuer.issue(ANN) });
  expect(error).toMatchObject({ code: 42801, data: { check: 'peer' } });
});
