import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type DecisionFacts,
  decide,
  META,
  methodClass,
  namesAnotherPatient,
  type Operation,
  parsePatientHeader,
  parseScopes,
  type VerifiedToken,
} from '../src/index.js';

const FHIR = 'https://ehr.example/r4';
const A = 'A1';
const B = 'B7';
const NOW = 1_800_000_000_000;
const CONTEXT = { fhirServer: FHIR, patient: A };
const READ: Operation = { scope: 'patient/Observation.rs' };
const WRITE: Operation = { scope: 'patient/Observation.c' };

function token(more: Partial<VerifiedToken> & { scope?: string } = {}): VerifiedToken {
  const scope = more.scope ?? 'patient/*.crs';
  return {
    issuer: 'https://as.example',
    subject: 'dr-grey',
    clientId: 'portal',
    audience: 'https://labs.example/mcp',
    scope,
    scopes: parseScopes(scope),
    jti: 'j1',
    issuedAt: NOW / 1000,
    expiresAt: NOW / 1000 + 60,
    fhirServer: FHIR,
    patient: A,
    actors: [],
    chain: [],
    hop: 1,
    firstClient: 'portal',
    ...more,
  };
}
const userToken = (more: Partial<VerifiedToken> = {}) => token({ scope: 'user/*.crs', patient: undefined, ...more });

const plain = (patient: string, more: object = {}) => ({
  [META.context]: { version: '1', patient, intent: { id: 'i1' }, ...more },
});
const sealed = { [META.context]: { version: '1', seal: 'e30.e30.e30', intent: { id: 'i1', epoch: 3 } } };

function facts(more: Partial<DecisionFacts> = {}): DecisionFacts {
  return {
    method: 'tools/call',
    params: { name: 't', arguments: {} },
    token: token(),
    operation: READ,
    mode: 'token',
    now: NOW,
    ...more,
  };
}
const withMeta = (meta: unknown, args: object = {}) => ({ name: 't', arguments: args, _meta: meta });
const refusalOf = (asked: DecisionFacts) => {
  const decision = decide(asked);
  return decision.verdict === 'refuse' ? decision.refusal : undefined;
};

describe('methods without a patient', () => {
  test.each([
    'initialize',
    'server/discover',
    'ping',
    'tools/list',
    'prompts/list',
    'resources/templates/list',
    'logging/setLevel',
  ])('%s is served without one', (method) =>
    expect(decide(facts({ method, operation: undefined }))).toEqual({ verdict: 'serve', context: undefined, effect: false }));

  test('an operation about nobody needs its scope and no patient', () => {
    const operation: Operation = { scope: 'hmcp:read', patientScope: 'none' };
    const asked = facts({ operation, token: userToken({ scopes: parseScopes('hmcp:read') }), mode: 'session' });
    expect(decide(asked)).toEqual({ verdict: 'serve', context: undefined, effect: false });
    expect(refusalOf(facts({ operation }))).toMatchObject({ kind: 'scope', scope: 'hmcp:read' });
  });

  test('an operation about nobody that writes is an effect all the same', () => {
    const operation: Operation = { scope: 'hmcp:write', patientScope: 'none' };
    expect(decide(facts({ operation, token: userToken({ scopes: parseScopes('hmcp:write') }) }))).toMatchObject({ effect: true });
  });
});

