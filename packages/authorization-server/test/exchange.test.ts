import { type AccessTokenClaims, checkChain, coversAll, MAX_CHAIN, parseScopes } from '@hmcp/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ACCESS_TOKEN_TYPE, decideExchange, type ExchangeQuestion, readExchange } from '../src/index.js';

const TRIAGE = 'https://triage.example/mcp';
const LABS = 'https://labs.example/mcp';
const FHIR = 'https://ehr.example/fhir';
const NOW = 1_800_000_000;

const subject: AccessTokenClaims = {
  iss: 'https://as.example',
  sub: 'clin',
  aud: TRIAGE,
  exp: NOW + 300,
  iat: NOW - 10,
  jti: 'j1',
  client_id: 'portal',
  scope: 'launch/patient openid patient/*.rs',
  patient: 'a1',
  encounter: 'e1',
  tenant: 't1',
  fhirUser: `${FHIR}/Practitioner/p1`,
  txn: 'txn-1',
  __hmcp: { v: 1, sid: 's1', chain: [] },
};
const question: ExchangeQuestion = {
  request: { resources: [LABS], scope: 'patient/Observation.rs' },
  subject,
  origin: 'exchange',
  pth: 'hash-of-j1',
  caller: { clientId: 'triage', resource: TRIAGE, targets: [LABS], scope: 'patient/*.rs' },
  fhirServer: FHIR,
  known: new Set([TRIAGE, LABS, FHIR]),
  newTxn: 'txn-new',
  now: NOW,
  maxLife: 120,
};
const own: ExchangeQuestion = {
  ...question,
  origin: 'grant',
  caller: { clientId: 'portal', targets: [LABS], scope: 'patient/*.rs' },
};

