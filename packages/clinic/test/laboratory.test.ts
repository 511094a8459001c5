import { describe, expect, it } from 'vitest';
import { chooseCharts } from '../src/charts.js';
import { handle } from '../src/handles.js';
import { isLaboratory, OutOfRangeResult, outOfRangeResults } from '../src/laboratory.js';
import { shippedRecords } from '../src/people/shipped.js';
import { loadRecords } from '../src/records-folder.js';
import { adultRange } from '../src/reference-ranges.js';

const KEY = 'a key of the test, 16+ bytes';
const source = (reference: string) => handle(KEY, reference);
let count = 0;
function potassium(value: number | undefined, more: object = {}, unit = 'mmol/L') {
  count += 1;
  return {
    resourceType: 'Observation',
    id: `o${count}`,
    status: 'final',
    category: [{ coding: [{ system: 'http://terminology.hl7.org/CodeSystem/observation-category', code: 'laboratory' }] }],
    code: { text: 'Potassium', coding: [{ system: 'http://loinc.org', code: '2823-3' }] },
    effectiveDateTime: '2024-05-01',
    valueQuantity: { value, unit, code: unit },
    ...more,
  };
}
const judged = (...observations: unknown[]) => outOfRangeResults(observations, { source })[0];
const flag = (...codes: string[]) => ({ interpretation: [{ coding: codes.map((code) => ({ code })) }] });
const printed = (low: number | undefined, high: number | undefined, more: object = {}) => ({
  ...(low === undefined ? {} : { low: { value: low } }),
  ...(high === undefined ? {} : { high: { value: high } }),
  ...more,
});

describe('the newest value of an analyte', () => {
  it('is judged, with the one before it and opaque sources', () => {
    const newest = potassium(6, { effectiveDateTime: '2024-03-01T09:00:00+02:00' });
    const before = potassium(5.2, { effectiveDateTime: '2023-03-01' });
    const result = judged(potassium(4, { effectiveDateTime: '2022' }), newest, before);
    expect(OutOfRangeResult.parse(result)).toEqual({
      loinc: '2823-3',
      analyte: 'Potassium',
      direction: 'high',
      newest: { value: 6, unit: 'mmol/L', date: '2024-03-01T09:00:00+02:00', source: source(`Observation/${newest.id}`) },
      previous: { value: 5.2, unit: 'mmol/L', date: '2023-03-01', source: source(`Observation/${before.id}`) },
      basis: 'adult table',
    });
    expect(JSON.stringify(result)).not.toContain(newest.id);
  });

  it('in range is not reported, whatever the older ones were', () => {
    expect(judged(potassium(9, { effectiveDateTime: '2020' }), potassium(4, { effectiveDateTime: '2021' }))).toBeUndefined();
  });

  it('by moment, not by the text of its date', () => {
    const result = judged(
      potassium(6, { effectiveDateTime: '2024-01-01T00:30:00+10:00' }),
      potassium(2, { effectiveDateTime: '2023-12-31T23:00:00Z' }),
    );
    expect(result?.newest.value).toBe(2);
  });

  it('is not compared with a value in another unit', () => {
    expect(judged(potassium(6), potassium(20, { effectiveDateTime: '2020' }, 'mg/dL'))?.previous).toBeUndefined();
  });
});

