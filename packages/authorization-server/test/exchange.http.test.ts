import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { importJWK, SignJWT } from 'jose';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FHIR, LABS, MEDICATIONS, startWorld, TRIAGE, type World } from './world.js';

let world: World;
let launched: string;
beforeAll(async () => {
  world = await startWorld();
  launched = (await world.launch({ patient: 0 })).accessToken;
});
afterEach(() => {
  world.clock.offsetMs = 0;
});
afterAll(() => world.close());

const read = 'patient/hmcp:read patient/Observation.rs patient/MedicationRequest.rs';
const toTriage = async () => (await world.exchange('portal', launched, TRIAGE, read)).accessToken;
const toLabs = async () => (await world.exchange('triage', await toTriage(), LABS, 'patient/Observation.rs')).accessToken;

describe('an exchange', () => {
  it('of a token granted to the caller only changes its audience', async () => {
    const { status, body, claims } = await world.exchange('portal', launched, TRIAGE, `launch/patient openid ${read}`);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      token_type: 'Bearer',
      scope: read,
    });
    expect(body).not.toHaveProperty('refresh_token');
    expect(claims).toMatchObject({
      sub: 'clin',
      client_id: 'portal',
      aud: TRIAGE,
      scope: read,
      patient: 'ann',
      __hmcp: { v: 1, chain: [] },
    });
    expect(claims).not.toHaveProperty('act');
    expect(claims.txn).toEqual(expect.any(String));
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBeLessThanOrEqual(120);
    expect(body.expires_in).toBeLessThanOrEqual(120);
  });

  it('by the next agent adds one record and one actor, and keeps patient, person and transaction', async () => {
    const inbound = await world.exchange('portal', launched, TRIAGE, read);
    const second = await world.exchange('triage', inbound.accessToken, LABS, 'patient/Observation.rs?category=laboratory');
    const third = await world.exchange('labs', second.accessToken, FHIR, 'patient/Observation.rs?category=laboratory');
    const shared = { sub: 'clin', patient: 'ann', fhirUser: `${FHIR}/Practitioner/p1`, txn: inbound.claims.txn };
    const record = {
      jti: inbound.claims.jti,
      client_id: 'portal',
      aud: TRIAGE,
      scope: read,
      pth: createHash('sha256').update(inbound.accessToken).digest('base64url'),
    };
    expect(second.claims).toMatchObject({
      ...shared,
      client_id: 'triage',
      aud: LABS,
      act: { sub: 'triage' },
      __hmcp: { chain: [record] },
    });
    expect(third.claims).toMatchObject({
      ...shared,
      client_id: 'labs',
      aud: FHIR,
      act: { sub: 'labs', act: { sub: 'triage' } },
      __hmcp: { chain: [record, { client_id: 'triage', aud: LABS }] },
    });
    expect(third.claims.exp ?? 0).toBeLessThanOrEqual(second.claims.exp ?? 0);
    expect(second.body).toMatchObject({ patient: 'ann' });
  });

  it('is audited with its actors and its transaction', async () => {
    world.records.length = 0;
    const { claims } = await world.exchange('triage', await toTriage(), LABS, 'patient/Observation.rs');
    expect(world.records.at(-1)).toMatchObject({
      event: 'token.issued',
      method: 'token-exchange',
      clientId: 'triage',
      actors: ['triage'],
      txn: claims.txn,
      jti: claims.jti,
      peer: LABS,
    });
  });

  it.each([
    ['wider interactions', 'patient/Observation.cruds'],
    ['the patient prefix dropped', 'hmcp:read'],
    ['user level', 'user/Observation.rs'],
    ['system level', 'system/Observation.rs'],
    ['a type the subject lacks', 'patient/Condition.rs'],
    ['an unknown member', 'patient/Observation.rs made-up'],
    ['nothing but identity', 'openid fhirUser'],
    ['nothing', ''],
  ])('is refused for %s', async (_name, scope) => {
    const answer = await world.exchange('triage', await toTriage(), LABS, scope);
    expect(answer).toMatchObject({ status: 400, body: { error: 'invalid_scope' } });
  });

  it('is refused when a constraint is removed', async () => {
    const narrow = await world.exchange('portal', launched, TRIAGE, 'patient/Observation.rs?category=laboratory');
    const answer = await world.exchange('triage', narrow.accessToken, LABS, 'patient/Observation.rs');
    expect(answer.body.error).toBe('invalid_scope');
  });

  it('is refused beyond the registration of the caller', async () => {
    expect((await world.exchange('portal', launched, TRIAGE, 'patient/hmcp:write')).body.error).toBe('invalid_scope');
  });

  it('is refused to anybody the token is not for', async () => {
    expect((await world.exchange('labs', await toTriage(), FHIR, 'patient/Observation.rs')).body.error).toBe('invalid_grant');
    expect((await world.exchange('triage', launched, LABS, 'patient/Observation.rs')).body.error).toBe('invalid_grant');
    expect((await world.exchange('portal', await toTriage(), LABS, 'patient/Observation.rs')).body.error).toBe('invalid_grant');
    expect((await world.exchange('triage', await toLabs(), FHIR, 'patient/Observation.rs')).body.error).toBe('invalid_grant');
  });

  it.each([
    'patient',
    'encounter',
    'tenant',
    'fhirUser',
    'actor_token',
    'audience',
  ])('is refused with a "%s" parameter', async (name) => {
    const answer = await world.exchange('triage', await toTriage(), LABS, 'patient/Observation.rs', [[name, 'ann']]);
    expect(answer).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
  });

  it('is refused with a refresh token, an ID token or an unknown type as subject', async () => {
    const { body } = await world.launch({ parameters: { scope: 'launch/patient openid patient/*.rs offline_access' } });
    const as = (subject: unknown, type: string) =>
      world.exchange('portal', String(subject), TRIAGE, read, [['subject_token_type', type]]);
    const type = (name: string) => `urn:ietf:params:oauth:token-type:${name}`;
    expect((await as(body.refresh_token, type('refresh_token'))).body.error).toBe('invalid_request');
    expect((await as(body.refresh_token, type('access_token'))).body.error).toBe('invalid_request');
    expect((await as(body.id_token, type('id_token'))).body.error).toBe('invalid_request');
    expect((await as(body.id_token, type('access_token'))).body.error).toBe('invalid_grant');
  });

  it('is refused for no resource, an unknown one, two, and the caller itself', async () => {
    const subject = await toTriage();
    const target = async (...more: [string, string][]) =>
      (await world.exchange('triage', subject, LABS, 'patient/Observation.rs', more)).body.error;
    expect(await target(['resource', MEDICATIONS])).toBe('invalid_target');
    const single = (resource: string) => world.exchange('triage', subject, resource, 'patient/Observation.rs');
    expect((await single('http://127.0.0.1:9099/')).body.error).toBe('invalid_target');
    expect((await single(`${LABS}/`)).body.error).toBe('invalid_target');
    expect((await single(TRIAGE)).body.error).toBe('invalid_target');
    expect((await world.exchange('portal', launched, MEDICATIONS, read)).body.error).toBe('invalid_target');
  });

  it('is refused for an expired, forged or tampered subject', async () => {
    const subject = await toTriage();
    world.clock.offsetMs = 121_000;
    expect((await world.exchange('triage', subject, LABS, 'patient/Observation.rs')).body.error).toBe('invalid_grant');
    world.clock.offsetMs = 0;
    const [header = '', payload = '', signature = ''] = subject.split('.');
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const changed = Buffer.from(JSON.stringify({ ...claims, patient: 'bo' })).toString('base64url');
    for (const forged of [`${header}.${changed}.${signature}`, `${header}.${payload}.`, 'a.b.c']) {
      expect((await world.exchange('triage', forged, LABS, 'patient/Observation.rs')).body.error).toBe('invalid_grant');
    }
  });

  it('is refused for a token this server signed key and all but never issued', async () => {
    const keys = JSON.parse(await readFile(join(world.state, 'authorization-server-keys.json'), 'utf8')).keys;
    const jwk = keys.find((key: { alg: string }) => key.alg === 'ES256');
    const forged = await new SignJWT({ client_id: 'portal', scope: read, patient: 'bo', __hmcp: { v: 1, chain: [] } })
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: jwk.kid })
      .setIssuer(world.issuer)
      .setSubject('clin')
      .setAudience(TRIAGE)
      .setJti('made-up')
      .setIssuedAt()
      .setExpirationTime('1m')
      .sign(await importJWK(jwk, 'ES256'));
    expect((await world.exchange('triage', forged, LABS, 'patient/Observation.rs')).body.error).toBe('invalid_grant');
  });

  it('is refused a scope the resource is not registered with, which subject and caller hold', async () => {
    const answer = await world.exchange('triage', await toTriage(), LABS, 'patient/MedicationRequest.rs');
    expect(answer).toMatchObject({ status: 400, body: { error: 'invalid_scope' } });
    expect(world.records.at(-1)).toMatchObject({
      event: 'token.refused',
      reason: 'the resource is not registered with the scope',
    });
  });

  it('is refused at depth five', async () => {
    let token = await toLabs(); // one record
    const path = [
      ['labs', MEDICATIONS],
      ['medications', LABS],
      ['labs', MEDICATIONS],
    ] as const;
    for (const [caller, resource] of path)
      token = (await world.exchange(caller, token, resource, 'patient/Observation.rs')).accessToken;
    const fifth = await world.exchange('medications', token, LABS, 'patient/Observation.rs');
    expect(fifth).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
    expect(world.records.at(-1)).toMatchObject({
      event: 'token.refused',
      reason: 'the chain is too long',
      method: 'token-exchange',
    });
  });
});
