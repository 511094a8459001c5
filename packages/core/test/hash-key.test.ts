import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkHashKey } from '../src/index.js';

describe('a key of pseudonyms', () => {
  test('of 16 characters or more is taken, whatever they are', () => {
    expect(() => checkHashKey('0123456789abcdef', 'pseudonymKey')).not.toThrow();
    fc.assert(
      fc.property(fc.string({ minLength: 16, maxLength: 64 }), (key) => {
        fc.pre(key === key.trim());
        checkHashKey(key, 'pseudonymKey');
      }),
    );
  });

  test.each([
    ['nothing', '', 'must be a text of 16 characters or more'],
    ['five characters', 'short', 'must be a text of 16 characters or more'],
    ['one too few', '0123456789abcde', 'must be a text of 16 characters or more'],
    ['a short one in space', `   short${' '.repeat(20)}\n`, 'must be a text of 16 characters or more'],
    ['space alone', ' '.repeat(32), 'must be a text of 16 characters or more'],
    ['a number', 1_234_567_890_123_456, 'must be a text of 16 characters or more'],
    ['a list as long', Array.from({ length: 32 }, () => 'x'), 'must be a text of 16 characters or more'],
    ['null', null, 'must be a text of 16 characters or more'],
    ['none at all', undefined, 'is missing'],
  ])('is refused as %s, by its name and never by its value', (_, key, says) => {
    const check = (): void => checkHashKey(key, 'tenantKey');
    expect(check).toThrow(TypeError);
    expect(check).toThrow(`"tenantKey" ${says}`);
    expect(check).not.toThrow(/short|0123456789|1234567890123456/);
  });
});
