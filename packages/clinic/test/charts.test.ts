import { describe, expect, it } from 'vitest';
import { chooseCharts, patientSummaries, TooFewCharts } from '../src/charts.js';
import { shippedRecords } from '../src/people/shipped.js';
import { buildRecords } from '../src/records.js';

const LAB = [{ coding: [{ code: 'laboratory' }] }];

/** People as id, family name, number of laboratory results, and what else differs. */
type Somebody = readonly [string, string, number, object?];

function clinic(people: readonly Somebody[]) {
  const entry = people.flatMap(([id, family, results, more]) => [
    { resource: { resourceType: 'Patient', id, birthDate: '1970-01-01', name: [{ given: ['Ada'], family }], ...more } },
    ...Array.from({ length: results }, (_, at) => ({
      resource: {
        resourceType: 'Observation',
        id: `${id}-${at}`,
        category: LAB,
        valueQuantity: { value: at },
        subject: { reference: `Patient/${id}` },
      },
    })),
    { resource: { resourceType: 'Observation', id: `${id}-none`, category: LAB, subject: { reference: `Patient/${id}` } } },
  ]);
  return buildRecords([{ name: 'x', bundle: { resourceType: 'Bundle', type: 'collection', entry } }], { kind: 'shipped' });
}
const chosen = (...people: Somebody[]) => {
  const { a, b, oneFamilyName } = chooseCharts(clinic(people));
  return [a.patient.id, b.patient.id, oneFamilyName];
};

describe('the two charts of the story', () => {
  it('are the shipped people of one family name', () => {
    const { a, b, oneFamilyName } = chooseCharts(shippedRecords());
    expect([a.family, b.family, oneFamilyName]).toEqual(['Testwright', 'Testwright', true]);
  });

  it('are the two with most results when no family name is shared', () => {
    expect(chosen(['p', 'P', 1], ['q', 'Q', 5], ['r', 'R', 3])).toEqual(['q', 'r', false]);
  });

  it('are the best pair of one family name when there is one', () => {
    expect(chosen(['p', 'P', 9], ['q', 'Q', 1], ['r', 'q ', 2], ['s', 'S', 1], ['t', 'S', 1], ['u', 'Q', 2])).toEqual([
      'r',
      'u',
      true,
    ]);
  });

  it('share no name because both have none', () => {
    expect(chosen(['p', '', 1], ['q', '', 1], ['r', 'R', 2])).toEqual(['r', 'p', false]);
  });

  it.each([
    ['no birth date', { birthDate: undefined }],
    ['a birth date that is none', { birthDate: 'unknown' }],
    ['no name', { name: [] }],
  ])('are never of somebody with %s, whom a picker cannot tell from others', (_, more) => {
    expect(chosen(['p', 'P', 1], ['q', 'P', 9, more], ['r', 'R', 3])).toEqual(['r', 'p', false]);
  });

  it.each([
    ['none', []],
    ['one', [['p', 'P', 2] as const]],
    ['one, and relatives without results', [['p', 'P', 2] as const, ['q', 'P', 0] as const]],
  ])('are refused with a sentence when there is %s', (count, people) => {
    expect(() => chooseCharts(clinic([...people, ['z', 'Z', 0]]))).toThrow(TooFewCharts);
    expect(() => chooseCharts(clinic([...people, ['z', 'Z', 0]]))).toThrow(new RegExp(`needed.*${count.slice(0, 3)}`));
  });
});

describe('the summary of a person', () => {
  const summary = (patient: object) => {
    const bundle = {
      resourceType: 'Bundle',
      type: 'collection',
      entry: [{ resource: { resourceType: 'Patient', id: 'p', ...patient } }],
    };
    return patientSummaries(buildRecords([{ name: 'x', bundle }], { kind: 'shipped' }))[0];
  };

  it('holds name, birth date, gender and the last four of the record number', () => {
    const identifier = [{ value: 'SSN-999' }, { type: { coding: [{ code: 'MR' }] }, value: 'MR-12345678' }];
    const name = [
      { use: 'maiden', family: 'X' },
      { use: 'official', given: ['A', 'B'], family: 'C' },
    ];
    expect(summary({ identifier, name, birthDate: '1970-01-02', gender: 'female', telecom: [{ value: '1' }] })).toEqual({
      id: 'p',
      name: 'A B C',
      birthDate: '1970-01-02',
      gender: 'female',
      identifierLast4: '5678',
    });
  });

  it.each([
    [{}],
    [{ name: 'x', identifier: 'y', birthDate: 7, gender: null }],
    [{ name: [null, 3], identifier: [null, { value: 5 }, { type: null }] }],
  ])('bears a record without usable demographics: %j', (patient) => {
    expect(summary(patient)).toEqual({ id: 'p', name: 'unnamed', birthDate: '', gender: 'unknown', identifierLast4: '' });
  });

  it('is made for everybody, also with an empty chart', () => {
    expect(patientSummaries(shippedRecords())).toHaveLength(4);
  });
});
