import { describe, expect, test } from 'vitest';
import { NOW, type } from './terminal.js';

const at = NOW / 1000;
const HEADER = { alg: 'ES256', typ: 'at+jwt', kid: 'k1' };
const CLAIMS = {
  iss: 'http://127.0.0.1:7000/auth',
  sub: 'dr-silva',
  aud: 'http://127.0.0.1:7000/labs',
  exp: at + 100,
  iat: at - 20,
  jti: 'jti-1',
  client_id: 'triage',
  scope: 'patient/Observation.rs patient/hmcp:read launch/patient nonsense.of.some',
  patient: 'CANARY-1',
  encounter: 'CANARY-E9',
  fhirUser: 'http://127.0.0.1:7000/fhir/Practitioner/p1',
  txn: 'txn-77',
  act: { sub: 'triage' },
  __hmcp: {
    v: 1,
    chain: [
      {
        jti: 'jti-0',
        client_id: 'portal',
        aud: 'http://127.0.0.1:7000/triage',
        scope: 'patient/*.rs patient/hmcp:read launch/patient nonsense.of.some',
      },
    ],
  },
};

function part(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function jwt(claims: object = {}, header: object = {}): string {
  return `${part({ ...HEADER, ...header })}.${part({ ...CLAIMS, ...claims })}.c2lnbmF0dXJl`;
}

describe('hmcp token inspect', () => {
  test('tells header, times, scopes one by one, chain and hop, and that nothing was verified', async () => {
    const { code, stdout, stderr } = await type(['token', 'inspect', jwt()]);
    expect([code, stderr]).toEqual([0, '']);
    for (const line of [
      'signature was NOT verified',
      'header    alg ES256, typ at+jwt, kid k1',
      'audience  http://127.0.0.1:7000/labs',
      'subject   dr-silva',
      'issued    2026-02-03T04:04:46.000Z (20 s ago)',
      'expires   2026-02-03T04:06:46.000Z (in 100 s)',
      'chain     portal → triage → this hop, number 2',
      '  patient/Observation.rs  (rs on Observation of the patient of the token)',
      '  launch/patient  (for the authorization server; grants nothing at a hop)',
      '  nonsense.of.some  (not understood; grants nothing)',
    ]) {
      expect(stdout).toContain(line);
    }
  });

  test.each([
    ['an argument', (token: string) => type(['token', 'inspect', token])],
    ['standard input by "-"', (token: string) => type(['token', 'inspect', '-'], { stdin: `${token}\n` })],
    ['standard input', (token: string) => type(['token', 'inspect'], { stdin: `Bearer ${token}\n` })],
  ])('reads the token from %s and repeats no part of it', async (_where, run) => {
    const token = jwt();
    const { code, stdout, stderr } = await run(token);
    expect(code).toBe(0);
    for (const piece of token.split('.')) expect(stdout + stderr).not.toContain(piece);
  });

  test('hides patient and encounter wherever they stand, unless asked', async () => {
    const spread = {
      sub: 'user-of-CANARY-1',
      fhirUser: 'http://127.0.0.1:7000/fhir/Practitioner/CANARY-1',
      scope: 'patient/Observation.rs?subject=CANARY-1',
      'claim-CANARY-E9': 'CANARY-1',
      name: 'CANARY-1',
      __hmcp: undefined,
      act: undefined,
    };
    const { stdout } = await type(['token', 'inspect', jwt(spread)]);
    expect(stdout).not.toContain('CANARY');
    expect(stdout).toContain('patient   (hidden; --show-patient shows it)');
    const shown = await type(['token', 'inspect', '--show-patient', jwt(spread)]);
    expect(shown.stdout).toContain('patient   CANARY-1\nencounter CANARY-E9');
  });

  test.each(['Patient', 'RelatedPerson'])('hides subject and fhirUser of a %s, for they name a patient too', async (kind) => {
    const { stdout } = await type([
      'token',
      'inspect',
      jwt({ sub: 'CANARY-sub', fhirUser: `http://127.0.0.1:7000/fhir/${kind}/CANARY-2` }),
    ]);
    expect(stdout).not.toContain('CANARY');
  });

  test('names claims it does not know, without their values', async () => {
    const { stdout } = await type(['token', 'inspect', jwt({ name: 'CANARY', email: 'CANARY', birthdate: 'CANARY' })]);
    expect(stdout).toContain('also      name, email, birthdate (values not shown)');
    expect(stdout).not.toContain('CANARY');
  });

  test.each<[string, object, object, string]>([
    ['expired', { exp: at - 61 }, {}, 'it has expired'],
    ['of the future', { iat: at + 100 }, {}, 'its time has not come'],
    ['with a patient/ scope and no patient', { patient: undefined }, {}, 'a patient/ scope without a "patient"'],
    ['for two servers', { aud: ['a', 'b'] }, {}, '"aud" names more or less than one server'],
    ['bound to a key', { cnf: { jkt: 'x' } }, {}, '"cnf"'],
    ['with an act that is not in the chain', { act: undefined }, {}, 'chain without act'],
    ['without a client', { client_id: undefined }, {}, '"client_id" is missing or ill-typed'],
    ['with a URL as patient', { patient: 'http://x/Patient/1' }, {}, '"patient" is missing or ill-typed'],
    ['that is an ID token', {}, { typ: 'JWT' }, 'it is no access token'],
    ['without a signature algorithm', {}, { alg: 'none' }, '"alg" is no public-key signature'],
    ['without a key id', {}, { kid: undefined }, '"kid" is missing'],
  ])('of a token %s says that no hop accepts it', async (_what, claims, header, fault) => {
    const { code, stdout } = await type(['token', 'inspect', jwt(claims, header)]);
    expect(code).toBe(1);
    expect(stdout.slice(stdout.indexOf('No hop accepts it:'))).toContain(fault);
  });

  test.each([
    ['nothing', ''],
    ['an opaque token', 'CANARY-opaque-token'],
    ['an encrypted token', 'CANARY.CANARY.CANARY.CANARY.CANARY'],
    ['three words', 'CANARY.CANARY.CANARY'],
    ['claims that are no object', `${part(HEADER)}.${part('CANARY')}.x`],
    ['claims that are no JSON', `${part(HEADER)}.Q0FOQVJZ.x`],
    ['a long text', `${'CANARY'.repeat(20_000)}.a.b`],
  ])('says of %s that it is no JWT, without repeating it', async (_what, text) => {
    const { code, stdout, stderr } = await type(['token', 'inspect', '-'], { stdin: text });
    expect([code, stdout]).toEqual([3, '']);
    expect(stderr).toMatch(/^hmcp token inspect: [^\n]+\n$/);
    expect(stderr).not.toContain('CANARY');
  });

  test('what stands in claims cannot write to the terminal', async () => {
    const { stdout } = await type(['token', 'inspect', jwt({ client_id: 'a\u001b[2Jb\u202ec', iss: 'x\ny' })]);
    expect(stdout).toContain('client    a[2Jbc');
    for (const character of ['\u001b', '\u202e']) expect(stdout).not.toContain(character);
  });
});
