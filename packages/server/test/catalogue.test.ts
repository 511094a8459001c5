import { ResourceTemplate as TemplateV1 } from '@modelcontextprotocol/sdk/server/mcp.js';
import { InMemoryTransport, McpServer, ResourceTemplate } from '@modelcontextprotocol/server';
import { describe, expect, test, vi } from 'vitest';
import * as z from 'zod';
import { forgetTools, hasShown, lacksPatientArgument, lookForDeclared, shownList } from '../src/catalogue.js';
import { createHmcpHandler, createProtection } from '../src/index.js';
import { Declarations } from '../src/operations.js';
import { V1, V2 } from './support/existing-servers.js';
import { MAKES, pinned, type Registrar } from './support/existing-tool.js';
import { protectedHttp } from './support/protected-carriers.js';
import { ANN, BO, NEVER, READ, RESOURCE, SECRET, world } from './support/world.js';

const SDKS = Object.keys(MAKES) as (keyof typeof MAKES)[];
const call = (name: string, args: object = {}) => ({ name, arguments: args });
const nothing = () => ({ content: [] });
const chart = { ...READ, patientArgument: 'chart' };
const none = { ...READ, patientArgument: null };
const ABSENT = 'a declared tool is not in the list of tools: correct its name in `operations`';
const NO_PROPERTY = 'a declared patientArgument is no property of its tool’s input schema: correct it in `operations`';
const INVALID = 'the arguments do not satisfy the input schema of the tool: see whether its patientArgument is the right one';
const notice = (tool: string, text: string) => JSON.stringify({ method: 'tools/call', tool, notice: text });

describe.each(SDKS)('%s: what is listed', (sdk) => {
  const register = (server: Registrar) => {
    server.registerTool('by_mrn', { inputSchema: z.object({ chart: z.string(), test: z.string().optional() }) }, nothing);
    server.registerTool('plain', {}, nothing);
    server.registerTool('everybody', { description: SECRET }, nothing);
    const contents = () => ({ contents: [] });
    server.registerResource('current', 'chart://current', {}, contents);
    server.registerResource('hidden', 'chart://hidden', { description: SECRET }, contents);
    const template = (uri: string) =>
      sdk === 'SDK v1' ? new TemplateV1(uri, { list: undefined }) : new ResourceTemplate(uri, { list: undefined });
    server.registerResource('labs', template('labs://{test}'), {}, contents);
    server.registerResource('all', template('all://{who}'), { description: SECRET }, contents);
    const argsSchema = sdk === 'SDK v1' ? { chart: z.string() } : z.object({ chart: z.string() });
    server.registerPrompt('summary', { argsSchema }, () => ({ messages: [] }));
    server.registerPrompt('compare', { description: SECRET }, () => ({ messages: [] }));
  };
  const operations = {
    tools: { by_mrn: chart, plain: none },
    resources: { 'chart://current': READ, 'labs://{test}': none },
    prompts: { summary: chart },
  };

  test.each([
    ['tools/list', 'tools', ['by_mrn', 'plain']],
    ['resources/list', 'resources', ['current']],
    ['resources/templates/list', 'resourceTemplates', ['labs']],
    ['prompts/list', 'prompts', ['summary']],
  ])('%s leaves out what nobody declared, and the audit says so', async (method, member, names) => {
    const p = await pinned(sdk, register, operations);
    const { result, text } = await p.ask(method);
    expect((result?.[member] as { name: string }[]).map(({ name }) => name)).toEqual(names);
    for (const word of NEVER) expect(text).not.toContain(word);
    expect(text).not.toContain('"chart"');
    expect(p.audit.records.at(-1)).toMatchObject({
      event: 'request.served',
      outcome: 0,
      reason: 'undeclared operations were left out of the list',
    });
    expect(p.logged).toEqual([]);
    await p.close();
  });

  test('an undeclared tool is named in the record of its refusal once a list of the server has shown it, and no other name is', async () => {
    const p = await pinned(sdk, register, operations);
    const refused = async (name: string) => {
      expect((await p.ask('tools/call', call(name))).error).toMatchObject({ code: 40303, data: { check: 'operation' } });
      return p.audit.records.at(-1)?.tool;
    };
    expect(await refused('everybody')).toBeUndefined();
    await p.ask('tools/list');
    expect(await refused('everybody')).toBe('everybody');
    for (const name of [`of-${BO}`, 'Everybody', 'constructor', '']) expect(await refused(name)).toBeUndefined();
    await p.close();
  });

  test('a list of declared operations only is recorded without that', async () => {
    const p = await pinned(sdk, (server) => server.registerTool('plain', {}, nothing), { tools: { plain: none } });
    await p.ask('tools/list');
    expect(p.audit.records.at(-1)?.reason).toBeUndefined();
    await p.close();
  });
});