describe('envelope', () => {
  test('a well-formed one is served with the context it names', () => {
    expect(decide(facts({ params: withMeta(plain(A)) }))).toMatchObject({
      verdict: 'serve',
      context: CONTEXT,
      contextMethod: 'claim',
      envelope: { patient: A },
    });
  });

  test('none is needed in mode "token"', () => {
    expect(decide(facts())).toMatchObject({ verdict: 'serve', context: CONTEXT, envelope: undefined });
  });

  test.each(['envelope', 'session'] as const)('none is 42801 in mode "%s"', (mode) => {
    expect(refusalOf(facts({ mode }))).toMatchObject({ code: 42801, check: 'envelope' });
  });

  test.each([
    ['no object', 'A1'],
    ['null', null],
    ['a list', [A]],
    ['another version', { version: '2', patient: A, intent: { id: 'i1' } }],
    ['an unknown member', { version: '1', patient: A, intent: { id: 'i1' }, fhirServer: 'https://evil.example' }],
    ['a reference for an id', { version: '1', patient: 'Patient/A1', intent: { id: 'i1' } }],
    ['two patients', { version: '1', patient: [A, B], intent: { id: 'i1' } }],
    ['both forms', { version: '1', patient: A, seal: 'e30.e30.e30', intent: { id: 'i1', epoch: 1 } }],
    ['no intent', { version: '1', patient: A }],
    ['an intent of markup', { version: '1', patient: A, intent: { id: '<b>' } }],
    ['over 8 KiB', { version: '1', patient: A, intent: { id: 'i1' }, tenant: 'x'.repeat(9000) }],
  ])('%s is -32602', (_what, raw) => {
    expect(refusalOf(facts({ params: withMeta({ [META.context]: raw }) }))).toMatchObject({
      kind: 'malformed',
      check: 'envelope',
    });
  });

  test.each([
    ['a list', [{ patient: B }]],
    ['text', B],
    ['a number', 7],
  ])('params that are %s are -32602', (_what, params) => {
    expect(refusalOf(facts({ params }))).toMatchObject({ kind: 'malformed', check: 'argument' });
  });
});

describe('seal', () => {
  test.each([
    'token',
    'envelope',
    'session',
  ] as const)('a sealed envelope proves nothing without a manager: 42801 in mode "%s"', (mode) => {
    expect(refusalOf(facts({ mode, params: withMeta(sealed) }))).toMatchObject({ code: 42801, check: 'seal' });
  });

  test.each(['token', 'envelope', 'session'] as const)('a token of a session without its seal is 42801 in mode "%s"', (mode) => {
    expect(refusalOf(facts({ mode, token: token({ sid: 's1' }), params: withMeta(plain(A)) }))).toMatchObject({
      code: 42801,
      check: 'seal',
    });
  });

  test('a plain envelope is not enough in mode "session"', () => {
    expect(refusalOf(facts({ mode: 'session', params: withMeta(plain(A)) }))).toMatchObject({ code: 42801, check: 'seal' });
  });
});

describe('equality', () => {
  test.each([
    ['patient', token(), plain(B)],
    ['patient in another case', token(), plain('a1')],
    ['tenant', token({ tenant: 't1' }), plain(A, { tenant: 't2' })],
    ['tenant, the token naming none', token(), plain(A, { tenant: 't1' })],
    ['encounter', token({ encounter: 'E1' }), plain(A, { encounter: 'E2' })],
  ])('%s of envelope and token differ: 40903', (_what, given, meta) => {
    expect(refusalOf(facts({ token: given, params: withMeta(meta) }))).toMatchObject({ code: 40903, check: 'equality' });
  });

  test('tenant and encounter of the token hold when the envelope leaves them out', () => {
    const given = token({ tenant: 't1', encounter: 'E1' });
    expect(decide(facts({ token: given, params: withMeta(plain(A)) }))).toMatchObject({
      context: { ...CONTEXT, tenant: 't1', encounter: 'E1' },
    });
  });

  test.each([
    ['the claim', facts({ header: B })],
    ['the envelope', facts({ header: B, token: userToken(), params: withMeta(plain(A)), policy: 'allow' })],
  ])('a header that differs from %s is 40903', (_what, asked) => {
    expect(refusalOf(asked)).toMatchObject({ code: 40903, check: 'header' });
  });

  test('a header that agrees changes nothing', () => {
    expect(decide(facts({ header: A }))).toEqual(decide(facts()));
  });

  test('nobody named a patient: 42801', () => {
    expect(refusalOf(facts({ token: userToken(), policy: 'allow' }))).toMatchObject({ code: 42801, check: 'envelope' });
  });
});

