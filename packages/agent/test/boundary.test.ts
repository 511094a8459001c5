import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { contractScope } from '../src/peer-tokens.js';
import { checkResult } from '../src/result-check.js';
import { nextTraceparent } from '../src/traceparent.js';
import { isContextHeader, withoutContext, withoutOwnKeys } from '../src/without-context.js';
import { ANN, BO, FHIR, observation } from './support/world.js';

const context = { fhirServer: FHIR, patient: ANN };
const check = (result: Record<string, unknown>, contract = false) => checkResult(result, { patient: context, contract });

describe('what is removed from a message', () => {
  test('every key of ours in any spelling, and nothing else', () => {
    const ours = fc
      .tuple(fc.constantFrom('dev.hmcp/', 'DEV.HMCP/', 'Dev.Hmcp/'), fc.string())
      .map(([prefix, rest]) => `${prefix}${rest}`);
    const key = fc.oneof(ours, fc.constantFrom('baggage', 'Tracestate', 'traceparent'), fc.string());
    fc.assert(
      fc.property(fc.dictionary(key, fc.string()), fc.string(), (meta, name) => {
        const message = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, _meta: meta } } as const;
        const { params } = withoutContext(message) as unknown as { params: { name: string; _meta: Record<string, string> } };
        const removed = (k: string) => /^(dev\.hmcp\/|baggage$|tracestate$)/i.test(k);
        expect(params.name).toBe(name);
        expect(Object.entries(params._meta)).toEqual(Object.entries(meta).filter(([k]) => !removed(k)));
      }),
    );
  });

  test.each([[undefined], [null], ['text'], [7]])('`_meta` %j stays as it is', (_meta) => {
    const message = { jsonrpc: '2.0', id: 1, method: 'ping', params: { _meta } } as const;
    expect(withoutContext(message)).toBe(message);
    expect(withoutOwnKeys(message)).toEqual(message);
  });

  test.each(['params', 'result'] as const)('of what a peer said in its %s: every key of ours, and nothing else', (member) => {
    const ours = fc.constantFrom('dev.hmcp/context', 'DEV.HMCP/Context', 'dev.hmcp/authorization', 'dev.hmcp/', 'Dev.Hmcp/x');
    fc.assert(
      fc.property(fc.dictionary(fc.oneof(ours, fc.constant('baggage'), fc.string()), fc.jsonValue()), (meta) => {
        const kept = Object.entries(meta).filter(([key]) => !/^dev\.hmcp\//i.test(key));
        const said = withoutOwnKeys({ jsonrpc: '2.0', [member]: { said: 1, _meta: meta } });
        const rest = kept.length === 0 ? {} : { _meta: Object.fromEntries(kept) };
        expect(said).toEqual({ jsonrpc: '2.0', [member]: { said: 1, ...rest } });
      }),
    );
  });

  test.each([[undefined], [null], ['text'], [7]])('a result %j stays as it is', (result) => {
    expect(withoutOwnKeys({ jsonrpc: '2.0', id: 1, result })).toEqual({ jsonrpc: '2.0', id: 1, result });
  });

  test.each([
    'X-HMCP-Patient',
    'x-hmcp-anything',
    'X-Patient-ID',
    'X-FHIR-Server-URL',
    'Baggage',
    'tracestate',
  ])('header %s', (name) => {
    expect(isContextHeader(name)).toBe(true);
  });

  test.each(['authorization', 'mcp-name', 'x-api-key', 'content-type'])('not header %s', (name) => {
    expect(isContextHeader(name)).toBe(false);
  });
});

