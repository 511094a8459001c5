import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  canChange,
  covers,
  coversAll,
  effectiveScopes,
  hasPatientLevel,
  parseScopes,
  type Scope,
  type ScopeHolder,
  satisfies,
} from '../src/index.js';

function one(raw: string): Scope {
  const [scope, ...more] = parseScopes(raw);
  if (!scope || more.length > 0) throw new Error(`"${raw}" is not one scope`);
  return scope;
}
function shape(raw: string): unknown {
  const scope = one(raw);
  if (scope.kind !== 'resource' && scope.kind !== 'hmcp') return scope.kind;
  const ops = [...scope.ops].join(scope.kind === 'hmcp' ? ' ' : '');
  return scope.kind === 'hmcp' ? `${scope.level} hmcp ${ops}` : `${scope.level} ${scope.type} ${ops}`;
}

describe('parseScopes', () => {
  it.each([
    ['patient/hmcp:read', 'patient hmcp read'],
    ['patient/hmcp:write', 'patient hmcp write'],
    ['hmcp:read', 'unprefixed hmcp read'],
    ['hmcp:write', 'unprefixed hmcp write'],
    ['hmcp:access', 'access'],
    ['hmcp:context.switch', 'control'],
    ['hmcp:context.participate', 'control'],
    ['hmcp:context.control', 'control'],
    ['patient/read.Observation', 'patient Observation rs'],
    ['patient/write.Observation', 'patient Observation cud'],
    ['read.Observation', 'unprefixed Observation rs'],
    ['write.Task', 'unprefixed Task cud'],
    ['patient/read.list-results', 'patient list-results rs'],
    ['patient/Observation.read', 'patient Observation rs'],
    ['patient/Observation.write', 'patient Observation cud'],
    ['patient/Observation.*', 'patient Observation cruds'],
    ['user/*.read', 'user * rs'],
    ['system/*.*', 'system * cruds'],
    ['patient/Observation.rs', 'patient Observation rs'],
    ['user/Patient.s', 'user Patient s'],
    ['system/Encounter.cruds', 'system Encounter cruds'],
    ['patient/Observation.c', 'patient Observation c'],
    ['patient/Observation.cd', 'patient Observation cd'],
    ['patient/Observation.rs?category=laboratory', 'patient Observation rs'],
    ['launch', 'launch'],
    ['launch/patient', 'launch'],
    ['launch/encounter', 'launch'],
    ['launch/imagingstudy?role=https://ehr.example/roles/x', 'launch'],
    ['openid', 'identity'],
    ['fhirUser', 'identity'],
    ['profile', 'identity'],
    ['offline_access', 'identity'],
    ['online_access', 'identity'],
    ['https://ehr.example/scope/x', 'extension'],
    ['urn:example:scope', 'extension'],
    ['__vendor', 'extension'],
  ])('reads %s as %s', (raw, expected) => {
    expect(shape(raw)).toBe(expected);
    expect(one(raw).raw).toBe(raw);
  });

  it('takes the first segment as deciding: verb first is HMCP, type first is SMART, and both mean the same', () => {
    const [hmcp, smart] = [one('patient/read.Observation'), one('patient/Observation.read')];
    expect(covers(hmcp, smart)).toBe(true);
    expect(covers(smart, hmcp)).toBe(true);
  });

  it.each([
    ['letters out of order', 'patient/Observation.dus'],
    ['letters out of order', 'patient/Observation.sr'],
    ['a letter twice', 'patient/Observation.rr'],
    ['an unknown letter', 'patient/Observation.rx'],
    ['an unknown word', 'patient/Observation.readwrite'],
    ['no interaction', 'patient/Observation.'],
    ['no interaction', 'patient/Observation'],
    ['a lower-case type', 'patient/observation.rs'],
    ['an upper-case level', 'Patient/Observation.rs'],
    ['an unknown level', 'group/Observation.rs'],
    ['no level', 'Observation.rs'],
    ['an empty level', '/Observation.rs'],
    ['a level twice', 'patient/patient/Observation.rs'],
    ['an id in the level', 'patient/A1/Observation.rs'],
    ['a partial wildcard', 'patient/Obs*.rs'],
    ['a wildcard verb first', 'patient/read.*'],
    ['user level verb first', 'user/read.Observation'],
    ['system level verb first', 'system/write.Task'],
    ['a SMART v1 constraint', 'patient/Observation.read?category=laboratory'],
    ['a SMART v1 constraint', 'patient/Observation.*?category=laboratory'],
    ['a verb-first constraint', 'patient/read.Observation?category=laboratory'],
    ['an empty constraint', 'patient/Observation.rs?'],
    ['a constraint without value', 'patient/Observation.rs?category'],
    ['a constraint with an empty value', 'patient/Observation.rs?category='],
    ['a constraint without name', 'patient/Observation.rs?=laboratory'],
    ['a dangling &', 'patient/Observation.rs?category=laboratory&'],
    ['a parameter twice', 'patient/Observation.rs?category=a&category=b'],
    ['a modifier', 'patient/Observation.rs?code:in=http://vs.example'],
    ['a chain', 'patient/Observation.rs?subject.name=x'],
    ['a reverse chain', 'patient/Observation.rs?_has:Group:member:_id=1'],
    ['a parameter that adds rows', 'patient/Observation.rs?_include=Observation:subject'],
    ['a parameter that adds rows', 'patient/Observation.rs?_revinclude=*'],
    ['broken percent encoding', 'patient/Observation.rs?category=%zz'],
    ['user level hmcp', 'user/hmcp:read'],
    ['system level hmcp', 'system/hmcp:read'],
    ['an unknown hmcp verb', 'patient/hmcp:delete'],
    ['an unknown hmcp word', 'hmcp:admin'],
    ['hmcp access with a level', 'patient/hmcp:access'],
    ['an unknown grant at the manager', 'hmcp:context.admin'],
    ['control with a level', 'patient/hmcp:context.switch'],
    ['a capital', 'HMCP:read'],
    ['an upper-case launch context', 'launch/Patient'],
    ['a launch context without name', 'launch/'],
    ['a role that is no URI', 'launch/list?role=x'],
    ['a wrong case', 'OpenID'],
    ['a tab', 'patient/Observation.rs\tuser/*.cruds'],
    ['a newline', 'patient/Observation.rs\nuser/*.cruds'],
    ['a no-break space', 'patient/Observation.rs\u00a0user/*.cruds'],
    ['a comma', 'patient/Observation.rs,user/*.cruds'],
    ['a quote', 'patient/"Observation".rs'],
    ['a backslash', 'patient\\Observation.rs'],
    ['a homoglyph', 'p\u0430tient/Observation.rs'],
    ['a zero byte', 'patient/Observation.rs\0'],
    ['a prototype name', '__proto__/Observation.rs'],
    ['too much', `patient/Observation.rs?category=${'x'.repeat(1100)}`],
  ])('grants nothing for %s: %s', (_why, raw) => {
    const scope = one(raw);
    expect(['unknown', 'extension']).toContain(scope.kind);
    expect(covers(scope, scope)).toBe(false);
    expect(coversAll(parseScopes('patient/*.cruds user/*.cruds system/*.cruds patient/hmcp:read'), [scope])).toBe(false);
    expect(satisfies([scope], [scope], clinician)).toBe(false);
  });

  it('separates by spaces only, drops empty members and keeps order and duplicates', () => {
    expect(parseScopes('')).toEqual([]);
    expect(parseScopes('   ')).toEqual([]);
    expect(parseScopes(' openid  nonsense openid ').map((scope) => scope.raw)).toEqual(['openid', 'nonsense', 'openid']);
  });

  it('percent-decodes the value of a constraint once', () => {
    const scope = one('patient/Observation.rs?category=http%3A%2F%2Fcs.example%7Claboratory&status=final');
    expect(scope.kind === 'resource' && Object.fromEntries(scope.constraints)).toEqual({
      category: 'http://cs.example|laboratory',
      status: 'final',
    });
    expect(covers(scope, one('patient/Observation.rs?status=final&category=http://cs.example|laboratory'))).toBe(true);
    expect(covers(scope, one('patient/Observation.rs?status=final&category=http%253A//cs.example|laboratory'))).toBe(false);
  });
});

