import { AccessTokenClaims, MAX_CHAIN } from '@hmcp/core';
import { describe, expect, it } from 'vitest';
import { decideExchange, type ExchangeQuestion } from '../src/exchange-rules.js';

const FHIR = 'https://fhir.example/r4';
const TRIAGE = 'https://triage.example/mcp';
const LABS = 'https://labs.example/mcp';

const subject = AccessTokenClaims.parse({
  iss: 'https://as.example',
  sub: 'clinician',
  aud: FHIR,
  exp: 4600,
  iat: 1000,
  jti: 'j1',
  client_id: 'portal',
  scope: 'patient/Observation.rs hmcp:context.participate',
  patient: 'p1',
  __hmcp: { v: 1, chain: [] },
});

function question(more: Partial<ExchangeQuestion> = {}): ExchangeQuestion {
  return {
    subject,
    origin: 'grant',
    pth: 'hash',
    caller: { clientId: 'portal', scope: 'patient/*.rs hmcp:context.participate' },
    resource: LABS,
    scope: 'patient/Observation.rs',
    fhirServer: FHIR,
    known: new Set([FHIR, TRIAGE, LABS]),
    now: 1000,
    ...more,
  };
}

const triage = { clientId: 'triage', resource: TRIAGE, scope: 'patient/*.rs' };

describe('the exchange of a testbed', () => {
  it('copies the context, narrows the scope and shortens the life', () => {
    expect(decideExchange(question())).toMatchObject({
      claims: {
        sub: 'clinician',
        aud: LABS,
        patient: 'p1',
        scope: 'patient/Observation.rs',
        exp: 1120,
        __hmcp: { v: 1, chain: [] },
      },
    });
  });

  it('records the caller of a token that was for it', () => {
    const decided = decideExchange(question({ caller: triage, origin: 'exchange', subject: { ...subject, aud: TRIAGE } }));
    expect(decided).toMatchObject({
      claims: { act: { sub: 'triage' }, __hmcp: { chain: [{ jti: 'j1', client_id: 'portal', aud: TRIAGE, pth: 'hash' }] } },
    });
  });

  const seal = {
    iss: 'https://cm.example',
    aud: 'd',
    sub_iss: subject.iss,
    sub: subject.sub,
    azp: 'portal',
    sid: 's1',
    epoch: 1,
  };
  const sealed = { ...seal, patient: 'p1', fhirServer: FHIR, pk: 'A'.repeat(43), iat: 1000, exp: 1020, jti: 'x' };

  it('binds the session of a seal of the same patient', () => {
    expect(decideExchange(question({ seal: sealed }))).toMatchObject({ claims: { __hmcp: { sid: 's1' } } });
  });

  const long = Array.from({ length: MAX_CHAIN }, (_, at) => ({
    jti: `j${at}`,
    client_id: `c${at}`,
    aud: 'a',
    scope: subject.scope ?? '',
  }));

  it.each<[string, Partial<ExchangeQuestion>, string]>([
    ['a token that was for somebody else', { caller: triage }, 'invalid_grant'],
    ['a token of its own that it got by exchange', { origin: 'exchange' }, 'invalid_grant'],
    ['a token nobody here issued', { origin: 'unknown' }, 'invalid_grant'],
    ['a seal of another patient', { seal: { ...sealed, patient: 'p2' } }, 'invalid_grant'],
    ['a seal of another person', { seal: { ...sealed, sub: 'else' } }, 'invalid_grant'],
    ['a chain that contradicts itself', { subject: { ...subject, __hmcp: { v: 1, chain: long } } }, 'invalid_grant'],
    ['a resource nobody knows', { resource: 'https://else.example/mcp' }, 'invalid_target'],
    ['no resource', { resource: '' }, 'invalid_target'],
    ['no scope', { scope: '' }, 'invalid_scope'],
    ['more than was granted', { scope: 'patient/Observation.cruds' }, 'invalid_scope'],
    ['a scope nobody knows', { scope: 'everything' }, 'invalid_scope'],
    ['more than the caller may have', { caller: { clientId: 'portal', scope: 'patient/Patient.r' } }, 'invalid_scope'],
  ])('refuses %s', (_, more, error) => {
    expect(decideExchange(question(more))).toEqual({ error });
  });
});
