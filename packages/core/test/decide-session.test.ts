import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  controllingManager,
  type Decision,
  type DecisionFacts,
  decide,
  META,
  methodClass,
  parseScopes,
  type SealClaims,
  type VerifiedToken,
} from '../src/index.js';

const FHIR = 'https://ehr.example/r4';
const MANAGERS = [{ issuer: 'https://cm.example', clientId: 'cm', tokenIssuers: ['https://as.example'] }];
const SCOPE = 'patient/*.cruds';

const token = (more: Partial<VerifiedToken> = {}): VerifiedToken => ({
  issuer: 'https://as.example',
  subject: 'dr-grey',
  clientId: 'portal',
  audience: 'https://labs.example/mcp',
  scope: SCOPE,
  scopes: parseScopes(more.scope ?? SCOPE),
  jti: 'j',
  issuedAt: 0,
  expiresAt: 300,
  fhirServer: FHIR,
  patient: 'A1',
  actors: [],
  chain: [],
  hop: 1,
  firstClient: 'portal',
  sid: 'ctx_1',
  ...more,
});

const claims = (more: Partial<SealClaims> = {}): SealClaims => ({
  iss: 'https://cm.example',
  aud: 'ward',
  sub_iss: 'https://as.example',
  sub: 'dr-grey',
  azp: 'portal',
  sid: 'ctx_1',
  epoch: 4,
  patient: 'A1',
  fhirServer: FHIR,
  pk: 'A'.repeat(43),
  iat: 0,
  exp: 30,
  jti: 's',
  ...more,
});

const sealed = (more: object = {}) => ({
  _meta: { [META.context]: { version: '1', seal: 'x.y.z', intent: { id: 'i', epoch: 4 }, ...more } },
});

const facts = (more: Partial<DecisionFacts> = {}): DecisionFacts => ({
  method: 'tools/call',
  params: sealed(),
  token: token(),
  operation: { scope: 'patient/Observation.rs' },
  mode: 'token',
  managers: MANAGERS,
  seal: { claims: claims(), highestEpoch: 4 },
  now: 0,
  ...more,
});

describe('the scopes of a token that cannot change', () => {
  const plain = (more: Partial<DecisionFacts>) => coded(decide(facts({ params: {}, seal: undefined, managers: [], ...more })));
  const frozen = (scope: string) => {
    const made = token({ scope, sid: undefined });
    Object.freeze(made.scopes);
    return Object.freeze(made);
  };

  test.each([
    ['of another operation', { scope: 'patient/Condition.rs' }],
    ['wider than the one before', { scope: 'patient/Observation.cruds' }],
    ['that nobody can satisfy', { scope: '' }],
    ['of two members', { scope: 'patient/Observation.rs patient/Condition.rs' }],
  ])('do not grant one %s because they granted one before', (_, operation) => {
    const one = frozen('patient/Observation.rs');
    for (let time = 0; time < 2; time += 1) {
      expect(plain({ token: one, operation: { scope: 'patient/Observation.rs' } })).toBe('serve');
      expect(plain({ token: one, operation })).not.toBe('serve');
    }
  });

  test('are asked of each token by itself', () => {
    const operation = { scope: 'patient/Observation.rs' };
    expect(plain({ token: frozen('patient/Observation.rs'), operation })).toBe('serve');
    expect(plain({ token: frozen('patient/Condition.rs'), operation })).not.toBe('serve');
  });

  test('are asked again of one that can', () => {
    const operation = { scope: 'patient/Observation.rs' };
    const changing = { ...token({ scope: 'patient/Observation.rs', sid: undefined }) };
    expect(plain({ token: changing, operation })).toBe('serve');
    expect(plain({ token: Object.assign(changing, { scopes: [] }), operation })).not.toBe('serve');
  });
});

const coded = (decision: Decision) =>
  decision.verdict !== 'refuse'
    ? decision.verdict
    : decision.refusal.kind === 'context'
      ? `${decision.refusal.code} ${decision.refusal.check}`
      : `${decision.refusal.kind} ${decision.refusal.check}`;

