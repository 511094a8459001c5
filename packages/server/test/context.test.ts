import { ERRORS, META, type Operation } from '@hmcp/core';
import { McpServer, ResourceTemplate } from '@modelcontextprotocol/server';
import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { createHmcpHandler, patientTool } from '../src/index.js';
import { held, labs } from './support/labs.js';
import { ask } from './support/wire.js';
import { ANN, BO, envelope, FHIR, listResults, NEVER, observation, READ, world } from './support/world.js';

describe('an argument for the patient', () => {
  /** A server somebody has already, whose tool asks for a patient. */
  function existing(operation: Operation = { ...READ, patientArgument: 'patientId' }) {
    const w = world({ operations: { tools: { 'get-labs': operation } } });
    const seen: unknown[] = [];
    const handler = createHmcpHandler(() => {
      const server = new McpServer({ name: 'existing', version: '1' });
      const inputSchema = z.object({ patientId: z.string(), since: z.string().optional() });
      server.registerTool('get-labs', { inputSchema }, (args) => {
        seen.push(args);
        return { content: [] };
      });
      return server;
    }, w.env);
    const own = w.issuer.issue(ANN);
    const call = (args: object) => ask(handler, 'tools/call', { name: 'get-labs', arguments: args }, { token: own });
    return { ...w, handler, seen, call, own };
  }

  test('is in no listed schema', async () => {
    const { handler, own } = existing();
    for (const era of ['modern', 'legacy'] as const) {
      const { result, text } = await ask(handler, 'tools/list', {}, { token: own, era });
      expect(text).not.toContain('patientId');
      expect(result).toMatchObject({ tools: [{ name: 'get-labs', inputSchema: { properties: { since: {} } } }] });
    }
  });

  test.each([
    [{}],
    [{ patientId: ANN }],
    [{ patientId: `Patient/${ANN}` }],
    [{ patientId: `${FHIR}/Patient/${ANN}` }],
  ])('%j is filled in with the bare id of the context', async (args) => {
    const { call, seen } = existing();
    expect((await call({ ...args, since: '2026' })).result).toBeDefined();
    expect(seen).toEqual([{ patientId: ANN, since: '2026' }]);
  });

  test.each([
    BO,
    ANN.toUpperCase(),
    `${ANN} `,
    `https://else.example/r4/Patient/${ANN}`,
    '',
    null,
    [ANN, BO],
    { id: BO },
  ])('%j is 40903 and the tool does not run', async (patientId) => {
    const { call, seen, audit } = existing();
    const answer = await call({ patientId });
    expect(answer.error).toMatchObject({ code: 40903, data: { check: 'argument', retry: 'never' } });
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(seen).toEqual([]);
    expect(audit.records).toMatchObject([
      {
        event: 'request.refused',
        code: 40903,
        check: 'argument',
        tool: 'get-labs',
        compared: [{ said: 'token' }, { said: 'argument', argument: 'patientId' }],
      },
    ]);
    for (const word of NEVER) expect(JSON.stringify(audit.records)).not.toContain(word);
  });
});

test('an undeclared tool is named in the log at the start, with the mend of its refusal', async () => {
  const w = world();
  const handler = createHmcpHandler(() => {
    const server = new McpServer({ name: 'existing', version: '1' });
    server.registerTool('in-a-hurry', {}, () => ({ content: [] }));
    return server;
  }, w.env);
  expect(await handler.undeclared).toEqual(['tools/in-a-hurry']);
  expect(w.logged.join('\n')).toContain(ERRORS[40303].mend);
  for (const [name, tool] of [
    ['in-a-hurry', 'in-a-hurry'], // the server's own word
    [`of-${BO}`, undefined], // the caller's
  ]) {
    const { error } = await ask(handler, 'tools/call', { name, arguments: {} }, { token: w.issuer.issue(ANN) });
    expect(error).toMatchObject({ code: 40303, data: { check: 'operation' } });
    expect(w.audit.last?.tool).toBe(tool);
  }
});

