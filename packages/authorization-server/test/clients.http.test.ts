import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FHIR, startWorld, TRIAGE, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.close());

const backend = (parameters: Record<string, string> = {}) =>
  world.token('backend', { grant_type: 'client_credentials', scope: 'system/Observation.rs', ...parameters });

async function withAssertion(client_assertion: string) {
  const client_assertion_type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
  const form = { grant_type: 'client_credentials', scope: 'system/*.rs', client_assertion, client_assertion_type };
  return world.post('/token', new URLSearchParams(form));
}

describe('client credentials', () => {
  it('give a short token without a person or a patient, and say its scope', async () => {
    const { status, body, claims } = await backend();
    expect(status).toBe(200);
    expect(body).toMatchObject({ token_type: 'Bearer', expires_in: 300, scope: 'system/Observation.rs' });
    expect(claims).toMatchObject({ sub: 'backend', client_id: 'backend', aud: FHIR, __hmcp: { v: 1, chain: [] } });
    expect(claims).not.toHaveProperty('patient');
    expect(claims).not.toHaveProperty('fhirUser');
  });

  it('give manager scopes for a named resource', async () => {
    const { claims } = await backend({ scope: 'hmcp:context.participate', resource: TRIAGE });
    expect(claims).toMatchObject({ aud: TRIAGE, scope: 'hmcp:context.participate' });
  });

  it.each([
    ['patient/*.rs', 'invalid_scope'],
    ['system/*.rs patient/hmcp:read', 'invalid_scope'],
    ['patient/Observation.dus', 'invalid_scope'],
    ['user/*.rs', 'invalid_scope'],
    ['system/*.cruds', 'invalid_scope'],
    ['hmcp:write', 'invalid_scope'],
    ['system/*.rs made-up', 'invalid_scope'],
    ['openid', 'invalid_scope'],
    ['launch/patient', 'invalid_scope'],
    ['hmcp:context.switch', 'invalid_scope'],
    ['hmcp:context.control', 'invalid_scope'],
    ['hmcp:context.participate system/*.rs', 'invalid_scope'],
    ['hmcp:context.participate hmcp:read', 'invalid_scope'],
    ['hmcp:context.everything', 'invalid_scope'],
  ])('refuse %s', async (scope, error) => {
    const answer = await backend({ scope });
    expect(answer).toMatchObject({ status: 400, body: { error } });
    expect(answer.body).not.toHaveProperty('access_token');
  });

  it('refuse manager scopes for no resource, two, or an unknown one', async () => {
    const scope = 'hmcp:context.participate';
    expect((await backend({ scope })).body.error).toBe('invalid_target');
    expect((await backend({ scope, resource: 'https://evil.example/' })).body.error).toBe('invalid_target');
    const fields: [string, string][] = [
      ['grant_type', 'client_credentials'],
      ['scope', scope],
      ['resource', TRIAGE],
      ['resource', FHIR],
    ];
    expect((await world.token('backend', fields)).body.error).toBe('invalid_target');
  });

  it('refuse an unknown resource, a missing scope, another grant type and a client not registered for them', async () => {
    expect((await backend({ resource: 'https://evil.example/' })).body.error).toBe('invalid_target');
    expect((await world.token('backend', { grant_type: 'client_credentials' })).body.error).toBe('invalid_scope');
    expect(await backend({ grant_type: 'password' })).toMatchObject({ status: 400, body: { error: 'unsupported_grant_type' } });
    const portal = await world.token('portal', { grant_type: 'client_credentials', scope: 'system/*.rs' });
    expect(portal.status).toBe(400);
  });
});

describe('client authentication', () => {
  const now = () => Math.floor(Date.now() / 1000);

  it('accepts an assertion of five minutes', async () => {
    expect((await withAssertion(await world.assertion('backend', { exp: now() + 300 }))).status).toBe(200);
  });

  it.each([
    ['that lives two hours', () => world.assertion('backend', { exp: now() + 7200 })],
    ['that lives long by an iat in the future', () => world.assertion('backend', { iat: now() + 3000, exp: now() + 3200 })],
    ['that has expired', () => world.assertion('backend', { iat: now() - 400, exp: now() - 200 })],
    ['for another audience', () => world.assertion('backend', { aud: 'https://evil.example/token' })],
    ['of another issuer', () => world.assertion('backend', { iss: 'portal' })],
    ['signed by another client', async () => world.assertion('portal', { iss: 'backend', sub: 'backend' })],
    ['with an unknown kid', () => world.assertion('backend', {}, { kid: 'stranger' })],
    ['typed as an access token', () => world.assertion('backend', {}, { typ: 'at+jwt' })],
    ['without signature', async () => `${(await world.assertion('backend')).split('.').slice(0, 2).join('.')}.`],
  ])('refuses an assertion %s', async (_name, make) => {
    expect(await withAssertion(await make())).toMatchObject({ status: 401, body: { error: 'invalid_client' } });
  });

  it.each(['none', 'HS256'])('refuses an assertion with alg %s', async (alg) => {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = { iss: 'backend', sub: 'backend', aud: `${world.issuer}/token`, jti: randomUUID(), exp: now() + 60 };
    const forged = `${part({ alg, typ: 'JWT', kid: 'backend-key' })}.${part(claims)}.${alg === 'none' ? '' : 'c2lnbmF0dXJl'}`;
    expect((await withAssertion(forged)).body.error).toBe('invalid_client');
  });

  it('refuses an assertion used before', async () => {
    const once = await world.assertion('backend');
    expect((await withAssertion(once)).status).toBe(200);
    expect(await withAssertion(once)).toMatchObject({ status: 401, body: { error: 'invalid_client' } });
  });

  it('refuses a confidential client without credentials', async () => {
    const form = new URLSearchParams({ grant_type: 'client_credentials', client_id: 'backend', scope: 'system/*.rs' });
    expect(await world.post('/token', form)).toMatchObject({ status: 401, body: { error: 'invalid_client' } });
  });
});
