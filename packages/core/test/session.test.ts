import { describe, expect, it } from 'vitest';
import {
  Drained,
  GetParams,
  OpenArguments,
  PermitParams,
  PrepareParams,
  type SealClaims,
  SessionFacts,
  SwitchArguments,
  sealMismatch,
  Vote,
  VoteParams,
} from '../src/index.js';

const seal: SealClaims = {
  ...{
    iss: 'https://manager.example',
    aud: 'https://clinic.example',
    sub_iss: 'https://as.example',
    sub: 'alice',
    azp: 'portal',
  },
  ...{
    sid: 'ctx_1',
    epoch: 4,
    patient: 'A1',
    fhirServer: 'https://fhir.example/r4',
    pk: 'p'.repeat(43),
    iat: 1,
    exp: 31,
    jti: 'j',
  },
};
const token = {
  ...{ issuer: 'https://as.example', subject: 'alice', firstClient: 'portal', fhirServer: 'https://fhir.example/r4' },
  patient: 'A1' as string | undefined,
};

describe('a seal and the token it comes with', () => {
  it('agree on person, first client, server, patient and session', () => {
    expect(sealMismatch(seal, token)).toBeUndefined();
    expect(sealMismatch(seal, { ...token, sid: 'ctx_1' })).toBeUndefined();
    expect(sealMismatch({ ...seal, tenant: 't1', encounter: 'E1' }, { ...token, tenant: 't1', encounter: 'E1' })).toBeUndefined();
  });

  it('that pins no patient is left to the policy', () => {
    expect(sealMismatch(seal, { ...token, patient: undefined })).toBeUndefined();
  });

  it.each([
    ['another person', { subject: 'bob' }, 40903],
    ['a person of the same name at another issuer', { issuer: 'https://as.example/' }, 40903],
    ['another first client', { firstClient: 'kiosk' }, 40903],
    ['another session', { sid: 'ctx_2' }, 40903],
    ['another patient', { patient: 'B7' }, 40903],
    ['a patient of the same id in other letters', { patient: 'a1' }, 40903],
    ['a tenant where the seal has none', { tenant: 't1' }, 40903],
    ['another FHIR server', { fhirServer: 'https://other.example/r4' }, 40302],
  ])('with %s they do not', (_, more, code) => {
    expect(sealMismatch(seal, { ...token, ...more })?.code).toBe(code);
  });

  it('with another encounter, or no tenant where the seal has one, they do not', () => {
    expect(sealMismatch({ ...seal, encounter: 'E1' }, { ...token, encounter: 'E2' })?.code).toBe(40903);
    expect(sealMismatch({ ...seal, tenant: 't1' }, token)?.code).toBe(40903);
  });
});

describe('messages of a session', () => {
  const target = { patient: 'B7' };

  it('fill in what is left out', () => {
    expect(OpenArguments.parse({ idempotencyKey: 'k', target })).toMatchObject({ participants: [] });
    expect(GetParams.parse({ sid: 's' })).toMatchObject({ waitMs: 0 });
    expect(Vote.parse({ vote: 'accept' })).toEqual({ vote: 'accept', unsaved: [], inflight: 0 });
    expect(Drained.parse({})).toEqual({ saved: [], cancelled: 0, completed: 0, indeterminate: [] });
  });

  it('of a manager may grow: what is not known is left out', () => {
    const facts = { sid: 's', epoch: 1, rev: 1, state: 'active', next: 'year' };
    expect(SessionFacts.parse(facts)).toEqual({ sid: 's', epoch: 1, rev: 1, state: 'active' });
  });

  it.each([
    [
      'a switch to a reference',
      SwitchArguments,
      { sid: 's', switchId: 'x', expectedEpoch: 1, target: { patient: 'Patient/B7' } },
    ],
    ['a switch to nobody', SwitchArguments, { sid: 's', switchId: 'x', expectedEpoch: 1, target: null }],
    ['a switch from a fraction', SwitchArguments, { sid: 's', switchId: 'x', expectedEpoch: 1.5, target }],
    ['a switch that is forced', SwitchArguments, { sid: 's', switchId: 'x', expectedEpoch: 1, target, force: true }],
    ['an id with a line feed', SwitchArguments, { sid: 's\n', switchId: 'x', expectedEpoch: 1, target }],
    ['an id of any length', GetParams, { sid: 's'.repeat(129) }],
    ['a wait beyond twenty seconds', GetParams, { sid: 's', waitMs: 20_001 }],
    ['a negative wait', GetParams, { sid: 's', waitMs: -1 }],
    ['a vote nobody knows', VoteParams, { sid: 's', switchId: 'x', vote: 'maybe' }],
    [
      'a vote with text about a draft',
      VoteParams,
      { sid: 's', switchId: 'x', vote: 'accept', unsaved: [{ id: 'd', savable: true, title: 'x' }] },
    ],
    ['too many drafts', Vote, { vote: 'accept', unsaved: Array(33).fill({ id: 'd', savable: true }) }],
    [
      'a permit for longer than ten seconds',
      PermitParams,
      { seal: 'x', intent: { id: 'i', epoch: 1 }, operation: 'o', effectKey: 'k', ttlMs: 10_001 },
    ],
    ['an intent without epoch', PermitParams, { seal: 'x', intent: { id: 'i' }, operation: 'o', effectKey: 'k' }],
    [
      'a prepare that names a patient',
      PrepareParams,
      { sid: 's', rev: 1, switchId: 'x', epoch: 1, kind: 'switch', deadline: 1, patient: 'B7' },
    ],
  ])('%s is none', (_, schema, value) => {
    expect(schema.safeParse(value).success).toBe(false);
  });
});