describe('a resource template that names a patient', () => {
  const read = async (uri: string, resources: Record<string, Operation>) => {
    const w = world({ operations: { resources } });
    const reached: string[] = [];
    const handler = createHmcpHandler(() => {
      const server = new McpServer({ name: 'charts', version: '1' });
      for (const template of ['chart://{patientId}/labs', 'chart://public/{+path}', 'other://{x}'])
        server.registerResource(template, new ResourceTemplate(template, { list: undefined }), {}, (at) => {
          reached.push(at.href);
          return { contents: [] };
        });
      server.registerResource('secret', 'chart://srv/charts', {}, (at) => {
        reached.push(at.href);
        return { contents: [] };
      });
      return server;
    }, w.env);
    return { ...(await ask(handler, 'resources/read', { uri }, { token: w.issuer.issue(ANN) })), reached };
  };

  test('is served for the patient in context and refused for another', async () => {
    const table = { 'chart://{patientId}/labs': READ };
    expect((await read(`chart://${ANN}/labs`, table)).result).toBeDefined();
    const other = await read(`chart://${BO}/labs`, table);
    expect(other.error).toMatchObject({ code: 40903, data: { check: 'argument' } });
    expect(other.reached).toEqual([]);
  });

  test.each([
    ['dot segments that leave a laxer template', 'chart://srv/public/../charts', { 'chart://srv/public/{+path}': READ }],
    ['no URI', 'charts', { 'chart://srv/charts': READ }],
    ['a URI two templates match', 'other://a', { 'other://{x}': READ, 'other://{+y}': READ }],
    ['a URI beyond any template', `other://${'x'.repeat(1_000_000)}`, { 'other://{x}': READ }],
  ])('%s is undeclared', async (_what, uri, table) => {
    const answer = await read(uri, table);
    expect(answer.error?.code ?? answer.status).not.toBe(200);
    expect(answer.reached).toEqual([]);
  });
});

describe('envelope', () => {
  const call = (meta: object, mode: 'token' | 'envelope' | 'session' = 'token', claims: object = {}) => {
    const l = labs({ tool: () => ({ content: [] }) }, { context: mode });
    return ask(l.handler, 'tools/call', { name: 't', arguments: {}, _meta: meta }, { token: l.issuer.issue(ANN, claims) });
  };
  const sealed = { [META.context]: { version: '1', seal: 'e30.e30.e30', intent: { id: 'i1', epoch: 1 } } };

  test.each([
    ['a sealed one, with no manager trusted', sealed, 'token', {}, 42801, 'seal'],
    ['none, where one is required', {}, 'envelope', {}, 42801, 'envelope'],
    ['none, where a session is required', {}, 'session', {}, 42801, 'envelope'],
    ['a plain one, where a session is required', envelope(ANN), 'session', {}, 42801, 'seal'],
    ['a token of a session without its seal', envelope(ANN), 'token', { sid: 's1' }, 42801, 'seal'],
    ['a token of a session without its seal, mode "envelope"', envelope(ANN), 'envelope', { sid: 's1' }, 42801, 'seal'],
    ['of another patient', envelope(BO), 'envelope', {}, 40903, 'equality'],
  ] as const)('%s', async (_what, meta, mode, claims, code, check) => {
    expect((await call(meta, mode, claims)).error).toMatchObject({ code, data: { check } });
  });

  test.each([
    ['malformed', { [META.context]: { patient: ANN } }],
    ['over 8 KiB', { [META.context]: { version: '1', patient: ANN, intent: { id: 'i' }, tenant: 'x'.repeat(9000) } }],
    ['of a list', { [META.context]: [] }],
  ])('%s is -32602 on 200', async (_what, meta) => {
    const answer = await call(meta);
    expect(answer).toMatchObject({ status: 200, error: { code: -32602, message: `Invalid params: _meta["${META.context}"]` } });
    expect(answer.text).not.toContain(ANN);
  });

  test('its intent stands in the refusal, its patient does not', async () => {
    const answer = await call(envelope(BO, 'intent-5'));
    expect(answer.error?.data).toEqual({ retry: 'never', by: expect.any(String), hop: 1, check: 'equality', intent: 'intent-5' });
    expect(answer.text).not.toContain(BO);
  });
});