describe.each(SDKS)('%s: a declaration that does not fit', (sdk) => {
  const input = z.object({ patientId: z.string() });
  const ran: string[] = [];
  const register = (server: Registrar) =>
    server.registerTool('get-labs', { inputSchema: input }, ({ patientId }) => {
      ran.push(String(patientId));
      return nothing();
    });
  const misspelt = { tools: { 'get-labs': { ...READ, patientArgument: 'patientid' } } };

  test('of a misspelt argument is logged once when the tools are listed, and calls are then refused clearly', async () => {
    const p = await pinned(sdk, register, misspelt);
    await p.ask('tools/list');
    await p.ask('tools/list');
    expect(p.logged).toEqual([notice('get-labs', NO_PROPERTY)]);
    const answer = await p.ask('tools/call', call('get-labs', { patientId: ANN }));
    expect(answer.error).toMatchObject({ code: 40303, data: { check: 'argument', retry: 'never' } });
    const record = p.audit.records.at(-1);
    expect(record).toMatchObject({
      event: 'request.refused',
      code: 40303,
      check: 'argument',
      reason: 'the declared patientArgument is no property of the input schema of the tool',
    });
    expect(record?.compared).toBeUndefined();
    expect(ran).toEqual([]);
    await p.close();
  });

  test.each([
    ['required', input],
    ['optional', z.object({ patientId: z.string().optional() })],
  ])('of a misspelt argument that is %s, called before any list: the server is asked once, and the tool never runs', async (_, inputSchema) => {
    const p = await pinned(
      sdk,
      (server) =>
        server.registerTool('get-labs', { inputSchema }, ({ patientId }) => {
          ran.push(String(patientId));
          return nothing();
        }),
      misspelt,
    );
    for (let round = 0; round < 2; round += 1) {
      const { error, text } = await p.ask('tools/call', call('get-labs'));
      expect(error).toMatchObject({ code: 40303, data: { check: 'argument' } });
      expect(text).not.toContain('tools-');
    }
    expect(p.audit.records.map(({ event, method }) => [event, method])).toEqual([
      ['request.refused', 'tools/call'],
      ['request.refused', 'tools/call'],
    ]);
    expect(p.logged).toEqual([notice('get-labs', NO_PROPERTY)]);
    expect(ran).toEqual([]);
    await p.close();
  });

  test('of a fitting argument, called before any list: served, with the patient filled in', async () => {
    const p = await pinned(sdk, register, { tools: { 'get-labs': { ...READ, patientArgument: 'patientId' } } });
    expect((await p.ask('tools/call', call('get-labs'))).error).toBeUndefined();
    expect(ran.splice(0)).toEqual([ANN]);
    expect(p.logged).toEqual([]);
    await p.close();
  });

  test('of a tool that changed: the list is looked at anew once the server has said so', async () => {
    let tool: unknown;
    const p = await pinned(sdk, (server) => (tool = register(server)), {
      tools: { 'get-labs': { ...READ, patientArgument: 'patientId' } },
    });
    expect((await p.ask('tools/call', call('get-labs'))).error).toBeUndefined();
    const changed = { chart: z.string().optional() };
    (tool as { update(to: object): void }).update({ paramsSchema: sdk === 'SDK v1' ? changed : z.object(changed) });
    expect((await p.ask('tools/call', call('get-labs'))).error).toMatchObject({ code: 40303, data: { check: 'argument' } });
    expect(ran.splice(0)).toEqual([ANN]);
    await p.close();
  });

  test('of an argument denied: the audit and one notice say that the schema is not satisfied', async () => {
    const p = await pinned(sdk, register, { tools: { 'get-labs': none } });
    for (let round = 0; round < 2; round += 1) {
      const { result } = await p.ask('tools/call', call('get-labs'));
      expect(result).toMatchObject({ isError: true, content: [{ text: 'The tool failed.' }] });
      expect(p.audit.records.at(-1)).toMatchObject({
        event: 'request.served',
        outcome: 4,
        reason: 'the arguments do not satisfy the input schema of the tool',
      });
    }
    expect(p.logged).toEqual([notice('get-labs', INVALID)]);
    expect(ran).toEqual([]);
    await p.close();
  });

  test('of a misspelt tool is logged once, when the tools are listed or it is called', async () => {
    const operations = { tools: { 'get-lab': { ...READ, patientArgument: 'patientId' } } };
    const listed = await pinned(sdk, register, operations);
    await listed.ask('tools/list');
    await listed.ask('tools/list');
    expect(listed.logged).toEqual([notice('get-lab', ABSENT)]);
    await listed.close();
    const called = await pinned(sdk, register, operations);
    await called.ask('tools/call', call('get-lab'));
    expect(called.audit.records.at(-1)?.reason).toBe('the server has no tool of that name');
    expect(called.logged).toEqual([notice('get-lab', ABSENT)]);
    await called.close();
  });

  test('of a misspelt tool is logged after the first refusal of the right name, which stays as it is; the server is asked once', async () => {
    const operations = { tools: { 'get-lab': { ...READ, patientArgument: 'patientId' } } };
    const p = await pinned(sdk, register, operations);
    for (let round = 0; round < 3; round += 1) {
      const { error } = await p.ask('tools/call', call('get-labs'));
      expect(error).toMatchObject({ code: 40303, data: { check: 'operation' } });
    }
    await vi.waitFor(() => expect(p.logged).toEqual([notice('get-lab', ABSENT)]));
    expect(p.audit.records.map(({ event, method }) => [event, method])).toEqual(Array(3).fill(['request.refused', 'tools/call']));
    expect(ran).toEqual([]);
    await p.close();
  });

  test('a tool that fails by itself says nothing of its schema, whatever it says', async () => {
    const fails = (server: Registrar) =>
      server.registerTool('boom', {}, () => {
        throw new Error(`no bed for ${SECRET}: Input validation error`);
      });
    const p = await pinned(sdk, fails, { tools: { boom: none } });
    await p.ask('tools/call', call('boom'));
    expect(p.audit.records.at(-1)?.reason).toBeUndefined();
    expect(p.logged).toEqual([]);
    await p.close();
  });
});

