import { meaningOf } from '@hmcp/core';
import { SignJWT } from 'jose';
import { afterEach, describe, expect, it } from 'vitest';
import {
  AuthorityUnavailable,
  createSealSigner,
  createSealVerifier,
  createTokenVerifier,
  type SealFacts,
  type SealVerifierOptions,
  type TrustedManager,
} from '../src/index.js';
import { clock, loopback, mint, RESOURCE, signingKey, T0, tinyIssuer } from './support/issuer.js';

const MANAGER = 'https://manager.example';
const AS = 'https://as.example';
const FHIR = 'https://fhir.example/r4';
const key = await signingKey('seal-1');
const otherKey = await signingKey('seal-1');
const manager: TrustedManager = {
  issuer: MANAGER,
  resource: `${MANAGER}/mcp`,
  clientId: 'manager',
  keys: { keys: [key.publicJwk] },
  trustDomain: 'https://clinic.example',
  fhirServers: [FHIR],
  tokenIssuers: [AS],
};
const facts: SealFacts = {
  ...{ sub_iss: AS, sub: 'alice', azp: 'portal', sid: 'ctx_1', epoch: 4, patient: 'A1', fhirServer: FHIR, pk: 'p'.repeat(43) },
};
const time = clock();
const verifier = (more: Partial<SealVerifierOptions> = {}) => createSealVerifier({ managers: [manager], now: time.now, ...more });
const signer = (now = time.now, from = key) =>
  createSealSigner({ issuer: MANAGER, trustDomain: manager.trustDomain, key: from.privateJwk, now });

/** A seal with whatever somebody put in. */
async function forged(claims: object = {}, header: object = {}, by = key): Promise<string> {
  const at = T0;
  const payload = { iss: MANAGER, aud: manager.trustDomain, ...facts, iat: at, exp: at + 30, jti: 'x', ...claims };
  return new SignJWT(payload)
    .setProtectedHeader({ alg: 'ES256', kid: 'seal-1', typ: 'hmcp-context+jwt', ...header })
    .sign(by.privateKey);
}

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

describe('a seal', () => {
  it('of a listed manager says what was signed, for thirty seconds', async () => {
    const seal = await (await signer()).sign(facts);
    const { claims, manager: by } = await verifier().verify(seal);
    expect(claims).toMatchObject({ ...facts, iss: MANAGER, aud: manager.trustDomain, iat: T0, exp: T0 + 30 });
    expect(by).toBe(manager);
  });

  it('is believed from the cache too, and not for longer', async () => {
    const at = clock();
    const seal = await (await signer(at.now)).sign(facts);
    const one = verifier({ now: at.now });
    expect((await one.verify(seal)).claims.epoch).toBe(4);
    at.advance(31.9);
    expect((await one.verify(seal)).claims.epoch).toBe(4);
    at.advance(0.1);
    await expect(one.verify(seal)).rejects.toMatchObject({ code: 40101 });
    expect((await one.verify(seal, { expiredForSeconds: 900 })).claims.epoch).toBe(4);
    at.advance(900);
    await expect(one.verify(seal, { expiredForSeconds: 900 })).rejects.toMatchObject({ code: 40101 });
  });

  it('is worth nothing where no manager is trusted: 42801', async () => {
    const seal = await forged();
    await expect(verifier({ managers: [] }).verify(seal)).rejects.toMatchObject({ code: 42801 });
  });

  it.each([
    ['signed by another key of the same name', () => forged({}, {}, otherKey)],
    ['of an unlisted manager', () => forged({ iss: 'https://mallory.example' })],
    ['for another trust domain', () => forged({ aud: 'https://elsewhere.example' })],
    ['for two trust domains', () => forged({ aud: [manager.trustDomain, 'https://elsewhere.example'] })],
    ['of a person of another issuer', () => forged({ sub_iss: 'https://other-as.example' })],
    ['of a patient of another FHIR server', () => forged({ fhirServer: 'https://other.example/r4' })],
    ['that lives for longer than thirty seconds', () => forged({ exp: T0 + 31 })],
    ['of the future', () => forged({ iat: T0 + 3, exp: T0 + 33 })],
    ['with a member nobody knows', () => forged({ role: 'admin' })],
    ['without a patient', () => forged({ patient: undefined })],
    ['with a patient that is no id', () => forged({ patient: 'Patient/A1' })],
    ['with a fraction for an epoch', () => forged({ epoch: 4.5 })],
    ['with a negative epoch', () => forged({ epoch: -1 })],
    ['typed as an access token', () => forged({}, { typ: 'at+jwt' })],
    ['typed with a prefix', () => forged({}, { typ: 'application/hmcp-context+jwt' })],
    ['without a type', () => forged({}, { typ: undefined })],
    ['with an unknown key', () => forged({}, { kid: 'seal-2' })],
    ['without a key id', () => forged({}, { kid: undefined })],
    ['with an embedded key', () => forged({}, { kid: 'evil', jwk: otherKey.publicJwk }, otherKey)],
    [
      'signed with a shared secret',
      async () => `${part({ alg: 'HS256', kid: 'seal-1', typ: 'hmcp-context+jwt' })}.${part(facts)}.AAAA`,
    ],
    ['not signed', async () => `${part({ alg: 'none', typ: 'hmcp-context+jwt' })}.${part(facts)}.`],
    ['cut short', async () => (await forged()).slice(0, -10)],
    ['changed by one letter', async () => (await forged()).replace(/\.(.)/, (_, c) => `.${c === 'e' ? 'f' : 'e'}`)],
    ['of no length', async () => ''],
    ['of any length', async () => 'x'.repeat(10_000)],
    ['that is text', async () => 'A1'],
    ['whose claims are no JSON', async () => `${part({ alg: 'ES256', kid: 'seal-1', typ: 'hmcp-context+jwt' })}.x.x`],
  ])('%s is 40903', async (_, make) => {
    await expect(verifier().verify(await make())).rejects.toMatchObject({ name: 'SealError', code: 40903 });
  });

  it('is no access token, and an access token is no seal, even with the same key', async () => {
    const as = await tinyIssuer();
    closing.push(as.close);
    const tokens = createTokenVerifier({
      resource: RESOURCE,
      issuers: [{ issuer: as.url, fhirServer: FHIR, jwks: { keys: [as.key.publicJwk, key.publicJwk] } }],
      now: time.now,
    });
    const seal = await forged({ iss: as.url, aud: RESOURCE, client_id: 'portal', scope: 'patient/Observation.rs' });
    await expect(tokens.verify(seal)).rejects.toMatchObject({ reason: 'type' });
    const token = await mint(as);
    const both = verifier({ managers: [{ ...manager, issuer: as.url, keys: { keys: [as.key.publicJwk] } }] });
    await expect(both.verify(token)).rejects.toMatchObject({ code: 40903, reason: 'type' });
  });

  it('is checked with keys fetched from the configured place and no other', async () => {
    const http = await loopback();
    closing.push(http.close);
    http.on('/keys', () => ({ keys: [key.publicJwk] }));
    const { keys: _, ...rest } = manager;
    const one = verifier({ managers: [{ ...rest, jwksUri: `${http.url}/keys` }] });
    expect((await one.verify(await forged())).claims.sid).toBe('ctx_1');
    await one.verify(await forged({ jti: 'y' }));
    expect(http.asked).toEqual(['/keys']);
  });

  it('whose manager’s keys cannot be had is no refusal but unavailability', async () => {
    const { keys: _, ...rest } = manager;
    const one = verifier({ managers: [{ ...rest, jwksUri: 'http://127.0.0.1:1/keys' }] });
    await expect(one.verify(await forged())).rejects.toBeInstanceOf(AuthorityUnavailable);
  });
});