describe('covers', () => {
  it.each([
    ['patient/*.cruds', 'patient/Observation.rs'],
    ['patient/*.rs', 'patient/*.r'],
    ['patient/*.*', 'patient/Observation.cruds'],
    ['patient/Observation.cruds', 'patient/Observation.write'],
    ['patient/Observation.read', 'patient/Observation.rs?category=laboratory'],
    ['patient/Observation.rs', 'patient/read.Observation'],
    ['patient/*.rs', 'patient/read.Observation'],
    ['patient/Observation.rs?category=laboratory', 'patient/Observation.s?category=laboratory&status=final'],
    ['user/*.read', 'user/Patient.s'],
    ['system/*.rs', 'system/Encounter.r'],
    ['read.Task', 'read.Task'],
    ['patient/read.list-results', 'patient/read.list-results'],
    ['patient/hmcp:read', 'patient/hmcp:read'],
    ['hmcp:write', 'hmcp:write'],
    ['hmcp:access', 'hmcp:access'],
    ['hmcp:context.participate', 'hmcp:context.participate'],
    ['launch/patient', 'launch/patient'],
    ['openid', 'openid'],
  ])('%s covers %s', (granted, required) => expect(covers(one(granted), one(required))).toBe(true));

  it.each([
    ['interactions widened', 'patient/Observation.r', 'patient/Observation.rs'],
    ['read asked of write: write does not imply read', 'patient/Observation.write', 'patient/Observation.read'],
    ['read asked of write', 'patient/hmcp:write', 'patient/hmcp:read'],
    ['write asked of read', 'patient/hmcp:read', 'patient/hmcp:write'],
    ['search asked of create', 'patient/Observation.c', 'patient/Observation.s'],
    ['constraint removed', 'patient/Observation.rs?category=laboratory', 'patient/Observation.rs'],
    ['constraint changed', 'patient/Observation.rs?category=laboratory', 'patient/Observation.rs?category=vital-signs'],
    ['constraint widened to a list', 'patient/Observation.rs?category=a', 'patient/Observation.rs?category=a,b'],
    ['one of two constraints removed', 'patient/Observation.rs?category=a&status=final', 'patient/Observation.rs?category=a'],
    ['constraint removed by another notation', 'patient/Observation.rs?category=a', 'patient/read.Observation'],
    ['type changed', 'patient/Observation.rs', 'patient/Condition.rs'],
    ['type widened', 'patient/Observation.rs', 'patient/*.rs'],
    ['wildcard of FHIR types asked for a tool', 'patient/*.rs', 'patient/read.list-results'],
    ['patient asked of user', 'user/Observation.rs', 'patient/Observation.rs'],
    ['user asked of patient', 'patient/Observation.rs', 'user/Observation.rs'],
    ['patient asked of system', 'system/*.cruds', 'patient/Observation.rs'],
    ['user asked of system', 'system/*.cruds', 'user/Observation.rs'],
    ['the pin dropped', 'patient/hmcp:read', 'hmcp:read'],
    ['the pin added', 'hmcp:read', 'patient/hmcp:read'],
    ['the pin dropped', 'patient/read.Observation', 'read.Observation'],
    ['user asked of unprefixed', 'read.Observation', 'user/Observation.rs'],
    ['FHIR asked of hmcp', 'patient/hmcp:read', 'patient/Observation.rs'],
    ['hmcp asked of FHIR', 'patient/*.cruds', 'patient/hmcp:read'],
    ['access asked of hmcp', 'patient/hmcp:read', 'hmcp:access'],
    ['hmcp asked of access', 'hmcp:access', 'hmcp:read'],
    ['another grant at the manager', 'hmcp:context.switch', 'hmcp:context.control'],
    ['data asked of control', 'hmcp:context.control', 'patient/Observation.rs'],
    ['data asked of launch', 'launch/patient', 'patient/Patient.r'],
    ['data asked of identity', 'fhirUser', 'user/Practitioner.r'],
    ['another identity', 'openid', 'fhirUser'],
    ['an extension, even of itself', 'https://x.example/s', 'https://x.example/s'],
    ['nonsense, even of itself', 'nonsense', 'nonsense'],
  ])('refuses %s: %s does not cover %s', (_why, granted, required) => {
    expect(covers(one(granted), one(required))).toBe(false);
  });

  it('takes several scopes as a union, and never the unknown', () => {
    const granted = parseScopes('patient/Observation.r patient/*.s patient/hmcp:read');
    expect(coversAll(granted, parseScopes('patient/Observation.rs patient/hmcp:read'))).toBe(true);
    expect(coversAll(granted, parseScopes('patient/Condition.rs'))).toBe(false);
    expect(coversAll(granted, parseScopes('patient/Observation.r patient/observation.r'))).toBe(false);
    expect(coversAll(granted, [])).toBe(true);
  });
});