describe('a sealed request', () => {
  test('is served in the context of its seal, as an effect too', () => {
    expect(decide(facts({ operation: { scope: 'patient/MedicationRequest.u' } }))).toMatchObject({
      verdict: 'serve',
      context: { fhirServer: FHIR, patient: 'A1' },
      seal: { sid: 'ctx_1', epoch: 4 },
      contextMethod: 'claim',
      effect: true,
    });
  });

  test('takes its encounter from the seal, and from the token before', () => {
    const seal = { claims: claims({ encounter: 'E1' }), highestEpoch: 4 };
    expect(decide(facts({ seal }))).toMatchObject({ context: { encounter: 'E1' } });
    expect(decide(facts({ token: token({ encounter: 'E9' }) }))).toMatchObject({ context: { encounter: 'E9' } });
  });

  test('asks for its seal to be verified, once', () => {
    expect(decide(facts({ seal: undefined }))).toEqual({ verdict: 'verify', seal: 'x.y.z' });
  });

  test('asks the policy about the patient of the seal when the token pins none', () => {
    const user = token({ patient: undefined, scope: 'user/*.rs' });
    expect(decide(facts({ token: user }))).toMatchObject({ verdict: 'ask', patient: { patient: 'A1' } });
    expect(coded(decide(facts({ token: user, policy: 'deny' })))).toBe('40302 policy');
    expect(coded(decide(facts({ token: user, policy: 'unavailable' })))).toBe('50301 policy');
    expect(decide(facts({ token: user, policy: 'allow' }))).toMatchObject({ verdict: 'serve', contextMethod: 'envelope' });
  });

  test.each<[string, Partial<DecisionFacts>, string]>([
    ['no manager is trusted', { managers: [] }, '42801 seal'],
    ['it expired', { seal: { code: 40101, reason: '' } }, '40101 seal'],
    ['it is bad', { seal: { code: 40903, reason: '' } }, '40903 seal'],
    ['its keys cannot be had', { seal: { code: 50301, reason: '' } }, '50301 seal'],
    ['another session than the token’s', { token: token({ sid: 'ctx_2' }) }, '42801 seal'],
    ['detached work', { params: sealed({ detach: 'dt_1' }) }, 'malformed envelope'],
    ['another person', { token: token({ subject: 'x' }) }, '40903 equality'],
    ['a namesake of another issuer', { token: token({ issuer: 'https://as2.example' }) }, '40903 equality'],
    ['another first client', { token: token({ firstClient: 'x' }) }, '40903 equality'],
    ['another patient', { token: token({ patient: 'a1' }) }, '40903 equality'],
    ['a tenant', { token: token({ tenant: 't1' }) }, '40903 equality'],
    [
      'another encounter',
      { token: token({ encounter: 'E2' }), seal: { claims: claims({ encounter: 'E1' }), highestEpoch: 4 } },
      '40903 equality',
    ],
    ['another FHIR server', { token: token({ fhirServer: 'https://other.example' }) }, '40302 equality'],
    ['an intent of an earlier epoch', { params: sealed({ intent: { id: 'i', epoch: 3 } }) }, '40901 epoch'],
    ['an intent of a later epoch', { params: sealed({ intent: { id: 'i', epoch: 5 } }) }, '40901 epoch'],
    ['a header of another patient', { header: 'B2' }, '40903 header'],
    ['a passed epoch', { seal: { claims: claims(), highestEpoch: 5 } }, '40901 epoch'],
  ])('%s is refused', (_name, more, expected) => {
    expect(coded(decide(facts(more)))).toBe(expected);
  });

  test('fails first where it fails first: nothing later is evaluated', () => {
    const meta = (facts: DecisionFacts, more: object): Partial<DecisionFacts> => {
      const { _meta, ...rest } = facts.params as { _meta: Record<string, object> };
      return { params: { ...rest, _meta: { [META.context]: { ..._meta[META.context], ...more } } } };
    };
    const spoil: readonly [string, (facts: DecisionFacts) => Partial<DecisionFacts>][] = [
      ['malformed envelope', (f) => meta(f, { version: '2' })],
      ['40903 seal', () => ({ seal: { code: 40903, reason: '' } })],
      ['40903 equality', (f) => ({ token: { ...f.token, subject: 'x' } })],
      ['40901 epoch', (f) => meta(f, { intent: { id: 'i', epoch: 3 } })],
      ['40903 header', () => ({ header: 'B2' })],
      ['scope scope', (f) => ({ token: { ...f.token, scopes: parseScopes('openid') } })],
      ['40302 policy', (f) => ({ token: { ...f.token, patient: undefined }, policy: 'deny' })],
      ['40901 epoch', (f) => (f.seal && 'claims' in f.seal ? { seal: { ...f.seal, highestEpoch: 9 } } : {})],
      ['40903 argument', (f) => ({ params: { ...(f.params as object), arguments: { patientId: 'B2' } } })],
    ];
    const base = facts({ token: token({ scope: 'patient/*.rs user/*.rs' }) });
    fc.assert(
      fc.property(fc.subarray([...spoil.keys()], { minLength: 1 }), (chosen) => {
        let spoilt = base;
        for (const index of chosen) spoilt = { ...spoilt, ...spoil[index]?.[1](spoilt) };
        expect(coded(decide(spoilt))).toBe(spoil[chosen[0] ?? 0]?.[0]);
      }),
    );
  });
});

