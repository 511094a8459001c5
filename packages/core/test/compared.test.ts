import { describe, expect, test } from 'vitest';
import {
  checkCompartment,
  checksToldApart,
  comparedByKey,
  ERRORS,
  explain,
  HmcpError,
  type HmcpErrorCode,
  META,
  meaningOf,
  type Operation,
  patientKey,
  patientsNamed,
  resultNamed,
  type SealClaims,
  unusable,
  type VerifiedToken,
} from '../src/index.js';

const FHIR = 'https://ehr.example/r4';
const A1 = { fhirServer: FHIR, patient: 'A1' };
const B7 = { fhirServer: FHIR, patient: 'B7' };
const READ: Operation = { scope: 'patient/Observation.rs', patientArgument: 'who' };
const token = (more: Partial<VerifiedToken> = {}) => ({ fhirServer: FHIR, patient: 'A1', ...more }) as VerifiedToken;
const plain = (patient: string) => ({ _meta: { [META.context]: { version: '1', patient, intent: { id: 'i' } } } });
const sealed = { _meta: { [META.context]: { version: '1', seal: 'x.y.z', intent: { id: 'i', epoch: 4 } } } };
const asked = { token: token(), params: {}, operation: READ, seal: undefined };

describe('what a refused request was compared by', () => {
  test('names token, envelope and header, each with whom it said', () => {
    expect(patientsNamed({ ...asked, check: 'equality', params: plain('B7'), header: 'A1' })).toEqual([
      { said: 'token', patient: A1 },
      { said: 'envelope', patient: B7 },
      { said: 'header', patient: A1 },
    ]);
  });

  test('a verified seal says whom; one that proves nothing says nobody', () => {
    const seal = { fhirServer: FHIR, patient: 'B7' } as SealClaims;
    expect(patientsNamed({ ...asked, check: 'equality', params: sealed, seal })[1]).toEqual({
      said: 'seal',
      patient: { ...B7, tenant: undefined },
    });
    expect(patientsNamed({ ...asked, check: 'seal', params: sealed })[1]).toEqual({ said: 'seal' });
  });

  test('an equal id of another tenant is another patient', async () => {
    const envelope = { version: '1', patient: 'A1', tenant: 't2', intent: { id: 'i' } };
    const params = { _meta: { [META.context]: envelope } };
    const named = patientsNamed({ ...asked, token: token({ tenant: 't1' }), check: 'equality', params });
    const [one, other] = await comparedByKey('k', named);
    expect(one?.pk).not.toBe(other?.pk);
  });

  test.each([
    [{ who: 'B7' }, { argument: 'who', patient: B7 }],
    [{ patientId: 'Patient/B7' }, { argument: 'patientId', patient: B7 }],
    [{ subject: { reference: 'Patient/B7' } }, { argument: 'subject', patient: B7 }],
    [{ who: ['A1', 'B7'] }, { argument: 'who', patient: B7 }],
    [{ who: 7 }, { argument: 'who' }],
    [{ who: 'Ann Archer' }, { argument: 'who' }],
    [{ 'Ann Archer': 'see Patient/B7' }, { patient: B7 }],
    [{ q: 'https://else.example/r4/Patient/A1' }, { patient: { fhirServer: 'https://else.example/r4', patient: 'A1' } }],
    [{ resource: { resourceType: 'Horoscope' } }, {}],
    [{ deep: JSON.parse('['.repeat(500) + ']'.repeat(500)) as unknown }, {}],
  ])('arguments %j', (args, found) => {
    const named = patientsNamed({ ...asked, check: 'argument', params: { name: 'get', arguments: args } });
    expect(named).toEqual([
      { said: 'token', patient: A1 },
      { said: 'argument', ...found },
    ]);
  });

  test.each(['scope', 'epoch', 'permit', 'audit', 'session'] as const)('nothing where check %s refused', (check) => {
    expect(patientsNamed({ ...asked, check, params: plain('B7'), header: 'B7' })).toEqual([]);
  });

  test('arguments are not looked at before their turn', () => {
    const params = { ...plain('B7'), arguments: { who: 'C9' } };
    expect(patientsNamed({ ...asked, check: 'equality', params }).map(({ said }) => said)).toEqual(['token', 'envelope']);
  });

  test('what is recorded holds pseudonyms and no id', async () => {
    const params = { arguments: { patientId: 'B7' } };
    const compared = await comparedByKey('key', patientsNamed({ ...asked, check: 'argument', params }));
    expect(compared).toEqual([
      { said: 'token', pk: await patientKey('key', A1) },
      { said: 'argument', argument: 'patientId', pk: await patientKey('key', B7) },
    ]);
    expect(JSON.stringify(compared)).not.toMatch(/"A1"|B7|ehr/);
  });
});

describe('what a withheld result was compared by', () => {
  const observation = (reference: string) => ({ resourceType: 'Observation', id: 'o', subject: { reference } });
  test.each([
    [observation('Patient/B7'), B7],
    [observation(`${FHIR}/Patient/B7`), B7],
    [observation('https://else.example/r4/Patient/A1'), { fhirServer: 'https://else.example/r4', patient: 'A1' }],
    [{ resourceType: 'Patient', id: 'B7' }, B7],
    [{ note: 'as with Patient/A1 and Patient/B7' }, B7],
    [observation('urn:uuid:0'), undefined],
    [{ note: 'told Patient/family on InPatient/ward9: see Patient/B7' }, B7],
    [{ note: 'see Patient/B7.' }, undefined], // an id may end with a point: whether this one does cannot be told
    [{ note: 'see Patient/A1. Also Patient/B7' }, undefined],
    [{ note: 'Patient/B%37' }, undefined],
    [{ note: `Patient/${'B'.repeat(65)}7` }, undefined],
    [{ note: `${'-'.repeat(2036)} Patient/B77` }, undefined],
    [{ note: `https://else.example/${'r'.repeat(600)}/Patient/B7` }, undefined],
    [{ resourceType: 'Observation', id: 'o' }, undefined],
  ])('%j', (value, patient) => {
    const verdict = checkCompartment(value, { patient: A1, sourceBase: FHIR });
    if (verdict.inside) throw new Error('planted fault not caught');
    const result = patient === undefined ? { said: 'result' } : { said: 'result', patient };
    expect(resultNamed(A1, verdict)).toEqual([{ said: 'context', patient: A1 }, result]);
  });

  test('nothing, where its fault is no question of whose it is', () => {
    expect(resultNamed(A1, { reason: 'too deep' })).toEqual([]);
  });
});

describe('the one table of meanings', () => {
  const codes = Object.keys(ERRORS).map(Number) as HmcpErrorCode[];
  test.each(codes)('%i: explain and start-up failures say what it says', (code) => {
    for (const check of [undefined, ...checksToldApart(code)] as const) {
      const { says, mend, name } = meaningOf(code, check);
      const text = explain(new HmcpError(code, { by: 'labs', check: check ?? 'size' }));
      for (const part of [name, says, `Mend: ${mend}.`]) {
        expect(text).toContain(part);
        expect(unusable('"x" is empty', code, check).message).toContain(part);
      }
      expect(says + mend).not.toMatch(/\.$|\n/);
    }
  });

  test('a check that makes no difference leaves the meaning of the code', () => {
    expect(meaningOf(50302, 'argument')).toEqual(meaningOf(50302));
  });
});
