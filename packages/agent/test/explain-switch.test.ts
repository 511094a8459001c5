import { AbortReason, HmcpError } from '@hmcp/core';
import { describe, expect, test } from 'vitest';
import { explainSwitch, type SwitchReport } from '../src/index.js';
import { ANN } from './support/world.js';

const ended = (result: SwitchReport['result'], more: Partial<SwitchReport> = {}) =>
  explainSwitch({ result, saved: 0, lost: 0, ...more });
const refusal = new HmcpError(40301, { by: 'https://manager.example', check: 'session' });

describe('how a switch ended, said to a person,', () => {
  test.each(AbortReason.options)('is a sentence of its own for the reason "%s", which keeps the word', (reason) => {
    const sentence = ended('aborted', { reason });
    expect(sentence).toMatch(/^Still on the same patient, nothing lost: [a-z].{10,} \([a-z]+\)\.$/);
    expect(sentence).toContain(`(${reason})`);
    const others = AbortReason.options.filter((other) => other !== reason).map((other) => ended('aborted', { reason: other }));
    expect(others.map((other) => other.split(' (')[0])).not.toContain(sentence.split(' (')[0]);
  });

  test.each<[string, string, RegExp]>([
    ['a commit', ended('committed'), /^The next patient is open\.$/],
    ['a commit with unsaved work', ended('committed', { saved: 2, lost: 1 }), /^The next patient is open\. 2 saved, 1 lost\.$/],
    ['the same patient', ended('unchanged', { reason: 'unchanged' }), /open already; nothing changed\.$/],
    ['an outcome nobody knows', ended('pending', { reason: 'unavailable' }), /^Nobody can say yet/],
    [
      'a refusal',
      ended('refused', { reason: 'switch_forbidden', error: refusal }),
      /^Still on the same patient, nothing lost: .+ \(switch_forbidden\)\.$/,
    ],
    [
      'a manager that did not answer',
      ended('refused', { reason: 'unavailable', error: new Error(ANN) }),
      /did not answer \(unav/,
    ],
    ['a reason of a later version', ended('aborted', { reason: 'eclipse' }), /was given up \(eclipse\)\.$/],
    ['no reason', ended('aborted'), /was given up \(aborted\)\.$/],
  ])('tells %s, and names nobody', (_, sentence, expected) => {
    expect(sentence).toMatch(expected);
    expect(sentence).not.toContain(ANN);
  });
});