describe('the header as a source', () => {
  const transition = { clients: ['portal'], until: NOW + 1000 };
  const asked = (more: Partial<DecisionFacts> = {}) =>
    facts({ token: userToken(), header: A, policy: 'allow', transition, ...more });

  test('is off by default', () => {
    expect(refusalOf(asked({ transition: undefined }))).toMatchObject({ code: 42801, check: 'header' });
  });

  test('serves a listed client that reads, until its date, and says so', () => {
    expect(decide(asked())).toMatchObject({ verdict: 'serve', context: CONTEXT, contextMethod: 'header' });
    expect(decide(asked({ now: NOW + 1000 }))).toMatchObject({ verdict: 'serve' });
  });

  test.each([
    ['another client', asked({ transition: { ...transition, clients: ['other'] } })],
    ['no listed client', asked({ transition: { ...transition, clients: [] } })],
    ['the day after', asked({ now: NOW + 1001 })],
    ['a date that is none', asked({ transition: { ...transition, until: Number.NaN } })],
    ['an effect', asked({ operation: WRITE })],
    ['an effect by declaration', asked({ operation: { ...READ, effect: true } })],
  ])('%s: 42801', (_what, given) => {
    expect(refusalOf(given)).toMatchObject({ code: 42801, check: 'header' });
  });

  test('an effect is served when that is allowed', () => {
    const given = asked({ operation: WRITE, transition: { ...transition, allowWrite: true } });
    expect(decide(given)).toMatchObject({ verdict: 'serve', effect: true });
  });

  test('still asks the policy', () => {
    expect(decide(asked({ policy: undefined }))).toMatchObject({ verdict: 'ask', patient: CONTEXT });
  });

  test.each([
    [null, { header: undefined }],
    [A, { header: A }],
    ['a.b-C', { header: 'a.b-C' }],
    ['x'.repeat(64), { header: 'x'.repeat(64) }],
  ])('%j is read', (value, read) => expect(parsePatientHeader(value)).toEqual(read));

  test.each(['', ' ', 'A1, B7', 'A1 B7', 'x'.repeat(65), 'Patient/A1', 'A1;', 'Ä1', '../A1'])('%j is malformed', (value) => {
    expect(parsePatientHeader(value)).toEqual({ malformed: true });
  });
});

describe('scope', () => {
  test('an undeclared operation is 40303', () => {
    expect(refusalOf(facts({ operation: undefined }))).toMatchObject({ code: 40303, check: 'operation' });
  });

  test('the challenge names every scope at once', () => {
    const scope = 'patient/Observation.rs patient/Condition.rs';
    const given = token({ scope: 'patient/Observation.rs' });
    expect(refusalOf(facts({ operation: { scope }, token: given }))).toMatchObject({ kind: 'scope', scope, check: 'scope' });
  });

  test.each([
    ['another type', 'patient/Condition.rs'],
    ['fewer interactions', 'patient/Observation.r'],
    ['launch and identity', 'launch/patient openid fhirUser'],
    ['system, with a person', 'system/*.rs'],
    ['nothing', ''],
    ['an unknown member', 'patient/Observation.rsx'],
  ])('a token with %s is refused', (_what, scope) => {
    expect(refusalOf(facts({ token: token({ scope }) }))).toMatchObject({ kind: 'scope' });
  });

  test.each(['patient/Condition.r', 'patient/*.s', 'patient/hmcp:read'])('resources/list takes any read scope: %s', (scope) => {
    expect(decide(facts({ method: 'resources/list', operation: undefined, token: token({ scope }) }))).toMatchObject({
      verdict: 'serve',
    });
  });

  test.each([
    'patient/Condition.cud',
    'openid',
    'system/*.rs',
    'patient/hmcp:write',
    '',
  ])('resources/list is refused to %j', (scope) => {
    expect(refusalOf(facts({ method: 'resources/list', operation: undefined, token: token({ scope }) }))).toMatchObject({
      kind: 'scope',
    });
  });
});

describe('access policy', () => {
  const asked = (more: Partial<DecisionFacts> = {}) => facts({ token: userToken(), params: withMeta(plain(B)), ...more });

  test('is asked about the patient the application names', () => {
    expect(decide(asked())).toEqual({ verdict: 'ask', patient: { ...CONTEXT, patient: B }, effect: false });
    expect(decide(asked({ operation: WRITE }))).toMatchObject({ verdict: 'ask', effect: true });
  });

  test('is not asked when the token pins the patient', () => {
    expect(decide(facts({ policy: 'deny' }))).toMatchObject({ verdict: 'serve', context: CONTEXT });
  });

  test('allow serves; deny is 40302; no answer is 50301', () => {
    expect(decide(asked({ policy: 'allow' }))).toMatchObject({ verdict: 'serve', contextMethod: 'envelope' });
    expect(refusalOf(asked({ policy: 'deny' }))).toMatchObject({ code: 40302, check: 'policy' });
    expect(refusalOf(asked({ policy: 'unavailable' }))).toMatchObject({ code: 50301, check: 'policy' });
  });
});