describe('traceparent', () => {
  const random = (length: number) => new Uint8Array(length).fill(0xab);

  test('keeps the trace and its flags, with a new span', () => {
    expect(nextTraceparent('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00', random)).toBe(
      '00-0af7651916cd43dd8448eb211c80319c-abababababababab-00',
    );
  });

  test.each([
    [undefined],
    [''],
    [`00-${'0'.repeat(32)}-b7ad6b7169203331-01`],
    [`00-0af7651916cd43dd8448eb211c80319c-${'0'.repeat(16)}-01`],
    ['ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
    ['00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01'],
    ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra'],
    [`00-${ANN}`],
  ])('of %j is a new trace', (parent) => {
    expect(nextTraceparent(parent, random)).toBe(`00-${'ab'.repeat(16)}-${'ab'.repeat(8)}-01`);
  });

  test('is well formed whatever came before', () => {
    fc.assert(
      fc.property(fc.string(), (parent) => {
        expect(nextTraceparent(parent)).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/);
      }),
    );
  });
});

test('the scope of a contract is demanded and onward, each member once', () => {
  expect(contractScope({ scope: 'a b', onward: ' b  c ' })).toBe('a b c');
  expect(contractScope({ scope: 'a' })).toBe('a');
});

describe('an answer', () => {
  const text = (value: unknown) => ({ type: 'text', text: typeof value === 'string' ? value : JSON.stringify(value) });
  const blob = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64');

  test('counts each resource once, though SDKs send it twice', () => {
    const structuredContent = { results: [observation(ANN), observation(ANN, 8)] };
    const verdict = check({ structuredContent, content: [text(structuredContent)] }, true);
    expect(verdict).toMatchObject({ inside: true, types: { Observation: 2 }, unverifiable: 0 });
  });

  test.each([
    ['free text', { content: [text('all is well')] }],
    ['JSON nobody described', { structuredContent: { score: 1 } }],
    ['a picture', { content: [{ type: 'image', data: 'AAAA', mimeType: 'image/png' }] }],
    ['a binary resource', { contents: [{ uri: 'x://1', blob: 'AP8=' }] }],
    ['a prompt', { messages: [{ role: 'user', content: text('tell me') }] }],
  ])('with %s says that it could not be checked', (_, result) => {
    expect(check(result)).toMatchObject({ inside: true, unverifiable: 1 });
  });

  const bos = observation(BO);
  test.each<[string, Record<string, unknown>]>([
    ['structuredContent', { structuredContent: { deep: [{ er: bos }] } }],
    ['text', { content: [text(bos)] }],
    ['text beside innocent structuredContent', { structuredContent: { results: [] }, content: [text({ results: [bos] })] }],
    ['text in text', { content: [text({ note: JSON.stringify(bos) })] }],
    ['an embedded resource', { content: [{ type: 'resource', resource: { uri: 'x://1', text: JSON.stringify(bos) } }] }],
    ['an embedded blob', { content: [{ type: 'resource', resource: { uri: 'x://1', blob: blob(bos) } }] }],
    ['a resource link', { content: [{ type: 'resource_link', uri: `${FHIR}/Patient/${BO}`, name: 'x' }] }],
    ['an annotation of text', { content: [{ ...text('fine'), annotations: { of: `Patient/${BO}` } }] }],
    ['resource contents', { contents: [{ uri: 'x://1', text: JSON.stringify(bos) }] }],
    ["a resource's URI", { contents: [{ uri: `${FHIR}/Patient/${BO}`, text: 'fine' }] }],
    ['a prompt message', { messages: [{ role: 'user', content: text(bos) }] }],
    ['a completion', { completion: { values: [`Patient/${BO}`] } }],
    ['a member of a custom method', { anything: { bos } }],
    ['a member that says whose it is', { structuredContent: { rows: [{ patientId: BO }] } }],
    ['`_meta`', { content: [], _meta: { 'example.com/x': bos } }],
    ['content that is no list', { content: { type: 'text', text: JSON.stringify(bos) } }],
    ['content that is text', { content: [JSON.stringify(bos)] }],
    ['isError', { isError: bos }],
  ])('with another patient in %s is outside', (_, result) => {
    expect(check(result, true)).toMatchObject({ inside: false });
  });

  test('never throws on any JSON', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom('content', 'contents', 'messages', 'structuredContent', '_meta', 'x'), fc.jsonValue()),
        (result) => {
          expect(typeof check(result).inside).toBe('boolean');
        },
      ),
    );
  });
});