describe('a trust list', () => {
  it.each([
    ['without a place for keys', { keys: undefined }, 'managers[0]'],
    ['with an insecure place for keys', { keys: undefined, jwksUri: 'http://manager.example/keys' }, 'managers[0].jwksUri'],
    ['without FHIR servers', { fhirServers: [] }, 'managers[0].fhirServers'],
    ['without issuers', { tokenIssuers: [] }, 'managers[0].tokenIssuers'],
    ['with no tenants', { tenants: [] }, 'managers[0].tenants'],
    ['without a trust domain', { trustDomain: '' }, 'managers[0].trustDomain'],
    ['without a client', { clientId: '' }, 'managers[0].clientId'],
  ])('%s is refused, naming the member', (_, more, named) => {
    expect(() => verifier({ managers: [{ ...manager, ...more } as TrustedManager] })).toThrow(named);
  });

  it('that was not configured is refused, naming it', () => {
    expect(() => createSealVerifier({ managers: undefined as never })).toThrow('"managers" is missing');
  });

  it('that lets no seal hold says so in the words of that refusal', () => {
    const { says, mend } = meaningOf(40903, 'seal');
    const start = () => verifier({ managers: [{ ...manager, fhirServers: [] }] });
    expect(start).toThrow(`Requests would be refused: 40903 patient_mismatch, ${says}. Mend: ${mend}.`);
  });

  it('names a manager once', () => {
    expect(() => verifier({ managers: [manager, manager] })).toThrow('managers[1].issuer');
  });

  it('may hold tenants: a seal of another one, or of none, is 40903', async () => {
    const one = verifier({ managers: [{ ...manager, tenants: ['t1'] }] });
    expect((await one.verify(await forged({ tenant: 't1' }))).claims.tenant).toBe('t1');
    await expect(one.verify(await forged({ tenant: 't2' }))).rejects.toMatchObject({ code: 40903 });
    await expect(one.verify(await forged())).rejects.toMatchObject({ code: 40903 });
  });
});

describe('a signer', () => {
  it('publishes the public half of its key and nothing of the private one', async () => {
    const { jwks } = await signer();
    expect(jwks.keys).toMatchObject([{ kid: 'seal-1', alg: 'ES256', use: 'sig' }]);
    expect(JSON.stringify(jwks)).not.toContain('"d"');
  });

  it.each([
    ['a public key', key.publicJwk],
    ['a key without id', { ...key.privateJwk, kid: '' }],
    ['a key of another curve', { ...key.privateJwk, crv: 'P-384' }],
  ])('takes no %s', async (_, jwk) => {
    const made = createSealSigner({ issuer: MANAGER, trustDomain: 'd', key: jwk });
    await expect(made).rejects.toBeInstanceOf(TypeError);
  });

  it('signs no patient that is none', async () => {
    await expect((await signer()).sign({ ...facts, patient: 'Patient/A1' })).rejects.toThrow();
  });
});

function part(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