describe('arguments', () => {
  const named: Operation = { ...READ, patientArgument: 'who' };
  const call = (args: object, operation: Operation = READ) => facts({ operation, params: { name: 't', arguments: args } });

  test.each([
    [{}],
    [{ who: A }],
    [{ who: 'Patient/A1' }],
    [{ who: `${FHIR}/Patient/A1` }],
    [{ patientId: A, subject: { reference: 'Patient/A1' } }],
    [{ patient: '' }],
    [{ note: 'Patient/family meeting at 7' }],
    [{ code: 'B7', count: 7, deep: [{ status: ['final'] }] }],
  ])('%j is served', (args) => {
    expect(decide(call(args, { ...READ, patientArgument: 'who' }))).toMatchObject({ verdict: 'serve', context: CONTEXT });
  });

  test.each([
    [{ who: B }],
    [{ who: 'a1' }],
    [{ who: 'A1 ' }],
    [{ who: `https://other.example/r4/Patient/A1` }],
    [{ who: null }],
    [{ who: 7 }],
    [{ who: [A, B] }],
    [{ who: { reference: 'Patient/B7' } }],
    [{ who: { id: 7 } }],
    [{ who: '' }],
    [{ patient: B }],
    [{ patientId: B }],
    [{ patient_id: 4711 }],
    [{ PatientID: B }],
    [{ patientIds: [A, B] }],
    [{ patients: [{ id: B }] }],
    [{ forPatient: B }],
    [{ beneficiary: B }],
    [{ filter: { deep: [{ subject: B }] } }],
    [{ q: 'Patient/B7' }],
    [{ q: 'Patient%2FB7' }],
    [{ q: 'Observation?patient=B7' }],
    [{ q: 'Observation?subject%3APatient=B7' }],
    [{ q: 'https://other.example/r4/Patient/A1' }],
    [{ q: '{"reference":"Patient/B7"}' }],
    [{ 'Patient/B7': true }],
    [{ resource: { resourceType: 'Observation', subject: { reference: 'Patient/B7' } } }],
    [{ resource: { resourceType: 'Horoscope' } }],
  ])('%j names another patient, or may: 40903', (args) => {
    expect(refusalOf(call(args, named))).toMatchObject({ code: 40903, check: 'argument' });
  });

  test.each([
    'patient://B7',
    'chart://x/Patient/B7',
    'chart://x?patient=B7',
  ])('a URI that names another patient is 40903: %s', (uri) => {
    expect(refusalOf(facts({ method: 'resources/read', params: { uri } }))).toMatchObject({ code: 40903, check: 'argument' });
  });

  test('a completion of another patient’s id is 40903', () => {
    const params = { ref: { type: 'ref/prompt', name: 'p' }, argument: { name: 'patientId', value: 'B' } };
    expect(refusalOf(facts({ method: 'completion/complete', params }))).toMatchObject({ code: 40903, check: 'argument' });
  });

  test.each([
    ['Patient/B7', READ],
    [{ patientId: B }, READ],
    [B, named],
  ])('a custom method’s argument "name" is an argument: %j is 40903', (said, operation) => {
    const asked = {
      method: 'org.example/ask',
      operation: { ...operation, patientArgument: operation === named ? 'name' : null },
    };
    expect(refusalOf(facts({ ...asked, params: { name: said } }))).toMatchObject({ code: 40903, check: 'argument' });
    expect(decide(facts({ ...asked, params: { name: A } }))).toMatchObject({ verdict: 'serve' });
  });

  test('the name of a tool is no argument', () => {
    expect(namesAnotherPatient({ name: 'Patient/B7', arguments: {} }, CONTEXT, READ)).toBe(false);
  });

  test.each([[[{ patient: B }]], ['Patient/B7'], [7], [null]])('params %j cannot be looked into', (params) => {
    expect(namesAnotherPatient(params, CONTEXT, READ)).toBe(true);
  });
});

