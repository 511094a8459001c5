import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AccessTokenClaims, FhirId, keyedHash, PatientContext, patientKey, SealClaims, samePatient } from '../src/index.js';
import { webKeyedHash } from '../src/patient-context.js';

const token = {
  iss: 'https://as.example',
  sub: 'u-17',
  aud: 'https://labs.example/mcp',
  exp: 1795329000,
  iat: 1795328700,
  jti: 'j1',
  client_id: 'portal',
  scope: 'patient/Observation.rs',
  patient: 'A1',
};

describe('AccessTokenClaims', () => {
  it.each([
    ['the usual', {}],
    ['without patient and scope', { patient: undefined, scope: undefined }],
    ['members of others', { roles: ['x'], cnf: { jkt: 'x' } }],
    ['a chain', { act: { sub: 'triage', iss: 'https://as.example' }, __hmcp: { v: 1, chain: [] } }],
  ])('takes %s', (_what, more) => expect(AccessTokenClaims.safeParse({ ...token, ...more }).success).toBe(true));

  it.each([
    ['a list of scopes', { scope: ['patient/Observation.rs'] }],
    ['a patient reference', { patient: 'Patient/A1' }],
    ['a list of patients', { patient: ['A1'] }],
    ['an empty patient', { patient: '' }],
    ['a padded patient', { patient: 'A1 ' }],
    ['a patient of null', { patient: null }],
    ['an encounter reference', { encounter: 'Encounter/E9' }],
    ['an empty tenant', { tenant: '' }],
    ['a tenant number', { tenant: 1 }],
    ['a list of users', { fhirUser: ['x'] }],
    ['an audience number', { aud: 1 }],
    ['no expiry', { exp: undefined }],
    ['an expiry as text', { exp: '1795329000' }],
    ['an endless expiry', { exp: Number.POSITIVE_INFINITY }],
    ['no time of issue', { iat: undefined }],
    ['no client', { client_id: undefined }],
    ['an empty subject', { sub: '' }],
    ['an empty jti', { jti: '' }],
    ['an actor that is text', { act: 'triage' }],
    ['an actor without sub', { act: { client_id: 'triage' } }],
    ['an inner actor without sub', { act: { sub: 'labs', act: {} } }],
    ['a chain of another version', { __hmcp: { v: 2, chain: [] } }],
    ['a chain that says more', { __hmcp: { v: 1, chain: [], epoch: 7 } }],
    ['no chain in the claim', { __hmcp: { v: 1 } }],
    ['a record that says more', { __hmcp: { v: 1, chain: [{ jti: 'j', client_id: 'a', aud: 'b', scope: '', patient: 'B7' }] } }],
  ])('refuses %s', (_what, more) => expect(AccessTokenClaims.safeParse({ ...token, ...more }).success).toBe(false));
});

describe('SealClaims', () => {
  const seal = {
    iss: 'https://context.example',
    aud: 'hospital',
    sub_iss: 'https://as.example',
    sub: 'u-17',
    azp: 'portal',
    sid: 's-1',
    epoch: 41,
    patient: 'A1',
    fhirServer: 'https://ehr.example/r4',
    pk: 'x'.repeat(43),
    iat: 1795328700,
    exp: 1795328730,
    jti: 'j',
  };
  it.each([
    ['the usual', {}],
    ['aliases', { aliases: [{ fhirServer: 'https://lab.example/r4', id: 'L-9' }] }],
    ['a shorter life', { exp: 1795328701 }],
  ])('takes %s', (_what, more) => expect(SealClaims.safeParse({ ...seal, ...more }).success).toBe(true));

  it.each([
    ['31 seconds of life', { exp: 1795328731 }],
    ['no life', { exp: 1795328700 }],
    ['an end before its beginning', { exp: 1795328699 }],
    ['half a second', { exp: 1795328700.5 }],
    ['nine aliases', { aliases: Array.from({ length: 9 }, () => ({ fhirServer: 'https://lab.example/r4', id: 'L' })) }],
    ['an alias reference', { aliases: [{ fhirServer: 'https://lab.example/r4', id: 'Patient/L' }] }],
    ['a FHIR server that is no URL', { fhirServer: 'ehr' }],
    ['a patient reference', { patient: 'Patient/A1' }],
    ['a negative epoch', { epoch: -1 }],
    ['a short key', { pk: 'x' }],
    ['an unknown member', { name: 'Ann' }],
    ['no session', { sid: undefined }],
    ['an empty session', { sid: '' }],
  ])('refuses %s', (_what, more) => expect(SealClaims.safeParse({ ...seal, ...more }).success).toBe(false));
});

