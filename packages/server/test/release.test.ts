import { explain, HmcpError, META, patientKey } from '@hmcp/core';
import { currentScope } from '@hmcp/core/request-scope';
import { ProtocolError } from '@modelcontextprotocol/server';
import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { type Doing, held, KINDS, labs } from './support/labs.js';
import { ask } from './support/wire.js';
import { ANN, BO, envelope, FHIR, NEVER, observation, RESOURCE, Results, SECRET, world } from './support/world.js';

const text = (said: unknown) => ({ type: 'text', text: typeof said === 'string' ? said : JSON.stringify(said) });
const foreign = observation(BO, SECRET);
const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64');
const leaks = (said: string) => NEVER.filter((word) => said.includes(word));

describe('a result of the patient in context', () => {
  test('is released with its binding, and no later hop or cache may keep it', async () => {
    const l = labs({ tool: () => ({ content: [text(observation(ANN))] }) });
    const { result } = await l.call({}, { meta: envelope(ANN, 'intent-9') });
    const pk = await patientKey('intent-9', { fhirServer: FHIR, patient: ANN });
    expect(result).toMatchObject({ ttlMs: 0, cacheScope: 'private' });
    expect((result?._meta as Record<string, unknown>)[META.context]).toEqual({
      version: '1',
      pk,
      pkScope: 'intent',
      intent: { id: 'intent-9' },
      by: RESOURCE,
      patients: [pk],
    });
    expect(l.audit.records).toMatchObject([
      { event: 'request.served', outcome: 0, types: { Observation: 1 }, intent: 'intent-9', tool: 't' },
    ]);
    expect(leaks(JSON.stringify(l.audit.records))).toEqual([]);
  });

  test('names no patient in its binding when it holds no record', async () => {
    const { result } = await labs({ tool: () => ({ content: [text('nothing found')] }) }).call();
    expect(result?._meta).toMatchObject({ [META.context]: { patients: [] } });
  });

  test('without an envelope gets no binding, and its record an intent of its own', async () => {
    const l = labs({});
    const { result } = await l.call({}, { meta: {} });
    expect(JSON.stringify(result)).not.toContain(META.context);
    expect(l.audit.last?.intent).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('keeps no caching hint or key of this project that the handler set', async () => {
    const own = { [META.context]: { patients: ['forged'] }, 'dev.hmcp/checkpoint': 1, 'DEV.HMCP/x': 1, 'org.example/kept': 1 };
    const l = labs({
      tool: () => ({ content: [], ttlMs: 86_400_000, cacheScope: 'public', _meta: own }),
      resource: (uri) => ({ contents: [{ uri: uri.href, text: '{}' }], ttlMs: 86_400_000, cacheScope: 'public', _meta: own }),
    });
    for (const kind of ['tool', 'resource'] as const) {
      for (const era of ['modern', 'legacy'] as const) {
        const { result, text: said } = await l.each(kind, { era });
        expect(result).toMatchObject({ ttlMs: 0, cacheScope: 'private', _meta: { 'org.example/kept': 1 } });
        expect(said).not.toMatch(/forged|checkpoint|DEV\.HMCP/);
      }
    }
  });
});

describe('a result outside the compartment is withheld', () => {
  const cases: readonly (readonly [string, Doing, (typeof KINDS)[number]])[] = [
    ['structuredContent', { tool: () => ({ content: [], structuredContent: { rows: [foreign] } }) }, 'tool'],
    ['JSON in text', { tool: () => ({ content: [text(` ${JSON.stringify([foreign])}`)] }) }, 'tool'],
    ['JSON in JSON', { tool: () => ({ content: [text({ raw: JSON.stringify(foreign) })] }) }, 'tool'],
    ['a mention in text', { tool: () => ({ content: [text(`compare with Patient/${BO}, ${SECRET}`)] }) }, 'tool'],
    [
      'an embedded resource',
      { tool: () => ({ content: [{ type: 'resource', resource: { uri: 'x://1', text: JSON.stringify(foreign) } }] }) },
      'tool',
    ],
    [
      'an embedded blob',
      { tool: () => ({ content: [{ type: 'resource', resource: { uri: 'x://1', blob: base64(foreign) } }] }) },
      'tool',
    ],
    ['a blob that cannot be decoded', { custom: () => ({ contents: [{ uri: 'x://1', blob: `${SECRET}!*` }] }) }, 'custom'],
    ['a link', { tool: () => ({ content: [{ type: 'resource_link', uri: `patient://${BO}`, name: SECRET }] }) }, 'tool'],
    ['_meta', { tool: () => ({ content: [], _meta: { 'org.example/row': foreign } }) }, 'tool'],
    ['a member of its own', { tool: () => ({ content: [], extra: foreign }) }, 'tool'],
    ['a row that says whose it is', { tool: () => ({ content: [text({ patientId: BO, said: SECRET })] }) }, 'tool'],
    [
      'a row that says so in structuredContent',
      { tool: () => ({ content: [], structuredContent: { rows: [{ subject_id: BO, said: SECRET }] } }) },
      'tool',
    ],
    ['a custom method that names the patient', { custom: () => ({ patient: { id: BO, name: SECRET } }) }, 'custom'],
    ['an unknown FHIR type', { tool: () => ({ content: [text({ resourceType: 'Horoscope', text: SECRET })] }) }, 'tool'],
    ['no subject', { tool: () => ({ content: [text({ resourceType: 'Observation', note: SECRET })] }) }, 'tool'],
    ['resource text', { resource: (uri) => ({ contents: [{ uri: uri.href, text: JSON.stringify(foreign) }] }) }, 'resource'],
    ['resource blob', { resource: (uri) => ({ contents: [{ uri: uri.href, blob: base64(foreign) }] }) }, 'resource'],
    [
      'URL-safe resource blob',
      {
        resource: (uri) => ({
          contents: [{ uri: uri.href, blob: Buffer.from(`??>>${JSON.stringify(foreign)}`).toString('base64url') }],
        }),
      },
      'resource',
    ],
    ['a prompt', { prompt: () => ({ messages: [{ role: 'user', content: text(foreign) }] }) }, 'prompt'],
    ['the description of a prompt', { prompt: () => ({ description: `of Patient/${BO} ${SECRET}`, messages: [] }) }, 'prompt'],
    ['a custom method', { custom: () => ({ deep: { rows: [{ row: foreign }] } }) }, 'custom'],
    ['a key of a custom method', { custom: () => ({ [`Patient/${BO}`]: SECRET }) }, 'custom'],
  ];

  test.each(cases)('%s: 40903, recorded, and nothing of it leaves', async (_what, doing, kind) => {
    for (const era of ['modern', 'legacy'] as const) {
      const l = labs(doing);
      const answer = await l.each(kind, { era });
      expect(answer).toMatchObject({
        status: 200,
        error: { code: 40903, data: { check: 'result', retry: 'never', hop: 1, by: RESOURCE } },
      });
      expect(leaks(answer.text)).toEqual([]);
      expect(l.audit.records).toMatchObject([{ event: 'result.withheld', outcome: 8, code: 40903, check: 'result' }]);
      const { reason, pk, compared } = l.audit.last ?? {};
      const whose = [
        { said: 'context', pk },
        { said: 'result', pk: expect.stringMatching(/^[\w-]{43}$/) },
      ];
      if (reason === 'another patient' || reason === 'another id under a name of the patient') expect(compared).toEqual(whose);
      expect(leaks(JSON.stringify([l.audit.records, l.logged]))).toEqual([]);
    }
  });
});

describe('what nobody can verify', () => {
  const free: Doing = { tool: () => ({ content: [text('Potassium is up.')] }) };

  test('is released and counted by default', async () => {
    const l = labs(free);
    expect((await l.call()).result).toBeDefined();
    expect(l.audit.last).toMatchObject({ event: 'request.served', unverifiable: 1 });
  });

  test('is withheld where the deployment says so', async () => {
    const l = labs(free, { unverifiable: 'withhold' });
    expect((await l.call()).error).toMatchObject({ code: 40903, data: { check: 'result' } });
    expect(l.audit.last).toMatchObject({
      event: 'result.withheld',
      reason: expect.stringMatching(/^a part of the result cannot be verified: /),
    });
  });

  const structuredContent = { note: SECRET };
  const anything = z.looseObject({});
  test.each<[string, object, Parameters<typeof labs>[2], string]>([
    ['a text', { content: [text(SECRET)] }, {}, 'text of content, without structuredContent that `output` could describe'],
    ['JSON without output', { content: [], structuredContent }, {}, 'structuredContent, for which no `output` is declared'],
    [
      'a member that output does not name',
      { content: [], structuredContent },
      { output: z.object({}) },
      'structuredContent, which has members that `output` does not name',
    ],
    [
      'a text beside declared JSON',
      { content: [text(JSON.stringify(structuredContent)), text(SECRET)], structuredContent },
      { output: anything },
      'text of content that is not the JSON of structuredContent',
    ],
    ['an image', { content: [{ type: 'image', data: 'AAAA', mimeType: 'image/png' }] }, {}, 'content that is no text'],
    [
      'two of them',
      { content: [text('seen')], structuredContent },
      {},
      'structuredContent, for which no `output` is declared; text of content that is not the JSON of structuredContent',
    ],
  ])('%s is withheld with a record that says which part it was, and nothing of it', async (_, result, operation, part) => {
    const l = labs({ tool: () => result }, { unverifiable: 'withhold' }, operation);
    expect((await l.call()).error).toMatchObject({ code: 40903, data: { check: 'result' } });
    expect(l.audit.last?.reason).toBe(`a part of the result cannot be verified: ${part}`);
    expect(leaks(JSON.stringify(l.audit.records))).toEqual([]);
  });

  test.each([
    ['a resource', 'resource', { resource: (uri) => ({ contents: [{ uri: uri.href, text: SECRET }] }) }, 'contents'],
    ['a prompt', 'prompt', { prompt: () => ({ messages: [{ role: 'user', content: text(SECRET) }] }) }, 'messages'],
    ['a custom method', 'custom', { custom: () => ({ note: SECRET }) }, 'another member'],
  ] as const satisfies [string, (typeof KINDS)[number], Doing, string][])('of %s, too', async (_, kind, doing, part) => {
    const l = labs(doing, { unverifiable: 'withhold' });
    expect((await l.each(kind)).error).toMatchObject({ code: 40903, data: { check: 'result' } });
    expect(l.audit.last?.reason).toBe(`a part of the result cannot be verified: ${part}`);
  });

  test('is not said to be of another patient: neither to the caller, nor in the audit', async () => {
    const l = labs(free, { unverifiable: 'withhold' });
    expect(explain((await l.call()).error)).toContain('is not, or could not be shown to be, of the patient in context alone');
    expect(l.audit.last).not.toHaveProperty('compared');
    const others = labs({ tool: () => ({ content: [text(JSON.stringify(observation(BO)))] }) }, { unverifiable: 'withhold' });
    expect((await others.call()).error).toMatchObject({ code: 40903 });
    expect(others.audit.last).toMatchObject({ reason: 'another patient', compared: expect.anything() });
  });

  test('JSON that satisfies the declared output is verified, and a text that repeats it is counted once', async () => {
    const structuredContent = { results: [observation(ANN)] };
    const tool = () => ({ structuredContent, content: [text(JSON.stringify(structuredContent, null, 2))] });
    const l = labs({ tool }, { unverifiable: 'withhold' }, { output: Results });
    expect((await l.call()).result).toMatchObject({ structuredContent });
    expect(l.audit.last?.types).toEqual({ Observation: 1 });
  });

  test('JSON that does not satisfy the declared output is withheld', async () => {
    const l = labs({ tool: () => ({ structuredContent: { results: SECRET }, content: [] }) }, {}, { output: Results });
    const answer = await l.call();
    expect(answer.error).toMatchObject({ code: 40903 });
    expect(leaks(answer.text)).toEqual([]);
  });

  test('a member the declared output does not know is no verified part', async () => {
    const output = z.object({ results: z.array(z.object({ value: z.number() })) });
    const results = (row: object) => ({ tool: () => ({ structuredContent: { results: [row] }, content: [] }) });
    const strict = (row: object) => labs(results(row), { unverifiable: 'withhold' }, { output }).call();
    expect((await strict({ value: 1 })).result).toBeDefined();
    expect((await strict({ value: 1, note: SECRET })).error).toMatchObject({ code: 40903 });
    const lenient = labs(results({ value: 1, note: 'seen' }), {}, { output });
    expect((await lenient.call()).result).toBeDefined();
    expect(lenient.audit.last).toMatchObject({ unverifiable: 1 });
  });
});

describe('an exception', () => {
  const throwing = (error: unknown): Doing => {
    const doing = () => {
      throw error;
    };
    return { tool: doing, resource: doing, prompt: doing, custom: doing };
  };
  const errors: readonly (readonly [string, () => unknown])[] = [
    ['an Error', () => new Error(`row of ${BO}: ${SECRET}`)],
    ['a ProtocolError with data', () => new ProtocolError(-32602, SECRET, { row: SECRET })],
    ['a ProtocolError with a code of ours', () => new ProtocolError(40903, SECRET, { check: SECRET })],
    [
      'a version error with text for revisions',
      () => new ProtocolError(-32022, SECRET, { supported: [SECRET], requested: SECRET }),
    ],
    ['an Error with a cause', () => new Error(SECRET, { cause: new Error(SECRET) })],
    ['no Error', () => SECRET],
    ['an object with a code', () => ({ code: 40302, message: SECRET, data: SECRET })],
  ];

  test.each(
    KINDS.flatMap((kind) => errors.map(([what, make]) => [kind, what, make] as const)),
  )('of a %s: %s leaves no text', async (kind, _what, make) => {
    for (const era of ['modern', 'legacy'] as const) {
      const l = labs(throwing(make()));
      const answer = await l.each(kind, { era });
      expect(leaks(answer.text)).toEqual([]);
      expect(leaks(JSON.stringify([l.audit.records, l.logged]))).toEqual([]);
      if (kind === 'tool')
        expect(answer.result).toMatchObject({ isError: true, content: [{ type: 'text', text: 'The tool failed.' }] });
      else expect(answer.error?.code).toBeLessThan(0);
      expect(l.audit.records).toHaveLength(1);
      expect(l.audit.last?.outcome).not.toBe(0);
    }
  });

  test.each([true, 'yes', 1])('a result that says isError: %j keeps none of its text', async (isError) => {
    const said = { isError, content: [text(SECRET)], structuredContent: { why: SECRET }, extra: SECRET };
    const answer = await labs({ tool: () => said, custom: () => said }).each('custom');
    expect(leaks(answer.text)).toEqual([]);
  });

  test('of an operation about nobody leaves no text either', async () => {
    const l = labs(throwing(new Error(SECRET)), {}, { patientScope: 'none' });
    const answer = await l.call();
    expect(answer.result).toMatchObject({ isError: true });
    expect(leaks(answer.text)).toEqual([]);
  });
});

describe('an operation about nobody', () => {
  test('is served without a patient, and answers with nobody’s record', async () => {
    const none = { patientScope: 'none' } as const;
    const fine = labs({ tool: () => ({ content: [text('42 tests offered')] }) }, { context: 'session' }, none);
    expect((await fine.call({}, { meta: {} })).result).toBeDefined();
    expect(fine.audit.last).toMatchObject({ event: 'request.served' });
    expect(fine.audit.last?.pk).toBeUndefined();
    const wrong = labs({ tool: () => ({ content: [text(observation(ANN))] }) }, {}, none);
    const answer = await wrong.call();
    expect(answer.error).toMatchObject({ code: 40903, data: { check: 'result' } });
    expect(leaks(answer.text)).toEqual([]);
  });
});

describe('a refusal of a later hop', () => {
  const LATER = 'https://records.example/mcp';
  const refusal = () => new HmcpError(40302, { by: LATER, hop: 2, check: 'policy' });
  const meets = () => currentScope()?.refusals.push(refusal());

  test.each<readonly [string, Doing]>([
    [
      'thrown on',
      {
        tool: () => {
          meets();
          throw refusal();
        },
      },
    ],
    [
      'swallowed and another exception thrown',
      {
        tool: () => {
          meets();
          throw new Error(SECRET);
        },
      },
    ],
    [
      'swallowed and told as isError',
      {
        tool: () => {
          meets();
          return { isError: true, content: [text(`no access to ${BO}`)] };
        },
      },
    ],
  ])('%s: reaches the caller unchanged, with a record of this hop', async (_how, doing) => {
    const l = labs(doing);
    const answer = await l.call();
    expect(answer.error).toMatchObject({ code: 40302, data: { by: LATER, hop: 2, check: 'policy', retry: 'never' } });
    expect(leaks(answer.text)).toEqual([]);
    expect(l.audit.records).toMatchObject([
      { event: 'request.refused', code: 40302, check: 'policy', by: RESOURCE, hop: 1, peer: LATER },
    ]);
  });

  test('a handler that answers all the same is released: what it says is checked like any other result', async () => {
    const l = labs({
      tool: () => {
        meets();
        return { content: [text('labs only')] };
      },
    });
    expect((await l.call()).result).toMatchObject({ content: [{ text: 'labs only' }] });
  });
});

describe('objects of another request', () => {
  test('a memoized row of an earlier request is 40903', async () => {
    let memo: object | undefined;
    const l = labs({
      tool: () => {
        memo ??= currentScope()?.tag({ value: 7 });
        return { content: [], structuredContent: memo };
      },
    });
    expect((await l.call()).result).toBeDefined();
    expect((await l.call()).error).toMatchObject({ code: 40903, data: { check: 'result' } });
  });

  test('work left behind by an answered request makes no calls: 40901', async () => {
    const late = held<unknown>();
    const go = held();
    const l = labs({
      tool: () => {
        const scope = currentScope();
        void go.promise.then(() => {
          try {
            late.release(scope?.assertOpen());
          } catch (error) {
            late.release(error);
          }
        });
        return { content: [] };
      },
    });
    expect((await l.call()).result).toBeDefined();
    go.release();
    expect(await late.promise).toMatchObject({ code: 40901, data: { check: 'epoch' } });
  });
});

describe('audit', () => {
  test.each(KINDS)('a record that cannot be made durable: 50302 and nothing of the %s', async (kind) => {
    const l = labs({
      tool: () => ({ content: [text(observation(ANN, SECRET))] }),
      resource: (uri) => ({ contents: [{ uri: uri.href, text: JSON.stringify(observation(ANN, SECRET)) }] }),
      prompt: () => ({ messages: [{ role: 'user', content: text(SECRET) }] }),
      custom: () => ({ said: SECRET }),
    });
    l.audit.failing = true;
    const answer = await l.each(kind);
    expect(answer).toMatchObject({ status: 200, error: { code: 50302, data: { check: 'audit', retry: 'same', hop: 1 } } });
    expect(leaks(answer.text + JSON.stringify(l.logged))).toEqual([]);
  });

  test('a refusal that cannot be recorded is 50302 too', async () => {
    const l = labs({});
    l.audit.failing = true;
    expect((await l.call({}, { meta: envelope(BO) })).error).toMatchObject({ code: 50302 });
  });

  test('nothing is sent before the record is durable', async () => {
    const durable = held();
    const l = labs({ tool: () => ({ content: [text(observation(ANN))] }) });
    l.audit.hold = durable.promise;
    let answered = false;
    const answer = l.call().then((value) => {
      answered = true;
      return value;
    });
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(answered).toBe(false);
    durable.release();
    expect((await answer).result).toBeDefined();
    expect(l.audit.records).toHaveLength(1);
  });
});

describe('requests to the client', () => {
  test('a handler cannot ask it: the call fails and nothing of the question leaves', async () => {
    let failure: unknown;
    const l = labs({
      tool: async (_args, ctx) => {
        failure = await ctx.mcpReq.send({ method: 'roots/list' }).catch((error: unknown) => error);
        return { content: [] };
      },
    });
    const { before, result } = await l.call({}, { era: 'legacy' });
    expect(failure).toBeInstanceOf(Error);
    expect(before).toEqual([]);
    expect(result).toBeDefined();
  });

  test('nor by an answer that went around the SDK’s own handling', async () => {
    const l = labs({
      more: ({ server }) => {
        const handlers = (server as unknown as { _requestHandlers: Map<string, () => Promise<object>> })._requestHandlers;
        handlers.set('org.example/ask', async () => ({
          resultType: 'input_required',
          inputRequests: { ask: { message: SECRET } },
        }));
      },
    });
    const answer = await l.each('custom', { era: 'legacy' });
    expect(answer.error).toMatchObject({ code: -32603 });
    expect(leaks(answer.text)).toEqual([]);
    expect(l.audit.records).toMatchObject([{ event: 'request.refused', check: 'result' }]);
  });

  test('nor by its answer', async () => {
    const elicit = {
      method: 'elicitation/create',
      params: { message: SECRET, requestedSchema: { type: 'object', properties: {} } },
    };
    const l = labs({ tool: () => ({ resultType: 'input_required', inputRequests: { ask: elicit } }) });
    const answer = await l.call();
    expect(answer.result).toBeUndefined();
    expect(leaks(answer.text)).toEqual([]);
    expect(l.audit.last?.event).toBe('request.refused');
  });
});

describe('what a handler is given', () => {
  test('no token and no patient header', async () => {
    let seen = '';
    const l = labs({
      tool: (_args, ctx) => {
        seen = JSON.stringify([[...(ctx.http?.req?.headers ?? [])], ctx.http?.authInfo, ctx.mcpReq._meta]);
        return { content: [] };
      },
    });
    await l.call({}, { headers: { 'x-hmcp-patient': ANN, cookie: 'session=1', 'proxy-authorization': 'Basic eA==' } });
    expect(seen).toContain('"clientId":"portal"');
    expect(seen).not.toMatch(/authorization|x-hmcp-patient|cookie/);
    expect(seen).not.toContain(l.own);
  });

  test('no scope of whoever called from inside this process', async () => {
    const inner = labs({ tool: () => ({ content: [text(currentScope() ? 'scope' : 'none')] }) }, {}, { patientScope: 'none' });
    const outer = labs({
      tool: async () => ({ content: [text((await inner.call()).text.includes('none') ? 'apart' : 'mixed')] }),
    });
    expect((await outer.call()).text).toContain('apart');
  });
});

test('the factory of a deployment that cannot be used is refused at start', () => {
  const w = world();
  const make = (more: object) => () => labs({}, { ...w.env, ...more });
  for (const pseudonymKey of ['', 'short', undefined]) expect(make({ pseudonymKey })).toThrow('"pseudonymKey"');
  expect(make({ pseudonymKey: 'short' })).not.toThrow('"short"');
  expect(make({ resource: 'http://labs.example/mcp' })).toThrow('"resource"');
  expect(make({ verifier: { ...w.issuer, resource: 'https://else.example' } })).toThrow('"verifier"');
  expect(make({ authorizationServers: [] })).toThrow('"authorizationServers"');
  expect(make({ transition: { clients: [], until: Number.NaN } })).toThrow('"transition.until"');
  expect(make({ operations: { tools: { t: { scope: ' ' } } } })).toThrow('"operations.tools"');
});

test('operations nobody declared are named at start, and not listed', async () => {
  const w = labs({ more: (server) => void server.registerTool('maintenance', {}, () => ({ content: [] })) });
  expect(await w.handler.undeclared).toEqual(['tools/maintenance']);
  expect(w.logged.join()).toContain('maintenance');
  expect((await ask(w.handler, 'tools/list', {}, { token: w.own })).text).not.toContain('maintenance');
});