describe('before a tool is called that no list has shown', () => {
  const declarations = new Declarations({ tools: { t: chart, plain: none } });
  const page = (tools: object[], nextCursor?: string) => ({ tools, ...(nextCursor === undefined ? {} : { nextCursor }) });
  const fits = { name: 't', inputSchema: { type: 'object', properties: { chart: {} } } };
  const lacks = { name: 't', inputSchema: { type: 'object', properties: {} } };

  test.each([
    ['on the first page', [page([lacks])], true, [undefined]],
    ['on a later page', [page([], 'b'), page([], 'c'), page([lacks])], true, [undefined, 'b', 'c']],
    ['that fits', [page([fits], 'b')], false, [undefined]],
    ['that is on no page', [page([], 'b'), page([])], false, [undefined, 'b']],
    ['of a server that shows none', [{} as never], false, [undefined]],
    ['of a list that is none', [{ tools: 'all' } as never], false, [undefined]],
  ])('the server is asked for its list, and not again: a tool %s', async (_, pages, expected, cursors) => {
    const { env } = world();
    const asked: (string | undefined)[] = [];
    const ask = async (cursor: string | undefined) => pages[asked.push(cursor) - 1];
    expect(await lacksPatientArgument('t', declarations, env, ask)).toBe(expected);
    expect(await lacksPatientArgument('t', declarations, env, ask)).toBe(expected);
    expect(asked).toEqual(cursors);
  });

  test('a list that did not come, as when the first caller goes away, leaves the next caller to ask again', async () => {
    const { env } = world();
    const pages = [undefined, page([], 'b'), undefined, page([lacks])];
    const ask = async () => pages.shift();
    const calls = [1, 2, 3].map(() => () => lacksPatientArgument('t', declarations, env, ask));
    const found: boolean[] = [];
    for (const asks of calls) found.push(await asks());
    expect(found).toEqual([false, false, true]);
  });

  test('a list that never ends is given up', async () => {
    let asked = 0;
    const ask = async () => {
      asked += 1;
      return page([], String(asked));
    };
    expect(await lacksPatientArgument('t', declarations, world().env, ask)).toBe(false);
    expect(asked).toBe(64);
  });

  test.each(['plain', 'undeclared', undefined, 7])('of %j nothing is asked: no argument is filled in', async (tool) => {
    const ask = () => Promise.reject(new Error('asked'));
    expect(await lacksPatientArgument(tool, declarations, world().env, ask)).toBe(false);
  });
});

