import { expect, it } from 'vitest';
import { BoundedCache, fingerprint, webFingerprint } from '../src/bounded-cache.js';

it('a bounded cache forgets what was used longest ago and what is too old', () => {
  const cache = new BoundedCache<number>(2);
  cache.set('a', 1, 100);
  cache.set('b', 2, 100);
  expect(cache.get('a', 0)).toBe(1);
  cache.set('c', 3, 100);
  expect([cache.get('a', 99), cache.get('b', 99), cache.get('c', 99), cache.size]).toEqual([1, undefined, 3, 2]);
  expect([cache.get('a', 100), cache.size]).toEqual([undefined, 1]);
});

it.each([
  '',
  'a',
  'é€😀',
  '\ud800',
  'x'.repeat(9000),
])('a fingerprint is the same where there is Web Crypto only: %j', async (text) => {
  const found = await fingerprint(text);
  expect(found).toMatch(/^[A-Za-z0-9_-]{43}$/);
  expect(found).toBe(await webFingerprint(text));
});
