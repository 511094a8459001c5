import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkResult, META } from '../src/index.js';

const FHIR = 'https://ehr.example/r4';
const patient = { fhirServer: FHIR, patient: 'A1' };
const row = (id: string) => ({ resourceType: 'Observation', subject: { reference: `Patient/${id}` } });
const text = (value: unknown) => ({ type: 'text', text: typeof value === 'string' ? value : JSON.stringify(value) });
const check = (result: Record<string, unknown>, described?: 'structuredContent' | 'members') =>
  checkResult(result, { patient, described });

describe('a result of the patient', () => {
  const structuredContent = { results: [row('A1')] };

  test.each([
    ['as it is', JSON.stringify(structuredContent)],
    ['indented', JSON.stringify(structuredContent, null, 2)],
  ])('a text that repeats structuredContent %s is counted once', (_how, said) => {
    const verdict = check({ structuredContent, content: [text(said)] }, 'structuredContent');
    expect(verdict).toEqual({ inside: true, types: { Observation: 1 }, resources: 1, unverifiable: 0 });
  });

  test.each([
    ['foreign rows', { results: [row('B7')] }],
    ['a boxed reference', { results: [{ ...row('A1'), note: Object('Patient/B7') }] }],
    ['a list that rewrites itself', { results: Object.assign([row('A1')], { toJSON: () => [row('B7')] }) }],
  ])('a text that repeats %s saves them from nothing', (_what, said) => {
    const repeated = { structuredContent: said, content: [{ type: 'text', text: JSON.stringify(said) }] };
    expect(check(repeated, 'structuredContent')).toMatchObject({ inside: false });
  });

  test('a text that says something else is counted', () => {
    const verdict = check({ structuredContent, content: [text('Potassium is up.')] }, 'structuredContent');
    expect(verdict).toMatchObject({ inside: true, types: { Observation: 1 }, unverifiable: 1 });
  });

  test('JSON nobody described is unverifiable, described JSON is not', () => {
    expect(check({ structuredContent: { value: 7 } })).toMatchObject({ unverifiable: 1 });
    expect(check({ structuredContent: { value: 7 } }, 'structuredContent')).toMatchObject({ unverifiable: 0 });
    expect(check({ answer: 'x' }, 'structuredContent')).toMatchObject({ unverifiable: 1 });
    expect(check({ answer: 'x' }, 'members')).toMatchObject({ unverifiable: 0 });
  });

  test('frames and the binding are no parts of their own', () => {
    const _meta = { [META.context]: { patients: ['x'] }, 'io.modelcontextprotocol/serverInfo': { name: 'labs' } };
    const contents = [{ uri: 'chart://x', mimeType: 'application/fhir+json', blob: btoa(JSON.stringify(row('A1'))) }];
    const verdict = check({ contents, _meta, resultType: 'complete', ttlMs: 0, isError: false });
    expect(verdict).toEqual({ inside: true, types: { Observation: 1 }, resources: 1, unverifiable: 0 });
  });
});

describe('another patient is found wherever the value stands', () => {
  const places: readonly (readonly [string, (value: unknown) => Record<string, unknown>])[] = [
    ['structuredContent', (value) => ({ structuredContent: { deep: [value] } })],
    ['text', (value) => ({ content: [text(value)] })],
    [
      'an embedded text',
      (value) => ({ content: [{ type: 'resource', resource: { uri: 'x://1', text: JSON.stringify(value) } }] }),
    ],
    [
      'an embedded blob',
      (value) => ({ content: [{ type: 'resource', resource: { uri: 'x://1', blob: btoa(JSON.stringify(value)) } }] }),
    ],
    ['text beside a harmless blob', (value) => ({ contents: [{ uri: 'x://1', blob: btoa('{}'), text: JSON.stringify(value) }] })],
    ['resource contents', (value) => ({ contents: [{ uri: 'x://1', text: JSON.stringify(value) }] })],
    ['text that is no text', (value) => ({ contents: [{ uri: 'x://1', text: value }] })],
    ['a prompt message', (value) => ({ messages: [{ role: 'user', content: text(value) }] })],
    ['a list of prompt contents', (value) => ({ messages: [{ role: 'user', content: [text(value)] }] })],
    ['beside a prompt’s content', (value) => ({ messages: [{ role: 'user', content: text('x'), extra: value }] })],
    ['content that is no list', (value) => ({ content: text(value) })],
    ['an unknown content type', (value) => ({ content: [{ type: 'other', value }] })],
    ['annotations', (value) => ({ content: [{ ...text('x'), annotations: { value } }] })],
    ['_meta', (value) => ({ _meta: { 'org.example/x': value } })],
    ['a frame member', (value) => ({ nextCursor: JSON.stringify(value) })],
    ['any member', (value) => ({ anything: { at: [{ all: value }] } })],
  ];

  test.each(places)('%s', (_where, put) => {
    expect(check(put(row('B7')))).toMatchObject({ inside: false });
    expect(check(put(row('A1')))).toMatchObject({ inside: true });
  });

  test.each(['Patient/B7', 'patient://B7', 'https://else.example/r4/Patient/A1'])('a member named %s', (name) => {
    expect(check({ [name]: 1 })).toMatchObject({ inside: false });
  });

  test.each(['!', 'a', '====', 'e30=e30='])('a blob that is no base64 is withheld: %s', (blob) => {
    expect(check({ contents: [{ uri: 'x://1', blob }] })).toEqual({ inside: false, reason: 'a blob is no base64' });
  });

  test('never throws, and nothing foreign passes in a value it is hidden in', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 })), fc.constantFrom(...places), (noise, [, put]) => {
        expect(() => check(noise)).not.toThrow();
        expect(check({ ...noise, ...put(row('B7')) })).toMatchObject({ inside: false });
      }),
    );
  });
});