test.each([
  ['SDK v1, without sessions', V1, false],
  ['SDK v1, with sessions', V1, true],
  ['SDK v2, without sessions', V2, false],
  ['SDK v2, with sessions', V2, true],
])('over HTTP (%s) a misspelt tool is logged after its first caller was refused', async (_, sdk, sessions) => {
  const p = await protectedHttp(sdk, {
    sessions,
    operations: { tools: { 'get-lab': { ...READ, patientArgument: 'patientId' } } },
  });
  const { error } = await p.ask('tools/call', call('get-labs'), 'own');
  expect(error).toMatchObject({ code: 40303, data: { check: 'operation' } });
  await vi.waitFor(() => expect(p.logged).toEqual([notice('get-lab', ABSENT)]));
  expect(p.ran()).toEqual([]);
  await p.close();
});

test('a server written for HMCP says the same of what its deployment declares besides', async () => {
  const w = world({ operations: { tools: { 'get-lab': none } } });
  const handler = createHmcpHandler(() => {
    const server = new McpServer({ name: 'written', version: '1' });
    server.registerTool('get-labs', {}, nothing as never);
    return server;
  }, w.env);
  await handler.undeclared;
  const answer = await handler.fetch(
    new Request(RESOURCE, {
      method: 'POST',
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: call('get-labs') }),
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        authorization: `Bearer ${w.issuer.issue(ANN)}`,
      },
    }),
  );
  expect(await answer.text()).toContain('"code":40303');
  await vi.waitFor(() => expect(w.logged).toContain(notice('get-lab', ABSENT)));
});

test('a refusal waits for no list: it is answered though the server never shows one', async () => {
  const w = world();
  const [near, far] = InMemoryTransport.createLinkedPair();
  const hmcp = createProtection({ ...w.env, operations: { tools: { 'get-lab': none } } });
  const transport = hmcp.protect(far, { accessToken: w.issuer.issue(ANN) });
  const happened: unknown[] = [];
  transport.onmessage = (message: unknown) => happened.push((message as { method: string }).method);
  near.onmessage = (message) => happened.push((message as { error: { code: number } }).error.code);
  await near.send({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: call('get-labs') });
  await vi.waitFor(() => expect(happened).toEqual([40303, 'tools/list']));
  expect(w.logged).toEqual([]);
  await near.close();
});

describe('after an undeclared tool was refused', () => {
  const declarations = new Declarations({ tools: { t: chart, plain: none } });
  const page = (names: readonly unknown[], nextCursor?: string) => ({
    tools: names.map((name) => ({ name, inputSchema: {} })),
    ...(nextCursor === undefined ? {} : { nextCursor }),
  });
  const asking = (pages: readonly unknown[]) => {
    const asked: (string | undefined)[] = [];
    return { asked, ask: async (cursor: string | undefined) => pages[asked.push(cursor) - 1] as never };
  };

  test.each([
    ['nothing is said of what is listed', [page(['t', 'plain'])], []],
    ['what is on a later page is not misspelt', [page(['t'], 'b'), page(['plain'])], []],
    ['what is on no page is', [page(['T'], 'b'), page(['plain'])], ['t']],
    ['and so is all of a list that is none', [{ tools: 'all' }], ['t', 'plain']],
    ['and of a server that shows none', [{}], ['t', 'plain']],
    ['and of one with odd entries', [{ tools: [null, 7, {}, { name: ['t'] }] }], ['t', 'plain']],
  ])('the list of the server is looked through once: %s', async (_, pages, absent) => {
    const { env, logged } = world();
    const { ask, asked } = asking(pages);
    await Promise.all([lookForDeclared(declarations, env, ask), lookForDeclared(declarations, env, ask)]);
    await lookForDeclared(declarations, env, ask);
    expect(logged).toEqual(absent.map((tool) => notice(tool, ABSENT)));
    expect(asked).toHaveLength(pages.length);
  });

  test('again once the server said that its list changed, and not when a client has looked at the whole of it', async () => {
    const { env, logged } = world();
    const { ask, asked } = asking([page(['t', 'plain']), page(['t'])]);
    shownList('tools/list', {}, page(['t', 'plain']), declarations, env);
    await lookForDeclared(declarations, env, ask);
    expect(asked).toEqual([]);
    forgetTools(env);
    await lookForDeclared(declarations, env, ask);
    forgetTools(env);
    await lookForDeclared(declarations, env, ask);
    expect([asked.length, logged]).toEqual([2, [notice('plain', ABSENT)]]);
  });

  test.each([
    ['that did not come', async () => undefined],
    ['that could not be asked for', () => Promise.reject(new Error(SECRET))],
  ])('of a list %s nothing is said, and the next refusal asks again', async (_, ask) => {
    const { env, logged } = world();
    await lookForDeclared(declarations, env, ask);
    expect(logged).toEqual([]);
    await lookForDeclared(declarations, env, asking([page([])]).ask);
    expect(logged).toHaveLength(2);
  });

  test('a list that never ends proves nothing absent, and a deployment without a table asks nothing', async () => {
    const { env, logged } = world();
    const endless = asking(Array(80).fill(page([], 'x')));
    await lookForDeclared(declarations, env, endless.ask);
    expect([endless.asked.length, logged]).toEqual([64, []]);
    const untold = asking([]);
    await lookForDeclared(new Declarations(), world().env, untold.ask);
    expect(untold.asked).toEqual([]);
  });
});