const clinician: ScopeHolder = { subject: 'u-17', clientId: 'portal', patient: 'A1' };
const robot: ScopeHolder = { subject: 'backend', clientId: 'backend' };

describe('satisfies', () => {
  const may = (granted: string, required: string, token: ScopeHolder) =>
    satisfies(parseScopes(granted), parseScopes(required), token);

  it.each([
    ['its own level', 'patient/Observation.rs', 'patient/Observation.rs', clinician],
    ['user level for a patient level, the policy decides whom', 'user/Observation.rs', 'patient/Observation.rs', clinician],
    ['user level of a clinician without patient claim', 'user/*.read', 'patient/Observation.rs', { subject: 'u', clientId: 'c' }],
    ['a mix of levels', 'patient/Observation.r user/Observation.s', 'patient/Observation.r user/Observation.s', clinician],
    ['unprefixed as user level', 'read.Observation', 'user/Observation.rs', clinician],
    ['unprefixed for a patient level', 'read.Observation', 'patient/Observation.rs', clinician],
    ['unprefixed hmcp for a patient level', 'hmcp:read', 'patient/hmcp:read', clinician],
    ['unprefixed hmcp for itself', 'hmcp:read', 'hmcp:read', clinician],
    ['user level for an unprefixed demand', 'user/Task.cud', 'write.Task', clinician],
    ['system level without a human', 'system/*.rs', 'patient/Observation.rs', robot],
    ['unprefixed as system level without a human', 'read.Observation', 'system/Observation.rs', robot],
    ['a fhirUser is a human', 'user/*.rs', 'patient/Observation.rs', { ...robot, fhirUser: 'https://f.example/Practitioner/1' }],
    ['access for an operation without patient', 'hmcp:access', 'hmcp:access', robot],
    ['control for manager traffic', 'hmcp:context.switch patient/Patient.r', 'hmcp:context.switch patient/Patient.r', clinician],
  ])('takes %s: %s for %s', (_why, granted, required, token) => expect(may(granted, required, token)).toBe(true));

  it.each([
    ['system level with a human', 'system/*.cruds', 'patient/Observation.rs', clinician],
    ['system level with a human, even for itself', 'system/*.cruds', 'system/Observation.rs', clinician],
    ['user level without a human', 'user/*.cruds', 'patient/Observation.rs', robot],
    ['user level without a human, even for itself', 'user/*.rs', 'user/Observation.rs', robot],
    ['patient level without a patient', 'patient/*.cruds', 'patient/Observation.rs', { subject: 'u', clientId: 'c' }],
    ['patient level for user level', 'patient/*.cruds', 'user/Observation.rs', clinician],
    ['patient hmcp for an unprefixed demand', 'patient/hmcp:read', 'hmcp:read', clinician],
    ['write for read', 'patient/hmcp:write user/Observation.write', 'patient/hmcp:read', clinician],
    ['write for read', 'user/Observation.write', 'patient/Observation.rs', clinician],
    [
      'a constraint the operation does not ask for',
      'user/Observation.rs?category=laboratory',
      'patient/Observation.rs',
      clinician,
    ],
    ['an unprefixed tool for everything', 'read.Observation', 'patient/Condition.rs', clinician],
    ['half of the demand', 'patient/Observation.rs', 'patient/Observation.rs patient/Condition.rs', clinician],
    ['an empty demand', 'patient/*.cruds', '', clinician],
    ['launch for launch', 'launch/patient', 'launch/patient', clinician],
    ['identity for identity', 'openid fhirUser', 'openid', clinician],
    ['identity for data', 'openid fhirUser profile offline_access', 'user/Practitioner.r', clinician],
    ['control for data', 'hmcp:context.switch hmcp:context.control hmcp:context.participate', 'patient/Patient.r', clinician],
    ['access for data', 'hmcp:access', 'patient/hmcp:read', clinician],
    ['nothing', '', 'patient/Observation.rs', clinician],
  ])('refuses %s: %s for "%s"', (_why, granted, required, token) => expect(may(granted, required, token)).toBe(false));

  it('lists what grants something at a hop, at the level it acts at', () => {
    const granted = parseScopes('launch/patient openid nonsense system/*.rs read.Task patient/Observation.rs hmcp:access');
    expect(effectiveScopes(granted, clinician).map(({ raw }) => raw)).toEqual([
      'read.Task',
      'patient/Observation.rs',
      'hmcp:access',
    ]);
    expect(effectiveScopes(granted, clinician)[0]).toMatchObject({ level: 'user' });
    expect(effectiveScopes(granted, robot).map(({ raw }) => raw)).toEqual(['system/*.rs', 'read.Task', 'hmcp:access']);
  });
});

