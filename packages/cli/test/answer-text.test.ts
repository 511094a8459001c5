import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { printable, shown } from '../src/answer-text.js';

const ESC = '\u001b';
const HIDDEN = /[\p{Cf}\p{Zl}\p{Zp}\u007f-\u009f]/u;

describe('what hmcp call shows of an answer', () => {
  test.each([
    ['a text, as it is', 'no known allergies', 'no known allergies'],
    ['every line of a text', 'one\r\n\ntwo\tthree', 'one\n\ntwo\tthree'],
    ['an empty text', '', ''],
    ['an object, as JSON', { results: [] }, '{\n  "results": []\n}'],
    ['nothing, as JSON', undefined, 'null'],
    ['a list of contents, as JSON', [], '[]'],
  ])('%s', (_, answer, expected) => {
    expect(shown(answer)).toBe(expected);
  });

  test.each([
    ['a text that drives the terminal', `${ESC}[2Jgone`, '[2Jgone'],
    ['a text that turns its reading round', 'a\u202Eb', 'ab'],
    ['a text with the other control characters', 'a\u009b1mb\u2028c', 'a1mbc'],
    ['a value that drives the terminal', [ESC], '[\n  "\\u001b"\n]'],
    ['a value with the other control characters', ['\u009b\u202e'], '[\n  "\\u009b\\u202e"\n]'],
    ['a hidden character beyond the first plane', ['\u{E0041}'], '[\n  "\\udb40\\udc41"\n]'],
  ])('disarms %s', (_, answer, expected) => {
    expect(shown(answer)).toBe(expected);
  });

  test('JSON says the same after it was made printable', () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
        const json = printable(JSON.stringify(value));
        expect(json).not.toMatch(HIDDEN);
        expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});
