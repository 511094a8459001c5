import { type McpServer, ResourceTemplate } from '@modelcontextprotocol/server';
import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { createProtection, type ProtectedOperations } from '../src/index.js';
import { MAKES, pinned, type Registrar } from './support/existing-tool.js';
import { ANN, BO, NEVER, READ, world } from './support/world.js';

const SDKS = Object.keys(MAKES) as (keyof typeof MAKES)[];
const call = (name: string, args: object = {}) => ({ name, arguments: args });
const json = (value: unknown) => ({ content: [{ type: 'text', text: JSON.stringify(value) }] });

describe.each(SDKS)('%s: a row that says whose it is', (sdk) => {
  const rows = (whose: string) => ({ rows: [{ patientId: whose, potassium: 3.2 }] });
  const output = z.object({ rows: z.array(z.object({ patientId: z.string(), potassium: z.number() })) });
  const serve = (whose: string, said: 'text' | 'structured') =>
    pinned(
      sdk,
      (server) =>
        server.registerTool('newest', {}, () =>
          said === 'text' ? json(rows(whose)) : { content: [], structuredContent: rows(whose) },
        ),
      { tools: { newest: { ...READ, patientArgument: null, ...(said === 'text' ? {} : { output }) } } },
    );

  test.each(['text', 'structured'] as const)('is served to the patient it names (%s)', async (said) => {
    const p = await serve(ANN, said);
    expect((await p.ask('tools/call', call('newest'))).error).toBeUndefined();
    await p.close();
  });

  test.each(['text', 'structured'] as const)('is withheld from anybody else, though nothing in it is FHIR (%s)', async (said) => {
    const p = await serve(BO, said);
    const answer = await p.ask('tools/call', call('newest'));
    expect(answer.error).toMatchObject({ code: 40903, data: { check: 'result' } });
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(p.audit.records.at(-1)).toMatchObject({
      event: 'result.withheld',
      code: 40903,
      compared: [{ said: 'context' }, { said: 'result', pk: expect.any(String) }],
    });
    await p.close();
  });

  test('is judged by the declared argument’s own name too', async () => {
    const p = await pinned(
      sdk,
      (server) =>
        server.registerTool('by-chart', { inputSchema: z.object({ chart: z.string(), whose: z.string() }) }, ({ whose }) =>
          json([{ chart: whose }]),
        ),
      { tools: { 'by-chart': { ...READ, patientArgument: 'chart' } } },
    );
    expect((await p.ask('tools/call', call('by-chart', { whose: ANN }))).error).toBeUndefined();
    expect((await p.ask('tools/call', call('by-chart', { whose: BO }))).error).toMatchObject({
      code: 40903,
      data: { check: 'result' },
    });
    await p.close();
  });
});

describe('what a protection is told of arguments', () => {
  const start = (operations: unknown) => () =>
    createProtection({ ...world().env, operations: operations as ProtectedOperations });

  test.each([
    ['tools', { by_mrn: READ }],
    ['tools', { by_mrn: { ...READ, patientArgument: undefined } }],
    ['tools', { by_mrn: { ...READ, patientArgument: '' } }],
    ['tools', { by_mrn: { ...READ, patientArgument: true } }],
    ['tools', { fine: { ...READ, patientArgument: null }, by_mrn: { ...READ, patientScope: 'required' } }],
    ['prompts', { by_mrn: READ }],
    ['methods', { by_mrn: READ }],
    ['resources', { 'chart://{by_mrn}': READ }],
  ])('%s %j: refused at the start, with the name and the mend', (kind, table) => {
    expect(start({ [kind]: table })).toThrow(TypeError);
    expect(start({ [kind]: table })).toThrow(/by_mrn.* does not say which argument names the patient\. Mend: patientArgument: /);
  });

  test.each([
    ['tools', { by_mrn: { ...READ, patientArgument: 'chart' } }],
    ['tools', { by_mrn: { ...READ, patientArgument: null } }],
    ['tools', { units: { ...READ, patientScope: 'none' } }],
    ['prompts', { summary: { ...READ, patientArgument: null } }],
    ['resources', { 'chart://current': READ }],
    ['resources', { 'chart://{mrn}': { ...READ, patientArgument: 'mrn' } }],
    ['resources', { 'labs://{test}': { ...READ, patientArgument: null } }],
  ])('%s %j: leaves nothing open', (kind, table) => {
    expect(start({ [kind]: table })).not.toThrow();
  });

  test.each([['chart://{mrn}'], ['chart://current']])('%s has no variable "chart"', (uri) => {
    expect(start({ resources: { [uri]: { ...READ, patientArgument: 'chart' } } })).toThrow('no variable of that template');
  });
});

describe.each(SDKS)('%s: an argument with a name nobody could guess', (sdk) => {
  const given: unknown[] = [];
  const register = (server: Registrar) => {
    server.registerTool('by_mrn', { inputSchema: z.object({ chart: z.string() }) }, ({ chart }) => {
      given.push(chart);
      return { content: [] };
    });
    server.registerPrompt(
      'summary',
      { argsSchema: sdk === 'SDK v1' ? { chart: z.string() } : z.object({ chart: z.string() }) },
      ((args: unknown) => {
        given.push(args);
        return { messages: [] };
      }) as never,
    );
  };
  const chart = { ...READ, patientArgument: 'chart' };
  const operations: ProtectedOperations = { tools: { by_mrn: chart }, prompts: { summary: chart } };

  test('is compared and filled in, at a tool and at a prompt', async () => {
    const p = await pinned(sdk, register, operations);
    for (const [method, name] of [
      ['tools/call', 'by_mrn'],
      ['prompts/get', 'summary'],
    ] as const) {
      expect((await p.ask(method, call(name, { chart: BO }))).error).toMatchObject({ code: 40903, data: { check: 'argument' } });
      expect((await p.ask(method, call(name))).error).toBeUndefined();
    }
    expect(given.splice(0)).toEqual([ANN, { chart: ANN }]);
    await p.close();
  });
});

test('a custom method is filled in beside its own params; a URI is compared, and stays the caller’s', async () => {
  const given: unknown[] = [];
  const chart = { ...READ, patientArgument: 'chart' };
  const p = await pinned(
    'SDK v2',
    (registrar) => {
      const { server } = registrar as unknown as McpServer;
      const schemas = { params: z.looseObject({}), result: z.looseObject({}) };
      server.setRequestHandler('org.example/ask', schemas, async (params) => {
        given.push(params);
        return {};
      });
      registrar.registerResource('chart', new ResourceTemplate('chart://{chart}', { list: undefined }), {}, ((uri: URL) => {
        given.push(uri.href);
        return { contents: [] };
      }) as never);
    },
    { methods: { 'org.example/ask': chart }, resources: { 'chart://{chart}': chart } },
  );
  expect((await p.ask('org.example/ask', { chart: BO })).error).toMatchObject({ code: 40903 });
  expect((await p.ask('resources/read', { uri: `chart://${BO}` })).error).toMatchObject({
    code: 40903,
    data: { check: 'argument' },
  });
  expect((await p.ask('org.example/ask', { test: 'K' })).error).toBeUndefined();
  expect((await p.ask('resources/read', { uri: `chart://${ANN}` })).error).toBeUndefined();
  expect(given).toEqual([{ test: 'K', chart: ANN }, `chart://${ANN}`]);
  await p.close();
});
