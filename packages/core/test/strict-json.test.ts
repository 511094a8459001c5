import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseStrictJson } from '../src/index.js';

it('reads any JSON as JSON.parse does', () => {
  fc.assert(
    fc.property(fc.json(), fc.constantFrom(undefined, 1), (text, indent) => {
      const value: unknown = JSON.parse(text);
      expect(parseStrictJson(JSON.stringify(value, null, indent))).toEqual({ ok: true, value });
    }),
  );
});

it.each([
  ['one name in two objects', '[{"a":1},{"a":{"a":2}},{"b":"a","a":"a"}]'],
  ['names in strings', '{"a":"{\\"a\\":1,\\"a\\":2}","b":"\\\\","c":"a"}'],
  ['names in lists', '{"a":["a","a",":"],"b":[{"a":1}]}'],
  ['names that differ in case', '{"a":1,"A":2}'],
  ['odd members', '{"__proto__":1,"constructor":2,"":3}'],
])('takes %s', (_what, text) => expect(parseStrictJson(text)).toMatchObject({ ok: true }));

it.each([
  ['a name twice', '{"a":1,"a":1}'],
  ['a name twice, inside', '[{"b":{"a":1,"c":[],"a":2}}]'],
  ['a name twice around an object', '{"a":{"b":1},"a":2}'],
  ['a name twice, spaced', '{ "a" : 1 ,\n\t"a"\r\n: 2 }'],
  ['a name twice, escaped', '{"patient":1,"\\u0070atient":2}'],
  ['an empty name twice', '{"":1,"":2}'],
  ['__proto__ twice', '{"__proto__":1,"__proto__":2}'],
])('refuses %s', (_what, text) => expect(parseStrictJson(text)).toEqual({ ok: false, reason: 'duplicate key' }));

it.each([
  '',
  '{',
  '{"a":1}x',
  "{'a':1}",
  '{"a":1,}',
  'NaN',
  '\ufeff{}',
  '{"a":1}{"a":1}',
  '"\u0001"',
])('is told that %j is no JSON', (text) => expect(parseStrictJson(text)).toEqual({ ok: false, reason: 'not JSON' }));

it('finds a doubled member wherever it is put', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue(), { minKeys: 1 }), fc.nat(), (object, which) => {
      const members = Object.entries(object).map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
      const text = `{${[...members, members[which % members.length]].join(',')}}`;
      expect(parseStrictJson(text)).toEqual({ ok: false, reason: 'duplicate key' });
    }),
  );
});