test('names that lists show are remembered up to a number, and only where they have the form of a name', () => {
  const { env } = world();
  const declarations = new Declarations(undefined);
  const show = (names: readonly unknown[]) =>
    shownList('tools/list', {}, { tools: names.map((name) => ({ name })) }, declarations, env);
  show(['', 'two words', 'x'.repeat(129), 7, null, 'a']);
  expect(['', 'two words', 'x'.repeat(129), 7, null].filter((name) => hasShown(name, env))).toEqual([]);
  show(Array.from({ length: 5000 }, (_, i) => `tool-${i}`));
  expect([hasShown('a', env), hasShown('tool-4000', env), hasShown('tool-4999', env)]).toEqual([true, true, false]);
});

describe('whether a schema is known not to have an argument', () => {
  const listed = (inputSchema: unknown, params: object = {}, more: object = {}) => {
    const w = world();
    const declarations = new Declarations({ tools: { t: chart } });
    shownList('tools/list', params as never, { tools: [{ name: 't', inputSchema }], ...more }, declarations, w.env);
    return w.logged;
  };

  test.each([
    { type: 'object', properties: {} },
    { type: 'object', properties: { Chart: {} }, additionalProperties: false },
    { type: 'object', additionalProperties: false },
    { type: 'object', properties: { a: { properties: { chart: {} } } }, required: ['chart'] },
  ])('%j: it is', (schema) => {
    expect(listed(schema)).toEqual([notice('t', NO_PROPERTY)]);
  });

  test.each([
    { type: 'object', properties: { chart: {} } },
    { type: 'object' },
    { type: 'object', properties: {}, additionalProperties: true },
    { type: 'object', properties: {}, additionalProperties: { type: 'string' } },
    { type: 'object', properties: {}, patternProperties: { '^c': {} } },
    { $ref: '#/$defs/x', properties: {} },
    { allOf: [{ properties: { chart: {} } }], properties: {} },
    undefined,
    null,
    'properties',
  ])('%j: it is not', (schema) => {
    expect(listed(schema)).toEqual([]);
  });

  test.each([
    ['a later page', { cursor: 'x' }, {}],
    ['a first page of several', {}, { nextCursor: 'x' }],
  ])('%s proves no tool absent', (_which, params, more) => {
    const w = world();
    shownList('tools/list', params, { tools: [], ...more }, new Declarations({ tools: { t: chart } }), w.env);
    expect(w.logged).toEqual([]);
  });

  test.each([
    [{ tools: 'none' }],
    [{}],
    [{ tools: [null, 'x', {}, { name: 7 }, { name: 'toString' }] }],
  ])('a list %j is no list of declared tools', (result) => {
    const { result: shown } = shownList('tools/list', {}, result, new Declarations({ tools: {} }), world().env);
    expect(Array.isArray(shown.tools) ? shown.tools : []).toEqual([]);
  });
});