describe('patient identity', () => {
  const ann = { fhirServer: 'https://ehr.example/r4', tenant: 't1', patient: 'A1' };
  const others = [
    { ...ann, patient: 'a1' },
    { ...ann, patient: 'A10' },
    { ...ann, tenant: 't2' },
    { fhirServer: ann.fhirServer, patient: ann.patient },
    { ...ann, fhirServer: 'https://ehr.example/r4/' },
    { ...ann, fhirServer: 'https://EHR.example/r4' },
  ];

  it('is server, tenant and id, each exactly', async () => {
    expect(samePatient(ann, { ...ann })).toBe(true);
    expect(samePatient({ ...ann, tenant: undefined }, { fhirServer: ann.fhirServer, patient: 'A1' })).toBe(true);
    for (const other of others) expect(samePatient(ann, other)).toBe(false);
    const keys = await Promise.all([ann, ...others].map((who) => patientKey('k', who)));
    expect(new Set(keys).size).toBe(keys.length);
  });

  it.each(['A1', 'a-b.C', 'x'.repeat(64)])('takes the id %s', (id) => expect(FhirId.safeParse(id).success).toBe(true));
  it.each(['', ' ', 'A1\n', 'A_1', 'A/1', 'Patient/A1', '\u00c4', 'x'.repeat(65), 7, null, ['A1']])('refuses the id %j', (id) =>
    expect(FhirId.safeParse(id).success).toBe(false));

  it('has a key both sides can compute, and nobody without the intent', async () => {
    // HMAC-SHA256("i-1", '["https://ehr.example/r4",null,"A1"]'), computed with openssl
    const key = await patientKey('i-1', { fhirServer: 'https://ehr.example/r4', patient: 'A1' });
    expect(key).toBe('Z2L7MZjeQStQLKGwdUIDzksQoOAQysuNA4Jd8fFZATo');
    expect(await patientKey(new TextEncoder().encode('i-1'), { fhirServer: 'https://ehr.example/r4', patient: 'A1' })).toBe(key);
    expect(await patientKey('i-2', { fhirServer: 'https://ehr.example/r4', patient: 'A1' })).not.toBe(key);
    expect(await keyedHash('k', 'u-17')).toMatch(/^[A-Za-z0-9_-]{43}$/);
    await expect(keyedHash('', 'u-17')).rejects.toThrow();
    await expect(keyedHash(new Uint8Array(), 'u-17')).rejects.toThrow();
  });

  it('is the same where there is Web Crypto only', async () => {
    const key = fc.oneof(fc.string({ minLength: 1, unit: 'binary' }), fc.uint8Array({ minLength: 1, maxLength: 200 }));
    await fc.assert(
      fc.asyncProperty(key, fc.string({ unit: 'binary' }), async (secret, text) => {
        expect(await keyedHash(secret, text)).toBe(await webKeyedHash(secret, text));
      }),
      { numRuns: 50 },
    );
  });

  it.each([
    ['an unknown member', { ...ann, name: 'Ann' }],
    ['no server', { patient: 'A1' }],
    ['a server that is no URL', { ...ann, fhirServer: 'ehr' }],
    ['an encounter reference', { ...ann, encounter: 'Encounter/1' }],
  ])('refuses a context with %s', (_what, context) => expect(PatientContext.safeParse(context).success).toBe(false));
});