describe('a token of a session', () => {
  test.each(['token', 'envelope', 'session'] as const)('needs the seal of its session in mode %s', (mode) => {
    const plain = { _meta: { [META.context]: { version: '1', patient: 'A1', intent: { id: 'i' } } } };
    expect(coded(decide(facts({ mode, params: plain })))).toBe('42801 seal');
    expect(coded(decide(facts({ mode, params: {} })))).toBe(mode === 'token' ? '42801 seal' : '42801 envelope');
    expect(coded(decide(facts({ mode })))).toBe('serve');
  });

  test('needs none for what is about nobody', () => {
    const operation = { scope: 'patient/Observation.rs', patientScope: 'none' } as const;
    expect(coded(decide(facts({ params: {}, operation })))).toBe('serve');
  });
});

describe('an effect without a seal', () => {
  const plain = { params: {}, token: token({ sid: undefined }), seal: undefined };
  test.each([{ scope: 'patient/Observation.c' }, { scope: 'patient/Observation.rs', effect: true }])('%j', (operation) => {
    expect(coded(decide(facts({ ...plain, operation })))).toBe('42802 seal');
    expect(decide(facts({ ...plain, operation, managers: [] }))).toMatchObject({
      verdict: 'serve',
      effect: true,
      seal: undefined,
    });
  });

  test('a read needs none', () => {
    expect(coded(decide(facts(plain)))).toBe('serve');
  });
});

describe('methods of a switch', () => {
  const control = token({
    clientId: 'cm',
    firstClient: 'cm',
    subject: 'cm',
    scope: 'hmcp:context.control',
    patient: undefined,
    sid: undefined,
  });
  const methods = ['dev.hmcp/context.prepare', 'dev.hmcp/context.drain', 'dev.hmcp/context.decided'];

  test.each(methods)('%s: a class of its own, for the token of a manager', (method) => {
    expect(methodClass(method)).toBe('switch');
    expect(decide(facts({ method, token: control }))).toEqual({ verdict: 'serve', context: undefined, effect: false });
    expect(coded(decide(facts({ method })))).toBe('40301 session');
    expect(coded(decide(facts({ method, token: control, managers: [] })))).toBe('40301 session');
  });

  test.each([
    'tools/list',
    'tools/call',
    'resources/list',
    'dev.hmcp/context.join',
    'x/y',
  ])('that token does not reach %s', (method) => {
    expect(coded(decide(facts({ method, token: control, params: {} })))).toBe('40301 session');
  });

  test.each(['initialize', 'server/discover', 'ping'])('but %s', (method) => {
    expect(coded(decide(facts({ method, token: control })))).toBe('serve');
  });

  test.each([
    'dev.hmcp/context.Prepare',
    'dev.hmcp/context.prepare ',
    'dev.hmcp/context.permit',
    'toString',
  ])('%s is none', (method) => {
    expect(methodClass(method)).toBe('context');
  });

  test.each<[string, Partial<VerifiedToken>]>([
    ['another client', { clientId: 'portal' }],
    ['another issuer', { issuer: 'https://as2.example' }],
    ['no control scope', { scopes: parseScopes('hmcp:context.participate hmcp:context.switch') }],
    ['a scope that only looks like it', { scopes: parseScopes('hmcp:context.control.x') }],
    ['a patient', { patient: 'A1' }],
    ['an actor', { actors: ['x'] }],
  ])('a token with %s is no manager’s', (_name, more) => {
    expect(controllingManager(control, MANAGERS)).toBe(MANAGERS[0]);
    expect(controllingManager({ ...control, ...more }, MANAGERS)).toBeUndefined();
  });
});
