import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkResult, resultNamed } from '../src/index.js';

const patient = { fhirServer: 'https://ehr.example/r4', tenant: 't1', patient: 'A1' };
const FOREIGN = 'another id under a name of the patient';
const judge = (structuredContent: unknown, patientArgument?: string | null, own = 'A1') =>
  checkResult(
    { structuredContent },
    {
      patient: { ...patient, patient: own },
      described: 'structuredContent',
      ...(patientArgument === undefined ? {} : { patientArgument }),
    },
  );

describe('JSON outside FHIR says by its names whose it is', () => {
  test.each([
    ['patientId', 'A1'],
    ['patient_id', 'A1'],
    ['PATIENT-ID', 'A1'],
    ['patient.id', 'A1'],
    ['patientFhirId', 'A1'],
    ['forPatient', 'A1'],
    ['subject', 'A1'],
    ['subjectRef', 'Patient/A1'],
    ['beneficiary', 'https://ehr.example/r4/Patient/A1'],
    ['patientUuid', 'urn:uuid:A1'],
    ['patients', ['A1', { id: 'A1' }, 'Patient/A1']],
    ['patientIds', 'A1, A1'],
    ['patient', { id: 'A1', name: 'Ann Berg', uuid: 'internal-7' }],
    ['subject', { id: 'element-1', reference: 'Patient/A1' }],
    ['subject', { reference: 'Group/7' }],
    ['Patient', { Id: 'A1', Name: 'Ann' }],
    ['patient', { ID: 'A1', uuid: 'internal-7' }],
  ])('passes the patient’s own: %s %j', (key, value) => {
    expect(judge({ rows: [{ at: { [key]: value, potassium: 4.1 } }] })).toMatchObject({ inside: true });
  });

  test.each([
    ['patientId', 'B7'],
    ['patientId', 'a1'],
    ['patientId', 'A10'],
    ['patientId', ' B7 '],
    ['patient_id', 'B7'],
    ['PATIENT-ID', 'B7'],
    ['Patient.Id', 'B7'],
    ['patientFhirId', 'B7'],
    ['for_patient', 'B7'],
    ['patient', 'Bo'],
    ['subjectReference', 'B7'],
    ['patientUuid', 'urn:uuid:B7'],
    ['patientIds', 'A1,B7'],
    ['patients', ['A1', 'B7']],
    ['patients', [[{ id: 'B7' }]]],
    ['patient', { id: 'B7' }],
    ['patient', { _id: 'B7' }],
    ['patient', { id: 'A1', reference: 'B7' }],
    ['patient', { id: 12 }],
    ['Patient', { Id: 'B7' }],
    ['patient', { ID: 'B7' }],
    ['patient', { id: 'A1', Id: 'B7' }],
    ['patients', [{ Guid: 'B7' }]],
    ['fhirPatientId', 'B7'],
    ['fhir_patient_id', 'B7'],
    ['patientGuid', 'B7'],
    ['patient_uuids', 'A1,B7'],
    ['for-fhir-beneficiary-fhir-references', 'B7'],
    ['patientId', 12],
    ['patients', [12]],
  ])('withholds another: %s %j', (key, value) => {
    const told = { [key]: value, potassium: 3.2 };
    expect(judge(told)).toMatchObject({ inside: false, reason: FOREIGN });
    expect(judge({ rows: [{ at: [told] }] })).toMatchObject({ inside: false, reason: FOREIGN });
    expect(judge({ said: JSON.stringify(told) })).toMatchObject({ inside: false, reason: FOREIGN });
    const text = checkResult({ content: [{ type: 'text', text: JSON.stringify(told) }] }, { patient });
    expect(text).toMatchObject({ inside: false, reason: FOREIGN });
  });

  test.each([
    ['patient', 'Bo Lund'],
    ['patient', 'Lund, Bo'],
    ['patient', null],
    ['patient', ''],
    ['patient', true],
    ['patient', { name: 'Ann Berg' }],
    ['patientId', 'x'.repeat(65)],
    ['patients', 12],
    ['subjects', 0],
    ['patientIds', ' , '],
    ['patientName', 'Bo'],
    ['patience', 'B7'],
    ['inpatient', 'B7'],
    ['subjectLine', 'Hello'],
    ['id', 'B7'],
  ])('does not judge what names nobody by an id: %s %j', (key, value) => {
    expect(judge({ [key]: value })).toMatchObject({ inside: true });
  });

  test.each([
    ['12', 12, true],
    ['12', '12', true],
    ['12', 13, false],
    ['9007199254740992', 9007199254740992, false],
  ])('the patient %s, said as %j: passes %s', (own, said, inside) => {
    expect(judge({ patientId: said }, undefined, own)).toMatchObject({ inside });
  });

  test('who was named can be written down, by key', () => {
    const verdict = judge({ patientId: 'B7' });
    expect(verdict).toEqual({ inside: false, reason: FOREIGN, named: { ...patient, patient: 'B7' } });
    if (!verdict.inside)
      expect(resultNamed(patient, verdict)).toEqual([
        { said: 'context', patient },
        { said: 'result', patient: { ...patient, patient: 'B7' } },
      ]);
  });

  test('inside a FHIR resource FHIR says whose it is', () => {
    const resource = { resourceType: 'Observation', subject: { reference: 'Patient/A1' }, code: { text: 'subject' } };
    expect(judge({ patientId: 'A1', resource })).toMatchObject({ inside: true, resources: 1 });
    expect(judge({ patientId: 'B7', resource })).toMatchObject({ inside: false });
  });

  test('never throws, and no noise around it hides another id', () => {
    const key = fc.constantFrom('patientId', 'patient', 'subject_id', 'PatientRef');
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 })), key, fc.jsonValue(), (noise, name, value) => {
        expect(() => judge({ ...noise, [name]: value })).not.toThrow();
        expect(judge({ ...noise, rows: [{ [name]: 'B7' }] })).toMatchObject({ inside: false });
      }),
    );
  });
});

describe('the declared argument of an operation', () => {
  test('is a name of the patient in its answers too', () => {
    expect(judge({ rows: [{ chart: 'A1' }] }, 'chart')).toMatchObject({ inside: true });
    expect(judge({ rows: [{ chart: 'B7' }] }, 'chart')).toMatchObject({ inside: false, reason: FOREIGN });
    expect(judge({ rows: [{ chart: 'B7' }] })).toMatchObject({ inside: true });
    expect(judge({ rows: [{ chart: 'B7' }] }, null)).toMatchObject({ inside: true });
  });

  test.each(['id', '_id', 'ID', 'uuid', 'identifier', 'query', 'ref'])('is none where it may stand for anything: %s', (name) => {
    expect(judge({ rows: [{ [name]: 'lab-7' }] }, name)).toMatchObject({ inside: true });
    expect(judge({ rows: [{ [name]: 'lab-7', patientId: 'B7' }] }, name)).toMatchObject({ inside: false });
  });
});