describe('the decision on an exchange', () => {
  it('copies patient, encounter, tenant, person, session and transaction, and records subject and caller', () => {
    expect(decideExchange(question)).toEqual({
      ok: true,
      subject: 'clin',
      resource: LABS,
      scope: 'patient/Observation.rs',
      exp: NOW + 120,
      claims: {
        patient: 'a1',
        encounter: 'e1',
        tenant: 't1',
        fhirUser: `${FHIR}/Practitioner/p1`,
        txn: 'txn-1',
        act: { sub: 'triage' },
        __hmcp: {
          v: 1,
          sid: 's1',
          chain: [
            { jti: 'j1', client_id: 'portal', aud: TRIAGE, scope: 'launch/patient openid patient/*.rs', pth: 'hash-of-j1' },
          ],
        },
      },
    });
  });

  it('never lets a token outlive its parent or the maximum', () => {
    expect(decideExchange({ ...question, subject: { ...subject, exp: NOW + 7 } })).toMatchObject({ exp: NOW + 7 });
    expect(decideExchange({ ...question, maxLife: 300 })).toMatchObject({ exp: NOW + 300 });
  });

  it('changes only the audience of a token granted to the caller, and begins a transaction', () => {
    const decision = decideExchange({ ...own, subject: { ...subject, aud: FHIR, txn: undefined } });
    expect(decision).toMatchObject({
      ok: true,
      claims: { txn: 'txn-new', patient: 'a1', __hmcp: { v: 1, sid: 's1', chain: [] } },
    });
    expect(decision.ok && 'act' in decision.claims).toBe(false);
  });

  it.each<[string, Partial<ExchangeQuestion>, string]>([
    ['an expired subject', { subject: { ...subject, exp: NOW } }, 'invalid_grant'],
    ['a key-bound subject', { subject: { ...subject, cnf: { jkt: 'x' } } }, 'invalid_grant'],
    ['a subject for another audience', { subject: { ...subject, aud: LABS } }, 'invalid_grant'],
    ['a subject for several audiences', { subject: { ...subject, aud: [TRIAGE, LABS] } }, 'invalid_grant'],
    ['an actor without a chain', { subject: { ...subject, act: { sub: 'portal' } } }, 'invalid_grant'],
    ['a caller without a resource', { caller: { clientId: 'x', targets: [LABS], scope: 'patient/*.rs' } }, 'invalid_grant'],
    ['no resource', { request: { ...question.request, resources: [] } }, 'invalid_target'],
    ['two resources', { request: { ...question.request, resources: [LABS, FHIR] } }, 'invalid_target'],
    ['one resource twice', { request: { ...question.request, resources: [LABS, LABS] } }, 'invalid_target'],
    ['an unknown resource', { request: { ...question.request, resources: ['https://evil.example'] } }, 'invalid_target'],
    ['the caller itself', { request: { ...question.request, resources: [TRIAGE] } }, 'invalid_target'],
  ])('refuses %s', (_name, change, error) => {
    expect(decideExchange({ ...question, ...change })).toMatchObject({ ok: false, error });
  });

  it.each(['exchange', 'client', 'unknown'] as const)('refuses the caller its own token of origin "%s"', (origin) => {
    expect(decideExchange({ ...own, origin })).toMatchObject({ ok: false, error: 'invalid_grant' });
  });

  it.each([
    ['the scope it is registered with', 'patient/Observation.rs'],
    ['a wider one', 'patient/Condition.rs patient/*.rs'],
  ])('gives a token for a resource within %s', (_, registered) => {
    expect(decideExchange({ ...question, registered })).toMatchObject({ ok: true, scope: 'patient/Observation.rs' });
  });

  it.each([
    ['another type', 'patient/Condition.rs'],
    ['less', 'patient/Observation.r'],
    ['one constraint more', 'patient/Observation.rs?category=laboratory'],
    ['another level', 'user/Observation.rs'],
    ['nothing that can be read', 'everything'],
  ])('refuses a token for a resource that is registered with %s, whatever subject and caller hold', (_, registered) => {
    for (const asked of [question, { ...own, registered }])
      expect(decideExchange({ ...asked, registered })).toMatchObject({ ok: false, error: 'invalid_scope' });
  });

  it('refuses an own token for a target the caller is not registered for', () => {
    expect(decideExchange({ ...own, request: { ...own.request, resources: [FHIR] } })).toMatchObject({ error: 'invalid_target' });
  });

  it.each([
    '',
    ' ',
    'launch/patient openid',
    'patient/Observation.cruds',
    'patient/Observation.sr',
    'hmcp:read',
    'user/Observation.rs',
    'system/*.rs',
    'patient/*.rs patient/hmcp:write',
    'Patient/Observation.rs',
    'patient/Observation.rs?category:in=x',
    'https://example.org/scope',
    '\u0000',
  ])('refuses the scope %j', (scope) => {
    expect(decideExchange({ ...question, request: { ...question.request, scope } })).toMatchObject({ error: 'invalid_scope' });
  });

  it('refuses a chain longer than four', () => {
    const names = ['portal', 'a', 'b', 'c', 'd'];
    const act = names
      .slice(1)
      .reduce<AccessTokenClaims['act']>((inner, sub) => ({ sub, ...(inner ? { act: inner } : {}) }), undefined);
    const chain = names
      .slice(0, MAX_CHAIN)
      .map((client_id, i) => ({ jti: `j${i}`, client_id, aud: TRIAGE, scope: 'patient/*.rs' }));
    const deep = { ...subject, client_id: 'd', act, scope: 'patient/*.rs', __hmcp: { v: 1 as const, chain } };
    expect(checkChain(deep).ok).toBe(true);
    expect(decideExchange({ ...question, subject: deep })).toMatchObject({ ok: false, error: 'invalid_grant' });
  });

  it('never widens: scope, patient, life, session and chain of what it grants lie within the subject', () => {
    const member = fc.constantFrom(
      'patient/*.rs',
      'patient/Observation.rs',
      'patient/Observation.r',
      'patient/Observation.cruds',
      'patient/Observation.rs?category=laboratory',
      'patient/read.Observation',
      'patient/hmcp:read',
      'hmcp:read',
      'user/*.rs',
      'system/*.rs',
      'launch/patient',
      'openid',
      'hmcp:context.participate',
      'patient/Observation.dus',
    );
    const scope = fc.array(member, { maxLength: 5 }).map((members) => members.join(' '));
    const many = fc.record({
      requested: fc.oneof(scope, fc.string()),
      granted: scope,
      registered: scope,
      life: fc.integer({ min: -5, max: 400 }),
      isOwn: fc.boolean(),
      patient: fc.option(fc.constantFrom('a1', 'b2'), { nil: undefined }),
    });
    fc.assert(
      fc.property(many, ({ requested, granted, registered, life, isOwn, patient }) => {
        const base = isOwn ? own : question;
        const claims: AccessTokenClaims = { ...subject, scope: granted, exp: NOW + life, patient };
        const decision = decideExchange({
          ...base,
          subject: claims,
          request: { ...base.request, scope: requested },
          caller: { ...base.caller, scope: registered },
        });
        if (!decision.ok) return;
        expect(coversAll(parseScopes(granted), parseScopes(decision.scope))).toBe(true);
        expect(coversAll(parseScopes(registered), parseScopes(decision.scope))).toBe(true);
        expect(decision.scope).not.toBe('');
        expect(decision.exp).toBeLessThanOrEqual(Math.min(claims.exp, NOW + 120));
        expect(decision.exp).toBeGreaterThan(NOW);
        expect(decision.claims.patient).toBe(patient);
        expect(decision.claims.__hmcp.sid).toBe('s1');
        expect(decision.claims.__hmcp.chain).toHaveLength(isOwn ? 0 : 1);
        const minted = { ...decision.claims, client_id: base.caller.clientId, scope: decision.scope };
        expect(checkChain(minted as Parameters<typeof checkChain>[0]).ok).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

describe('the parameters of an exchange', () => {
  const good = { subject_token: 'a.b.c', subject_token_type: ACCESS_TOKEN_TYPE, resource: LABS, scope: 'patient/*.rs' };

  it('are read', () => {
    expect(readExchange(good)).toEqual({ ok: true, subjectToken: 'a.b.c', resources: [LABS], scope: 'patient/*.rs' });
    expect(readExchange({ ...good, requested_token_type: ACCESS_TOKEN_TYPE })).toMatchObject({ ok: true });
  });

  it('hold a seal or none', () => {
    expect(readExchange({ ...good, hmcp_seal: 'd.e.f' })).toMatchObject({ ok: true, seal: 'd.e.f' });
    expect(readExchange(good)).not.toHaveProperty('seal');
  });

  it.each<[string, Record<string, unknown>]>([
    ['an empty seal', { hmcp_seal: '' }],
    ['two seals', { hmcp_seal: ['a.b.c', 'd.e.f'] }],
    ['an unsigned seal', { hmcp_seal: 'a.b.' }],
    ['an endless seal', { hmcp_seal: `a.${'b'.repeat(6200)}.c` }],
    ['a seal that is an object', { hmcp_seal: { patient: 'b2' } }],
    ['patient', { patient: 'b2' }],
    ['an empty patient', { patient: '' }],
    ['encounter', { encounter: 'e1' }],
    ['tenant', { tenant: 't2' }],
    ['fhirUser', { fhirUser: 'x' }],
    ['act', { act: '{}' }],
    ['actor_token', { actor_token: 'a.b.c' }],
    ['audience', { audience: LABS }],
    ['no subject', { subject_token: undefined }],
    ['two subjects', { subject_token: ['a.b.c', 'd.e.f'] }],
    ['an opaque subject', { subject_token: 'opaque-refresh-token' }],
    ['no subject type', { subject_token_type: undefined }],
    ['a refresh token', { subject_token_type: 'urn:ietf:params:oauth:token-type:refresh_token' }],
    ['an ID token', { subject_token_type: 'urn:ietf:params:oauth:token-type:id_token' }],
    ['a refresh token wanted', { requested_token_type: 'urn:ietf:params:oauth:token-type:refresh_token' }],
    ['a resource that is no text', { resource: [{}] }],
  ])('are refused with %s', (_name, change) => {
    expect(readExchange({ ...good, ...change })).toMatchObject({ ok: false, error: 'invalid_request' });
  });
});