it.each([
  ['patient/Observation.rs', true],
  ['openid patient/nonsense', true],
  ['user/*.rs patient/', true],
  ['user/*.rs hmcp:read launch/patient Patient/x.rs', false],
  ['', false],
])('a token with "%s" needs a patient: %s', (scope, expected) => expect(hasPatientLevel(parseScopes(scope))).toBe(expected));

it.each([
  ['patient/Observation.rs user/*.read patient/hmcp:read hmcp:access openid', false],
  ['patient/Observation.c', true],
  ['patient/Observation.rud', true],
  ['patient/*.*', true],
  ['write.Task', true],
  ['hmcp:write', true],
  ['patient/Observation.readwrite', true],
])('"%s" can change something: %s', (scope, expected) => expect(canChange(parseScopes(scope))).toBe(expected));

describe('properties', () => {
  const level = fc.constantFrom('patient', 'user', 'system');
  const type = fc.constantFrom('Observation', 'Condition', 'Patient', '*');
  const v2 = fc.subarray(['c', 'r', 'u', 'd', 's'], { minLength: 1 }).map((ops) => ops.join(''));
  const query = fc
    .subarray(['category=laboratory', 'status=final', 'code=1'], { minLength: 0 })
    .map((parts) => (parts.length === 0 ? '' : `?${parts.join('&')}`));
  const smart2 = fc.tuple(level, type, v2, query).map(([l, t, o, q]) => `${l}/${t}.${o}${q}`);
  const smart1 = fc.tuple(level, type, fc.constantFrom('read', 'write', '*')).map(([l, t, o]) => `${l}/${t}.${o}`);
  const hmcp = fc.constantFrom(
    ...['patient/hmcp:read', 'patient/hmcp:write', 'hmcp:read', 'hmcp:write', 'hmcp:access', 'hmcp:context.switch'],
    ...[
      'patient/read.Observation',
      'patient/write.Condition',
      'read.Observation',
      'write.run-report',
      'launch/patient',
      'openid',
    ],
  );
  const member = fc.oneof(smart2, smart1, hmcp);
  const anything = fc.oneof(member, fc.string({ unit: 'binary', maxLength: 40 }), fc.string({ maxLength: 40 }));

  it('parsing never throws and loses no member', () => {
    fc.assert(
      fc.property(fc.array(anything, { maxLength: 8 }), (parts) => {
        const text = parts.join(' ');
        expect(parseScopes(text).map(({ raw }) => raw)).toEqual(text.split(' ').filter((part) => part !== ''));
      }),
    );
  });

  it('covers is reflexive for everything that is understood', () => {
    fc.assert(fc.property(member, (raw) => covers(one(raw), one(raw))));
  });

  it('covers is transitive', () => {
    fc.assert(
      fc.property(fc.array(member, { minLength: 12, maxLength: 12 }), (members) => {
        const scopes = members.map(one);
        const pairs = scopes.flatMap((a) => scopes.filter((b) => covers(a, b)).map((b) => [a, b] as const));
        for (const [a, b] of pairs) for (const c of scopes) if (covers(b, c)) expect(covers(a, c)).toBe(true);
      }),
    );
  });

  // Oracle: a scope as the set of (level, type, op, row) it opens, rows being every assignment of the constraint parameters.
  const rows = ['laboratory', 'other'].flatMap((category) =>
    ['final', 'draft'].flatMap((status) => ['1', '2'].map((code) => new Map(Object.entries({ category, status, code })))),
  );
  function opens(scopes: readonly Scope[]): Set<string> {
    const opened = new Set<string>();
    for (const scope of scopes) {
      if (scope.kind !== 'resource') continue;
      for (const t of scope.type === '*' ? ['Observation', 'Condition', 'Patient', '(other)'] : [scope.type])
        for (const op of scope.ops)
          for (const [i, row] of rows.entries())
            if ([...scope.constraints].every(([name, value]) => row.get(name) === value))
              opened.add([scope.level, t, op, i].join(' '));
    }
    return opened;
  }

  it('narrowing never widens: what is covered opens no row that was not open', () => {
    const smart = fc.array(fc.oneof(smart2, smart1), { minLength: 1, maxLength: 4 }).map((parts) => parts.join(' '));
    let held = 0;
    fc.assert(
      fc.property(smart, smart, (granted, required) => {
        if (!coversAll(parseScopes(granted), parseScopes(required))) return;
        held += 1;
        const before = opens(parseScopes(granted));
        for (const row of opens(parseScopes(required))) expect(before).toContain(row);
      }),
      { numRuns: 3000, seed: 7 },
    );
    expect(held).toBeGreaterThan(50);
  });
});
