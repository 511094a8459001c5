import { describe, expect, it } from 'vitest';
import { chooseCharts } from '../src/charts.js';
import { outOfRangeResults } from '../src/laboratory.js';
import { BearingMedication, medicationsBearingOn } from '../src/medication-safety.js';
import { shippedRecords } from '../src/people/shipped.js';

const source = (reference: string) => `ref:${reference.length}`;
const high = (loinc: string) => ({ loinc, analyte: loinc });
let count = 0;
function request(text: string, more: object = {}) {
  count += 1;
  return { resourceType: 'MedicationRequest', id: `m${count}`, status: 'active', medicationCodeableConcept: { text }, ...more };
}
const bearing = (requests: unknown[], loinc: string, read?: (reference: string) => unknown) =>
  medicationsBearingOn(requests, [high(loinc)], { source, read });

describe('a medication bears on a result', () => {
  it.each([
    ['2823-3', 'lisinopril 10 MG Oral Tablet', 'raise potassium'],
    ['6298-4', 'Losartan Potassium 50 MG', 'raise potassium'],
    ['2823-3', 'spironolactone 25 MG', 'raise potassium'],
    ['2823-3', 'Furosemide 40 MG Oral Tablet', 'lower potassium'],
    ['2339-0', '24 HR Metformin hydrochloride 500 MG', 'lower glucose'],
    ['4548-4', 'insulin isophane, human 70 UNT/ML', 'lower glucose'],
    ['2345-7', 'predniSONE 5 MG Oral Tablet', 'raise glucose'],
    ['38483-4', 'Naproxen sodium 220 MG Oral Tablet', 'harm kidney'],
    ['33914-3', 'metformin', 'depends on kidney'],
    ['18262-6', 'Simvastatin 20 MG Oral Tablet', 'lower cholesterol'],
    ['718-7', 'Warfarin Sodium 5 MG Oral Tablet', 'bleeding'],
    ['777-3', 'Clopidogrel 75 MG Oral Tablet', 'bleeding'],
    ['2951-2', 'Hydrochlorothiazide 25 MG', 'lower sodium'],
    ['2947-0', 'sertraline 50 MG', 'lower sodium'],
    ['49765-1', 'Hydrochlorothiazide 25 MG', 'raise calcium'],
  ])('%s: %s', (loinc, name, why) => {
    const [found] = bearing([request(name)], loinc);
    expect(BearingMedication.parse(found).bearsOn[0]?.why).toContain(why);
    expect(found?.medication).toBe(name);
  });

  it.each([
    ['a medication without effect on it', request('Amoxicillin 250 MG')],
    ['a word inside another', request('Hydrocortisonex')],
    ['a stopped request', request('lisinopril', { status: 'stopped' })],
    ['a request on hold', request('lisinopril', { status: 'on-hold' })],
    ['a request without a medication', request('lisinopril', { medicationCodeableConcept: undefined })],
    ['an empty name', request('')],
    ['another resource', request('lisinopril', { resourceType: 'MedicationStatement' })],
    ['nothing', undefined],
  ])('but not %s', (_name, resource) => {
    expect(bearing([resource], '2823-3')).toEqual([]);
  });

  it('by the RxNorm display when the text says nothing', () => {
    const coded = { text: 'ZESTRIL', coding: [{ display: 'lisinopril 10 MG Oral Tablet' }] };
    expect(bearing([request('', { medicationCodeableConcept: coded })], '2823-3')[0]?.medication).toBe('ZESTRIL');
  });

  it('by the Medication it refers to, read or contained', () => {
    const medication = { resourceType: 'Medication', id: 'x', code: { text: 'lisinopril' } };
    const refers = (reference: string, more: object = {}) =>
      request('', { medicationCodeableConcept: undefined, medicationReference: { reference }, ...more });
    expect(bearing([refers('#x', { contained: [medication] })], '2823-3')).toHaveLength(1);
    expect(bearing([refers('Medication/x')], '2823-3', () => medication)).toHaveLength(1);
    expect(bearing([refers('Medication/x')], '2823-3', () => ({ ...medication, resourceType: 'Patient' }))).toEqual([]);
    expect(bearing([refers('Medication/x')], '2823-3')).toEqual([]);
  });

  it('once, by its newest request', () => {
    const old = request('lisinopril', { authoredOn: '2001-01-01' });
    const latest = request('lisinopril', { id: 'a-longer-id', authoredOn: '2011-01-01' });
    expect(bearing([latest, old], '2823-3')).toMatchObject([{ source: source('MedicationRequest/a-longer-id') }]);
  });

  it('and nothing bears on no result', () => {
    expect(medicationsBearingOn([request('lisinopril')], [], { source })).toEqual([]);
  });
});

it('in the shipped charts each Testwright has other medications, and stopped ones are left out', () => {
  const records = shippedRecords();
  const names = Object.values(chooseCharts(records)).flatMap((chart) => {
    if (typeof chart === 'boolean') return [];
    const results = outOfRangeResults(records.ofPatient(chart.patient.id, 'Observation'), { source });
    const found = medicationsBearingOn(records.ofPatient(chart.patient.id, 'MedicationRequest'), results, { source });
    return [found.map(({ medication }) => medication.split(' ')[0])];
  });
  expect(names).toEqual([
    ['24', 'lisinopril', 'spironolactone'],
    ['Furosemide', 'Hydrochlorothiazide', 'Warfarin'],
  ]);
});
