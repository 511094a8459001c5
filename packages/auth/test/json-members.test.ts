import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { BoundedCache } from '../src/bounded-cache.js';
import { hasDuplicateMembers } from '../src/json-members.js';

it('no JSON that was written by a serializer repeats a member', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(hasDuplicateMembers(JSON.stringify(value))).toBe(false);
      expect(hasDuplicateMembers(JSON.stringify(value, undefined, '\t'))).toBe(false);
    }),
  );
});

it('a repeated member is found wherever the object stands', () => {
  fc.assert(
    fc.property(fc.string(), fc.jsonValue(), fc.jsonValue(), (name, one, two) => {
      const member = (value: unknown) => `${JSON.stringify(name)} : ${JSON.stringify(value)}`;
      expect(hasDuplicateMembers(`[{"outer!":[1,{${member(one)},${member(two)}}]}]`)).toBe(true);
      expect(hasDuplicateMembers(`[{${member(one)}},{${member(two)}}]`)).toBe(false);
    }),
  );
});

it.each([
  '{"a":1,"a":2}',
  '{"a":1,"\\u0061":2}',
  '{"a":{},"b":[{}],"a":2}',
  '{"":1,"":2}',
  '{"\\"":1,"\\"":2}',
  '{"__proto__":1,"__proto__":2}',
])('finds it in %s', (text) => {
  expect(hasDuplicateMembers(text)).toBe(true);
});

it.each([
  '{"a":"a","b":"a:"}',
  '{"a":["a","a"]}',
  '{"a":"{\\"a\\":1,\\"a\\":2}"}',
  '{"a":{"a":1}}',
  '"a"',
  '[]',
])('does not see one in %s', (text) => {
  expect(hasDuplicateMembers(text)).toBe(false);
});

it('a bounded cache forgets what was used longest ago and what is too old', () => {
  const cache = new BoundedCache<number>(2);
  cache.set('a', 1, 100);
  cache.set('b', 2, 100);
  expect(cache.get('a', 0)).toBe(1);
  cache.set('c', 3, 100);
  expect([cache.get('a', 99), cache.get('b', 99), cache.get('c', 99), cache.size]).toEqual([1, undefined, 3, 2]);
  expect([cache.get('a', 100), cache.size]).toEqual([undefined, 1]);
});
