import type { AccessTokenClaims, SealClaims } from '@hmcp/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bindSession, decideExchange, type SessionQuestion } from '../src/index.js';

const FHIR = 'https://ehr.example/fhir';
const NOW = 1_800_000_000;

const subject: AccessTokenClaims = {
  iss: 'https://as.example',
  sub: 'clin',
  aud: FHIR,
  exp: NOW + 300,
  iat: NOW - 10,
  jti: 'j1',
  client_id: 'portal',
  scope: 'patient/*.rs',
  patient: 'a1',
  __hmcp: { v: 1, chain: [] },
};
const seal: SealClaims = {
  iss: 'https://manager.example',
  aud: 'ward',
  sub_iss: 'https://as.example',
  sub: 'clin',
  azp: 'portal',
  sid: 's1',
  epoch: 3,
  patient: 'a1',
  fhirServer: FHIR,
  pk: 'k'.repeat(43),
  iat: NOW - 5,
  exp: NOW + 25,
  jti: 'seal-1',
};
const question: SessionQuestion = { subject, firstClient: 'portal', seal, fhirServer: FHIR, now: NOW };
const inSession = (sid: string): AccessTokenClaims => ({ ...subject, __hmcp: { v: 1, sid, chain: [] } });

describe('the session of an exchanged token', () => {
  it('is that of the seal', () => {
    expect(bindSession(question)).toEqual({ ok: true, sid: 's1' });
    expect(bindSession({ ...question, subject: inSession('s1') })).toEqual({ ok: true, sid: 's1' });
  });

  it('is none outside sessions', () => {
    expect(bindSession({ ...question, seal: undefined })).toEqual({ ok: true, sid: undefined });
  });

  it('cannot be left by leaving the seal out', () => {
    expect(bindSession({ ...question, subject: inSession('s1'), seal: undefined })).toEqual({ ok: true, sid: 's1' });
  });

  it('is that of the seal for a token that pins no patient: the shell asks whether the person may open the record', () => {
    expect(bindSession({ ...question, subject: { ...subject, patient: undefined } })).toEqual({ ok: true, sid: 's1' });
  });

  it('accepts a seal for two seconds past its end, and no longer', () => {
    expect(bindSession({ ...question, now: seal.exp + 1 })).toMatchObject({ ok: true });
    expect(bindSession({ ...question, now: seal.exp + 2 })).toMatchObject({ ok: false, error: 'invalid_grant' });
    expect(bindSession({ ...question, now: seal.iat - 2 })).toMatchObject({ ok: true });
    expect(bindSession({ ...question, now: seal.iat - 3 })).toMatchObject({ ok: false, error: 'invalid_grant' });
  });

  it.each<[string, Partial<SessionQuestion>]>([
    ['another patient', { seal: { ...seal, patient: 'b2' } }],
    ['a patient that differs by case only', { seal: { ...seal, patient: 'A1' } }],
    ['another person', { seal: { ...seal, sub: 'other' } }],
    ['an equally named person of another issuer', { seal: { ...seal, sub_iss: 'https://other.example' } }],
    ['another first client', { firstClient: 'triage' }],
    ['an equal id on another FHIR server', { seal: { ...seal, fhirServer: 'https://other.example/fhir' } }],
    ['a FHIR server that differs by a slash only', { seal: { ...seal, fhirServer: `${FHIR}/` } }],
    ['a tenant the token has not', { seal: { ...seal, tenant: 't1' } }],
    ['no tenant where the token has one', { subject: { ...subject, tenant: 't1' } }],
    ['another encounter', { subject: { ...subject, encounter: 'e1' }, seal: { ...seal, encounter: 'e2' } }],
    ['another session than the token', { subject: inSession('s2') }],
  ])('refuses a seal of %s', (_name, change) => {
    expect(bindSession({ ...question, ...change })).toMatchObject({ ok: false, error: 'invalid_grant' });
  });

  it('is never one of another patient, person, client or server, nor another than the subject had', () => {
    const [patients, names, servers] = [
      fc.constantFrom('a1', 'b2'),
      fc.constantFrom('clin', 'other'),
      fc.constantFrom(FHIR, 'x:y'),
    ];
    const sids = fc.option(fc.constantFrom('s1', 's2'), { nil: undefined });
    const tenants = fc.option(fc.constantFrom('t1', 't2'), { nil: undefined });
    const any = fc.record({
      own: fc.record({ patient: patients, sub: names, tenant: tenants, sid: sids, isOwn: fc.boolean() }),
      sealed: fc.option(
        fc.record({
          patient: patients,
          sub: names,
          azp: fc.constantFrom('portal', 'triage'),
          fhirServer: servers,
          tenant: tenants,
          sid: fc.constantFrom('s1', 's2'),
          age: fc.integer({ min: -40, max: 40 }),
        }),
        { nil: undefined },
      ),
    });
    let bound = 0;
    fc.assert(
      fc.property(any, ({ own, sealed }) => {
        const { sid, isOwn, ...claims } = own;
        const aud = isOwn ? FHIR : 'https://triage.example/mcp';
        const decision = decideExchange({
          request: { resources: ['https://labs.example/mcp'], scope: 'patient/*.rs' },
          subject: { ...subject, ...claims, aud, __hmcp: { v: 1, ...(sid === undefined ? {} : { sid }), chain: [] } },
          origin: 'grant',
          pth: 'hash',
          caller: isOwn
            ? { clientId: 'portal', targets: ['https://labs.example/mcp'], scope: 'patient/*.rs' }
            : { clientId: 'triage', resource: aud, targets: [], scope: 'patient/*.rs' },
          seal: sealed && { ...seal, ...sealed, iat: NOW - sealed.age, exp: NOW - sealed.age + 30 },
          fhirServer: FHIR,
          known: new Set(['https://labs.example/mcp', FHIR]),
          newTxn: 'txn',
          now: NOW,
          maxLife: 120,
        });
        if (!decision.ok) return;
        const minted = decision.claims.__hmcp.sid;
        if (sid !== undefined) expect(minted).toBe(sid);
        if (sealed === undefined) {
          expect(minted).toBe(sid);
          return;
        }
        bound += 1;
        expect(minted).toBe(sealed.sid);
        expect(sealed).toMatchObject({
          patient: decision.claims.patient,
          sub: decision.subject,
          azp: 'portal',
          fhirServer: FHIR,
        });
        expect(sealed.tenant).toBe(decision.claims.tenant);
        expect(sealed.age).toBeLessThan(32);
      }),
      { numRuns: 3000 },
    );
    expect(bound).toBeGreaterThan(0);
  });
});