describe('the judgement', () => {
  it.each([
    [
      'the laboratory’s flag before everything',
      potassium(4, { ...flag('H'), referenceRange: [printed(3, 5)] }),
      'high',
      'interpretation',
    ],
    ['a low flag', potassium(4, flag('LL')), 'low', 'interpretation'],
    ['a flag with a way before one without', potassium(4, flag('A', 'L')), 'low', 'interpretation'],
    ['an abnormal flag without a way', potassium(4, flag('A')), 'abnormal', 'interpretation'],
    ['the printed range before the table', potassium(4, { referenceRange: [printed(4.5, 5)] }), 'low', 'referenceRange'],
    ['a printed range with one end', potassium(4, { referenceRange: [printed(undefined, 3)] }), 'high', 'referenceRange'],
    ['the table at last', potassium(3), 'low', 'adult table'],
    [
      'a flag on a value with a comparator',
      potassium(9, { ...flag('H'), valueQuantity: { value: 9, code: 'mmol/L', comparator: '>' } }),
      'high',
      'interpretation',
    ],
  ])('rests on %s', (_name, observation, direction, basis) => {
    expect(judged(observation)).toMatchObject({ direction, basis });
  });

  it.each([
    ['a normal flag on a value outside our table', potassium(9, flag('N'))],
    ['a value on the bound', potassium(5.1)],
    ['a unit the table does not know', potassium(9, {}, 'mg/dL')],
    ['no unit', potassium(9, { valueQuantity: { value: 9 } })],
    ['a printed range for some people only', potassium(9, { referenceRange: [printed(3, 5, { appliesTo: [{}] })] })],
    ['a printed range for an age', potassium(9, { referenceRange: [printed(3, 5, { age: {} })] })],
    ['a therapeutic range', potassium(9, { referenceRange: [printed(3, 5, { type: { coding: [{ code: 'therapeutic' }] } })] })],
    ['two printed ranges', potassium(9, { referenceRange: [printed(3, 5), printed(3, 6)] })],
    ['a printed range in another unit', potassium(9, { referenceRange: [{ high: { value: 5, code: 'mg/dL' } }] })],
    ['a printed range in words', potassium(9, { referenceRange: [{ text: '3 to 5' }] })],
    ['a comparator', potassium(9, { valueQuantity: { value: 9, code: 'mmol/L', comparator: '<' } })],
    ['no number', potassium(undefined)],
    ['a number in text', potassium(9, { valueQuantity: { value: '9', code: 'mmol/L' } })],
    ['no date', potassium(9, { effectiveDateTime: undefined })],
    ['a date that is none', potassium(9, { effectiveDateTime: 'yesterday' })],
    ['an entry in error', potassium(9, { status: 'entered-in-error' })],
    ['a preliminary status', potassium(9, { status: 'preliminary' })],
    ['no LOINC code', potassium(9, { code: { coding: [{ system: 'urn:x', code: '2823-3' }] } })],
    ['an unknown LOINC code', potassium(9, { code: { coding: [{ system: 'http://loinc.org', code: '1-8' }] } })],
    ['another category', potassium(9, { category: [{ coding: [{ code: 'vital-signs' }] }] })],
    ['a category of another system', potassium(9, { category: [{ coding: [{ system: 'urn:x', code: 'laboratory' }] }] })],
    ['no category', potassium(9, { category: undefined })],
    ['another resource', { ...potassium(9), resourceType: 'Condition' }],
    ['no resource', null],
    ['a list', []],
  ])('is not made on %s', (_name, observation) => {
    expect(judged(observation)).toBeUndefined();
  });

  it('uses no adult table for a child', () => {
    const at = (birthDate: string) => outOfRangeResults([potassium(9)], { source, birthDate }).length;
    expect([at('2010-01-01'), at('2006-05-01'), at('2006-05-02'), at('unknown')]).toEqual([0, 1, 0, 1]);
  });

  it('uses the ranges of the gender, and the wider one when it is unknown', () => {
    const range = (gender?: string) => adultRange('718-7', 'g/dL', gender);
    expect(range('female')).toEqual({ low: 12, high: 15.5 });
    expect(range('male')).toEqual({ low: 13.5, high: 17.5 });
    expect(range()).toEqual({ low: 12, high: 17.5 });
    expect(adultRange('2085-9', 'mg/dL')).toEqual({ low: 40, high: undefined });
    expect(adultRange('718-7', 'g/L')).toBeUndefined();
  });
});

describe('of the people', () => {
  it('the shipped Testwrights have the results that were made for them', () => {
    const records = shippedRecords();
    const { a, b } = chooseCharts(records);
    const results = ({ patient }: typeof a) =>
      outOfRangeResults(records.ofPatient(patient.id, 'Observation'), {
        source,
        gender: patient.gender,
        birthDate: patient.birthDate,
      });
    const [ofA, ofB] = [results(a), results(b)].map((list) =>
      list.map(({ loinc, direction, newest, previous }) => [loinc, direction, newest.value, previous?.value]),
    );
    expect(ofA).toContainEqual(['2823-3', 'high', 5.873, 5.237]);
    expect(ofA).toContainEqual(['4548-4', 'high', 8.231, 7.913]);
    expect(ofB).toContainEqual(['718-7', 'low', 10.739, 12.917]);
    expect(ofB).toContainEqual(['2951-2', 'low', 131.19, 133.73]);
  });

  it('whoever has an empty chart has no result', () => {
    const records = shippedRecords();
    const empty = records.ofType('Patient').filter(({ id }) => records.ofPatient(id).length === 1);
    expect(empty.map(({ id }) => outOfRangeResults(records.ofPatient(id), { source }))).toEqual([[]]);
  });

  const data = process.env.HMCP_DATA;
  it.skipIf(!data)(
    `everybody’s results are values of their own chart${data ? '' : ' (skipped: HMCP_DATA is not set)'}`,
    async () => {
      const records = await loadRecords(data ?? '');
      for (const { id } of records.ofType('Patient')) {
        const own = records.ofPatient(id, 'Observation').filter(isLaboratory);
        const values = new Set(own.map(({ valueQuantity }) => (valueQuantity as { value?: number } | undefined)?.value));
        const results = outOfRangeResults(own, { source }).flatMap(({ newest, previous }) => [
          newest,
          ...(previous ? [previous] : []),
        ]);
        expect(results.filter(({ value }) => !values.has(value))).toEqual([]);
      }
    },
  );
});

describe('a handle', () => {
  it('is equal for equal resources under one key, and tells nothing', () => {
    expect(source('Observation/o1')).toBe(source('Observation/o1'));
    expect(source('Observation/o1')).toMatch(/^obs_[A-Za-z0-9_-]{16}$/);
    expect(source('MedicationRequest/m1')).toMatch(/^med_/);
    expect(source('Device/d')).toMatch(/^ref_/);
  });

  it('differs by key, type and id', () => {
    const all = [source('Observation/o1'), source('Observation/o2'), source('Condition/o1'), handle(`${KEY}!`, 'Observation/o1')];
    expect(new Set(all.map((one) => one.slice(one.indexOf('_')))).size).toBe(4);
  });

  it.each([[''], ['short'], [new Uint8Array(15)]])('refuses a key that can be guessed: %j', (key) => {
    expect(() => handle(key, 'Observation/o1')).toThrow(TypeError);
  });
});