describe('a token that names no patient', () => {
  const call = async (policy: (() => Promise<'allow' | 'deny'>) | undefined, policyTimeoutMs?: number) => {
    const asked: unknown[] = [];
    const decide =
      policy &&
      ((question: unknown) => {
        asked.push(question);
        return policy();
      });
    const l = labs({ tool: () => ({ content: [] }) }, { policy: decide && { decide }, policyTimeoutMs });
    const token = l.issuer.issue(undefined, { fhirUser: `${FHIR}/Practitioner/7` });
    return { ...l, asked, answer: await l.call({}, { token }) };
  };

  test('is served what the policy allows, and the policy is told everything it may depend on', async () => {
    const { answer, asked, audit } = await call(async () => 'allow');
    expect(answer.result).toBeDefined();
    expect(asked).toEqual([
      {
        issuer: 'https://as.example',
        subject: 'dr-grey',
        clientId: 'portal',
        fhirUser: `${FHIR}/Practitioner/7`,
        tenant: undefined,
        fhirServer: FHIR,
        patient: ANN,
        operation: 'tools/call t',
        effect: false,
      },
    ]);
    expect(audit.last).toMatchObject({ event: 'request.served', contextMethod: 'envelope', fhirUser: `${FHIR}/Practitioner/7` });
  });

  test.each<readonly [string, (() => Promise<'allow' | 'deny'>) | undefined, number, number]>([
    ['no policy', undefined, 40302, 5000],
    ['a policy that denies', async () => 'deny', 40302, 5000],
    ['a policy that says something else', async () => 'yes' as 'allow', 40302, 5000],
    ['a policy that throws', async () => Promise.reject(new Error(BO)), 50301, 5000],
    ['a policy that is late', () => held<'allow'>().promise, 50301, 1],
  ])('%s', async (_what, policy, code, timeout) => {
    const { answer, audit } = await call(policy, timeout);
    expect(answer.error).toMatchObject({ code, data: { check: 'policy' } });
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(audit.records).toMatchObject([{ event: 'request.refused', code, check: 'policy' }]);
  });
});

describe('effects', () => {
  test('without a manager are allowed by token and policy, and recorded as unfenced', async () => {
    const l = labs({ tool: () => ({ content: [] }) }, {}, { effect: true });
    expect((await l.call()).result).toBeDefined();
    expect(l.audit.last).toMatchObject({ fence: 'none' });
  });
});

describe('resources/list', () => {
  test('needs any granted read scope, and is bound like a result', async () => {
    const l = labs({});
    const list = (token: string) => ask(l.handler, 'resources/list', { _meta: envelope(ANN) }, { token });
    expect((await list(l.issuer.issue(ANN, { scope: 'patient/Condition.r' }))).result).toMatchObject({
      _meta: { [META.context]: {} },
    });
    expect((await list(l.issuer.issue(ANN, { scope: 'patient/Condition.cud' }))).status).toBe(403);
    expect((await list(l.issuer.issue(ANN, { scope: 'openid launch/patient' }))).status).toBe(403);
  });
});

describe('arguments of a contract', () => {
  test('that do not satisfy it are -32602 with names of declared fields only', async () => {
    const w = world();
    const ran: string[] = [];
    const contract = {
      ...listResults,
      input: z.strictObject({ category: z.enum(['lab']).optional(), tags: z.record(z.string(), z.number()).optional() }),
    };
    const handler = createHmcpHandler(() => {
      const server = new McpServer({ name: 'labs', version: '1' });
      patientTool(server, contract, () => {
        ran.push('tool');
        return { results: [observation(ANN)] };
      });
      return server;
    }, w.env);
    const token = w.issuer.issue(ANN);
    const call = (args: object) => ask(handler, 'tools/call', { name: 'list-results', arguments: args }, { token });
    expect((await call({ category: 'imaging' })).error).toMatchObject({ code: -32602, message: 'Invalid params: category' });
    const made = await call({ tags: { 'Jane Doe': 'x' }, 'Mary Roe': 1 });
    expect(made.error).toMatchObject({ code: -32602, message: 'Invalid params: tags' });
    expect(made.text).not.toMatch(/Doe|Roe/);
    expect(ran).toEqual([]);
    expect(w.audit.last).toMatchObject({ event: 'request.refused', code: -32602, check: 'argument' });
  });
});