describe('order', () => {
  /** Faults in the order of the protocol, each with what it is answered by; all can stand in one request. */
  const faults = [
    {
      check: 'envelope',
      put: (f: DecisionFacts) => ({ ...f, params: { ...(f.params as object), _meta: { [META.context]: 7 } } }),
    },
    { check: 'seal', put: (f: DecisionFacts) => ({ ...f, token: { ...f.token, sid: 's1' } }) },
    { check: 'equality', put: (f: DecisionFacts) => ({ ...f, token: { ...f.token, tenant: 't9' } }) },
    { check: 'header', put: (f: DecisionFacts) => ({ ...f, header: B }) },
    { check: 'scope', put: (f: DecisionFacts) => ({ ...f, operation: { scope: 'patient/Immunization.u' } }) },
    { check: 'policy', put: (f: DecisionFacts) => ({ ...f, policy: 'deny' as const }) },
    {
      check: 'argument',
      put: (f: DecisionFacts) => ({ ...f, params: { ...(f.params as object), arguments: { patient: 'C3' } } }),
    },
  ] as const;
  const sound: DecisionFacts = facts({
    token: userToken(),
    params: { name: 't', arguments: {}, _meta: plain(A, { tenant: 't1' }) },
    policy: 'allow',
  });
  const base: DecisionFacts = { ...sound, token: { ...sound.token, tenant: 't1' } };

  test('the request without faults is served', () => {
    expect(decide(base)).toMatchObject({ verdict: 'serve' });
  });

  test('of any faults together the earliest answers, and nothing later is said', () => {
    fc.assert(
      fc.property(fc.subarray([...faults.keys()], { minLength: 1 }), (chosen) => {
        const asked = chosen.reduce<DecisionFacts>((f, i) => faults[i]?.put(f) ?? f, base);
        expect(refusalOf(asked)?.check).toBe(faults[Math.min(...chosen)]?.check);
      }),
    );
  });

  test('nothing later is evaluated when something earlier fails', () => {
    const touched: string[] = [];
    const trap = new Proxy({} as Operation, {
      get: (_, key) => {
        touched.push(String(key));
        return key === 'patientScope' ? undefined : 'patient/Observation.rs';
      },
    });
    decide({ ...base, operation: trap, header: B });
    expect(touched).toEqual(['patientScope']);
  });
});

describe('whatever is asked', () => {
  const id = fc.constantFrom(A, B, 'C3');
  const json = fc.jsonValue({ maxDepth: 3 });
  const meta = fc.oneof(
    fc.constant(undefined),
    id.map((patient) => plain(patient)),
    fc.constant(sealed),
    json,
  );
  const args = fc.oneof(
    json,
    fc.dictionary(
      fc.constantFrom('patient', 'who', 'subject', 'q'),
      fc.oneof(
        id,
        id.map((one) => `Patient/${one}`),
      ),
    ),
  );
  const asked = fc.record({
    method: fc.constantFrom('tools/call', 'resources/read', 'prompts/get', 'anything', 'resources/list'),
    params: fc.oneof(json, fc.record({ name: fc.string(), arguments: args, _meta: meta })),
    header: fc.option(id, { nil: undefined }),
    operation: fc.constantFrom(undefined, READ, WRITE, { ...READ, patientArgument: 'who' }),
    mode: fc.constantFrom('token' as const, 'envelope' as const, 'session' as const),
    policy: fc.constantFrom(undefined, 'allow' as const, 'deny' as const, 'unavailable' as const),
    transition: fc.constantFrom(undefined, { clients: ['portal'], until: NOW, allowWrite: true }),
    now: fc.constant(NOW),
  });

  test('a token of A serves A or nobody', () => {
    fc.assert(
      fc.property(asked, (given) => {
        const decision = decide({ ...given, token: token() });
        expect(decision.verdict).not.toBe('ask');
        if (decision.verdict === 'serve') expect(decision.context).toMatchObject({ fhirServer: FHIR, patient: A });
      }),
      { numRuns: 2000 },
    );
  });

  test('a token without a patient serves nobody the policy did not allow', () => {
    fc.assert(
      fc.property(asked, (given) => {
        const decision = decide({ ...given, token: userToken() });
        if (decision.verdict === 'serve') expect(given.policy).toBe('allow');
      }),
      { numRuns: 2000 },
    );
  });

  test('served arguments name nobody else', () => {
    fc.assert(
      fc.property(asked, id, (given, other) => {
        const params = { name: 't', arguments: { patient: other } };
        const decision = decide({ ...given, params, token: token() });
        if (decision.verdict === 'serve' && methodClass(given.method) === 'context') expect(other).toBe(A);
      }),
    );
  });
});
