import { createHash } from 'node:crypto';
import { createLocalJWKSet, jwtVerify, SignJWT } from 'jose';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AuthorityUnavailable, type LaunchRequest, SmartError, smartClient } from '../src/index.js';
import { clock, METADATA, type SigningKey, signingKey, T0, type TinyIssuer, tinyIssuer } from './support/issuer.js';

const REDIRECT = 'http://127.0.0.1:5000/callback';
const SCOPE = 'openid fhirUser offline_access patient/Observation.rs patient/Condition.rs';
let issuer: TinyIssuer;
let fhirServer: string;
let time: ReturnType<typeof clock>;
let idKey: SigningKey;
let nonce: string | undefined;
let forms: URLSearchParams[];
let revoked: string[];

beforeAll(async () => {
  idKey = await signingKey('id1', 'RS256');
});
beforeEach(async () => {
  issuer = await tinyIssuer();
  fhirServer = `${issuer.url}/r4`;
  time = clock();
  issuer.jwks.keys.push(idKey.publicJwk);
  [nonce, forms, revoked] = [undefined, [], []];
  issuer.on('/r4/.well-known/smart-configuration', () => issuer.metadata);
  issuer.on('/revoke', (_request, form) => {
    revoked.push(form.get('token') ?? '');
    return {};
  });
  answer();
});
afterEach(() => issuer.close());

const idToken = (claims: Record<string, unknown> = {}, { key = idKey, typ = 'JWT' as string | undefined } = {}) =>
  new SignJWT({
    iss: issuer.url,
    aud: 'portal',
    sub: 'dr-1',
    iat: T0,
    exp: T0 + 300,
    nonce,
    fhirUser: 'Practitioner/p1',
    ...claims,
  })
    .setProtectedHeader({ alg: key.alg, kid: key.kid, ...(typ === undefined ? {} : { typ }) })
    .sign(key.privateKey);

/** What the token endpoint says from now on; a member set to `undefined` is left out. */
function answer(body: Record<string, unknown> = {}, status = 200) {
  issuer.on('/token', async (_request, form, response) => {
    forms.push(form);
    response.statusCode = status;
    if (status !== 200) return body;
    const tokens = { access_token: `at${forms.length}`, refresh_token: `rt${forms.length}`, id_token: await idToken() };
    return { ...tokens, token_type: 'Bearer', expires_in: 300, scope: `launch/patient ${SCOPE}`, patient: 'A1', ...body };
  });
}
const client = (more: Partial<Parameters<typeof smartClient>[0]> = {}) =>
  smartClient({ fhirServer, clientId: 'portal', redirectUri: REDIRECT, now: time.now, ...more });
/** The authorization server's page: the person says yes. */
const open = (changes: Record<string, string | undefined> = {}) => {
  return async (url: string) => {
    const asked = new URL(url).searchParams;
    nonce = asked.get('nonce') ?? undefined;
    const callback = new URL(REDIRECT);
    for (const [name, value] of Object.entries({ code: 'c1', state: asked.get('state') ?? '', iss: issuer.url, ...changes })) {
      if (value !== undefined) callback.searchParams.set(name, value);
    }
    return callback.href;
  };
};
const launch = (more: Partial<LaunchRequest> = {}, changes: Record<string, string | undefined> = {}) =>
  client().authorize({ launch: 'patient', scope: SCOPE, ...more, open: open(changes) });
const codeOf = async (promise: Promise<unknown>) => {
  const error = await promise.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(SmartError);
  return (error as SmartError).code;
};

describe('authorization request', () => {
  it('is a code request with S256, state, nonce, and the FHIR base as aud and resource', async () => {
    const { url, state } = await client().begin({ launch: 'patient', scope: SCOPE });
    const { code_challenge, nonce: sent, ...query } = Object.fromEntries(new URL(url).searchParams);
    expect(url.startsWith(`${issuer.url}/auth?`)).toBe(true);
    expect(query).toEqual({
      ...{ response_type: 'code', client_id: 'portal', redirect_uri: REDIRECT, scope: `launch/patient ${SCOPE}`, state },
      ...{ aud: fhirServer, resource: fhirServer, code_challenge_method: 'S256' },
    });
    for (const secret of [state, sent, code_challenge]) expect(secret).toMatch(/^[A-Za-z0-9_-]{43}$/);
  });

  it('of an EHR launch carries its launch value', async () => {
    const { url } = await client().begin({ launch: { launch: 'xyz&1' }, scope: 'patient/*.rs launch' });
    expect(new URL(url).searchParams.get('launch')).toBe('xyz&1');
    expect(new URL(url).searchParams.get('scope')).toBe('launch patient/*.rs');
    expect(new URL(url).searchParams.has('nonce')).toBe(false);
  });

  it('is new each time', async () => {
    const portal = client();
    const [one, two] = [
      await portal.begin({ launch: 'patient', scope: SCOPE }),
      await portal.begin({ launch: 'patient', scope: SCOPE }),
    ];
    for (const name of ['state', 'nonce', 'code_challenge']) {
      expect(new URL(one.url).searchParams.get(name)).not.toBe(new URL(two.url).searchParams.get(name));
    }
  });

  it.each([
    ['no S256', { code_challenge_methods_supported: undefined }],
    ['plain as well', { code_challenge_methods_supported: ['S256', 'plain'] }],
    ['no token endpoint', { token_endpoint: undefined }],
    ['an insecure token endpoint', { token_endpoint: 'http://as.example/token' }],
  ])('is not made to a server with %s', async (_, metadata) => {
    issuer.on('/r4/.well-known/smart-configuration', () => ({ ...issuer.metadata, ...metadata }));
    issuer.on(METADATA, () => undefined);
    expect(await codeOf(client().begin({ launch: 'patient', scope: SCOPE }))).toBe('discovery_failed');
  });

  it('is not made when the issuer calls itself something else', async () => {
    issuer.on(METADATA, () => ({ ...issuer.metadata, issuer: `${issuer.url}/` }));
    expect(await codeOf(client().begin({ launch: 'patient', scope: SCOPE }))).toBe('discovery_failed');
  });
});

describe('callback', () => {
  it.each([
    ['another state', { state: 'x' }, 'state_mismatch'],
    ['no state', { state: undefined }, 'state_mismatch'],
    ['another issuer', { iss: 'https://evil.example' }, 'issuer_mismatch'],
    ['an issuer with a slash', { iss: 'SLASH' }, 'issuer_mismatch'],
    ['no issuer though advertised', { iss: undefined }, 'issuer_mismatch'],
    ['an error of another issuer', { iss: 'https://evil.example', error: 'access_denied' }, 'issuer_mismatch'],
    ['a refusal', { error: 'access_denied', code: undefined }, 'access_denied'],
    ['a refusal and a code', { error: 'access_denied' }, 'access_denied'],
    ['another error', { error: 'server_error', code: undefined }, 'authorization_failed'],
    ['no code', { code: undefined }, 'authorization_failed'],
    ['an empty code', { code: '' }, 'authorization_failed'],
  ])('with %s sends no token request', async (_, changes, code) => {
    const iss = 'iss' in changes && changes.iss === 'SLASH' ? { iss: `${issuer.url}/` } : {};
    expect(await codeOf(launch({}, { ...changes, ...iss }))).toBe(code);
    expect(forms).toEqual([]);
  });

  it.each([
    ['invalid_scope', 'invalid_scope', 'SMART launch: authorization_failed (invalid_scope)'],
    ['Patient Ann 1961', undefined, 'SMART launch: authorization_failed'],
    ['x'.repeat(41), undefined, 'SMART launch: authorization_failed'],
    ['', undefined, 'SMART launch: authorization_failed'],
  ])('with the error "%s" says the code of OAuth, and repeats nothing else', async (error, oauth, message) => {
    const failure = launch({}, { error, error_description: 'of Ann', code: undefined });
    await expect(failure).rejects.toMatchObject({ code: 'authorization_failed', oauth, message });
  });

  it('may leave out the issuer where it is not advertised, but not name another', async () => {
    issuer.metadata.authorization_response_iss_parameter_supported = undefined;
    await expect(launch({}, { iss: undefined })).resolves.toMatchObject({ patient: 'A1' });
    expect(await codeOf(launch({}, { iss: 'https://evil.example' }))).toBe('issuer_mismatch');
  });

  it('with a parameter twice, or that is no URL, is refused', async () => {
    for (const bad of ['&code=c2', '&state=x', '&iss=x']) {
      const pending = await client().begin({ launch: 'patient', scope: SCOPE });
      expect(['authorization_failed', 'state_mismatch']).toContain(
        await codeOf(pending.finish((await open()(pending.url)) + bad)),
      );
    }
    const pending = await client().begin({ launch: 'patient', scope: SCOPE });
    expect(await codeOf(pending.finish('http://['))).toBe('state_mismatch');
    expect(forms).toEqual([]);
  });

  it('counts once; a forged one before it does not spoil it', async () => {
    const pending = await client().begin({ launch: 'patient', scope: SCOPE });
    const callback = await open()(pending.url);
    expect(await codeOf(pending.finish(`${REDIRECT}?state=forged&code=x`))).toBe('state_mismatch');
    await expect(pending.finish(callback)).resolves.toMatchObject({ patient: 'A1' });
    expect(await codeOf(pending.finish(callback))).toBe('state_mismatch');
    expect(forms).toHaveLength(1);
  });
});

describe('grant', () => {
  it('holds one patient, the person from the ID token, and what was not granted', async () => {
    answer({ scope: 'launch/patient openid fhirUser patient/Observation.read', encounter: 'E9', tenant: 't1' });
    const grant = await launch();
    expect(grant).toMatchObject({
      ...{ accessToken: 'at1', refreshToken: 'rt1', expiresAt: T0 + 300, patient: 'A1', encounter: 'E9', tenant: 't1' },
      ...{ subject: 'dr-1', fhirUser: `${fhirServer}/Practitioner/p1`, fhirServer, issuer: issuer.url, clientId: 'portal' },
      missing: ['offline_access', 'patient/Condition.rs'],
    });
  });

  it('is got with the verifier of its challenge; a public client names itself', async () => {
    const pending = await client().begin({ launch: 'patient', scope: SCOPE });
    await pending.finish(await open()(pending.url));
    const { code_verifier, ...form } = Object.fromEntries(forms[0] ?? []);
    expect(form).toEqual({ grant_type: 'authorization_code', code: 'c1', redirect_uri: REDIRECT, client_id: 'portal' });
    const challenge = createHash('sha256')
      .update(code_verifier ?? '')
      .digest('base64url');
    expect(new URL(pending.url).searchParams.get('code_challenge')).toBe(challenge);
  });

  it('of a confidential client is got with a fresh assertion of at most five minutes', async () => {
    const key = await signingKey('c1', 'ES384');
    const portal = client({ privateKey: key.privateJwk });
    const grant = await portal.authorize({ launch: 'patient', scope: SCOPE, open: open() });
    await grant.refresh();
    const assertions = forms.map((form) => form.get('client_assertion') ?? '');
    const ids = [];
    for (const assertion of assertions) {
      const { payload } = await jwtVerify(assertion, createLocalJWKSet({ keys: [key.publicJwk] }), {
        ...{ issuer: 'portal', subject: 'portal', audience: `${issuer.url}/token`, typ: 'JWT', algorithms: ['ES384'] },
        currentDate: new Date(time.now()),
      });
      expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBeLessThanOrEqual(300);
      ids.push(payload.jti);
    }
    expect(new Set(ids).size).toBe(2);
  });

  it.each([
    ['no patient', { patient: undefined }],
    ['a reference', { patient: 'Patient/A1' }],
    ['an array', { patient: ['A1'] }],
    ['null', { patient: null }],
    ['an empty patient', { patient: '' }],
    ['no patient, and a scope that does not parse', { patient: undefined, scope: 'openid patient/nonsense' }],
  ])('with a patient/ scope and %s fails the launch and drops the tokens', async (_, body) => {
    answer(body);
    expect(await codeOf(launch())).toBe('context_missing');
    expect(revoked).toEqual(['rt1']);
  });

  it('without patient/ scopes needs no patient', async () => {
    answer({ scope: 'openid user/Patient.s', patient: undefined });
    await expect(launch({ scope: 'openid user/Patient.s' })).resolves.toMatchObject({ patient: undefined, missing: [] });
  });

  it.each([
    ['a refusal', { error: 'invalid_grant' }, 400, 'token_refused'],
    ['a refusal in words', { error: 'Patient A1!' }, 401, 'token_refused'],
    ['another token type', { token_type: 'mac' }, 200, 'invalid_answer'],
    ['no token', { access_token: undefined }, 200, 'invalid_answer'],
    ['a life that is over', { expires_in: 0 }, 200, 'invalid_answer'],
    ['a life that is no number', { expires_in: '300' }, 200, 'invalid_answer'],
    ['an encounter that is none', { encounter: 'Encounter/E9' }, 200, 'invalid_answer'],
  ])('is not made from %s', async (_, body, status, code) => {
    answer(body, status);
    const failed = launch();
    expect(await codeOf(failed)).toBe(code);
    await expect(failed).rejects.not.toThrow('A1');
  });

  it('is used for 300 seconds, or as long as the client is told, where the server does not say for how long', async () => {
    answer({ expires_in: undefined });
    await expect(launch()).resolves.toMatchObject({ expiresAt: T0 + 300 });
    const portal = client({ assumedSeconds: 900 });
    const grant = await portal.authorize({ launch: 'patient', scope: SCOPE, open: open() });
    expect(grant.expiresAt).toBe(T0 + 900);
    await expect(grant.refresh()).resolves.toMatchObject({ expiresAt: T0 + 900 });
  });

  it('is unavailable when the token endpoint is', async () => {
    answer({}, 503);
    await expect(launch()).rejects.toBeInstanceOf(AuthorityUnavailable);
  });
});

describe('a server without OpenID Connect, which names no issuer', () => {
  const scope = 'patient/Observation.rs';
  beforeEach(() => {
    issuer.on('/r4/.well-known/smart-configuration', () => ({ ...issuer.metadata, issuer: undefined }));
    issuer.metadata.authorization_response_iss_parameter_supported = undefined;
    answer({ id_token: undefined, scope });
  });

  it('is launched at; nobody is said to have signed in', async () => {
    const grant = await launch({ scope }, { iss: undefined });
    expect(grant).toMatchObject({ patient: 'A1', issuer: fhirServer, subject: undefined, fhirUser: undefined, missing: [] });
    await expect(grant.refresh()).resolves.toMatchObject({ patient: 'A1' });
  });

  it('cannot be told from another one by its callback', async () => {
    expect(await codeOf(launch({ scope }))).toBe('issuer_mismatch');
  });

  it.each([
    ['was signed by a key it publishes', () => idToken()],
    ['names no issuer either', () => idToken({ iss: undefined })],
  ])('is not believed about who signed in, though the ID token %s', async (_, token) => {
    answer({ id_token: await token(), scope });
    expect(await codeOf(launch({ scope }, { iss: undefined }))).toBe('invalid_id_token');
    expect(revoked).toEqual(['rt1']);
  });

  it('that grants openid without an ID token is refused', async () => {
    answer({ id_token: undefined, scope: `openid ${scope}` });
    expect(await codeOf(launch({ scope: `openid ${scope}` }, { iss: undefined }))).toBe('invalid_id_token');
  });
});

describe('ID token', () => {
  it('may be ES256, without typ, with an absolute fhirUser', async () => {
    issuer.on('/token', async () => ({
      ...{ access_token: 'a', token_type: 'bearer', expires_in: 300, scope: 'openid', patient: 'A1' },
      id_token: await idToken({ fhirUser: 'https://fhir.example/Practitioner/p9' }, { key: issuer.key, typ: undefined }),
    }));
    await expect(launch()).resolves.toMatchObject({ fhirUser: 'https://fhir.example/Practitioner/p9' });
  });

  const refused: [string, () => Promise<string | undefined>][] = [
    ['missing', async () => undefined],
    ['no JWT', async () => 'x.y.z'],
    ['of another issuer', () => idToken({ iss: `${issuer.url}/` })],
    ['for another client', () => idToken({ aud: 'other' })],
    ['for two clients', () => idToken({ aud: ['portal', 'other'] })],
    ['expired', () => idToken({ exp: T0 - 31 })],
    ['without exp', () => idToken({ exp: undefined })],
    ['without iat', () => idToken({ iat: undefined })],
    ['without sub', () => idToken({ sub: undefined })],
    ['with another nonce', () => idToken({ nonce: 'x' })],
    ['without the nonce', () => idToken({ nonce: undefined })],
    ['an access token', () => idToken({}, { typ: 'at+jwt' })],
    ['signed by a stranger', async () => idToken({}, { key: await signingKey('id1', 'RS256') })],
    ['signed with an unknown key', async () => idToken({}, { key: await signingKey('id9', 'RS256') })],
  ];
  it.each(refused)('%s: the launch fails and its tokens are revoked', async (_, make) => {
    issuer.on('/token', async () => ({
      ...{ access_token: 'a', refresh_token: 'r', token_type: 'Bearer', expires_in: 300, scope: SCOPE, patient: 'A1' },
      id_token: await make(),
    }));
    expect(await codeOf(launch())).toBe('invalid_id_token');
    expect(revoked).toEqual(['r']);
  });
});

describe('refresh', () => {
  it('keeps patient, person and what was missing; an absent patient means unchanged', async () => {
    const grant = await launch();
    answer({ patient: undefined, id_token: undefined, scope: undefined });
    const next = await grant.refresh();
    expect(next).toMatchObject({ accessToken: 'at2', refreshToken: 'rt2', patient: 'A1', subject: 'dr-1', scope: grant.scope });
    expect(Object.fromEntries(forms[1] ?? [])).toEqual({
      grant_type: 'refresh_token',
      refresh_token: 'rt1',
      client_id: 'portal',
    });
  });

  it('sends one request for two calls at once, since the token is rotated', async () => {
    const grant = await launch();
    nonce = undefined;
    const [one, two] = await Promise.all([grant.refresh(), grant.refresh()]);
    expect(one).toBe(two);
    expect(await grant.refresh()).toBe(one);
    expect(forms).toHaveLength(2);
    expect(await one.refresh()).toMatchObject({ refreshToken: 'rt3' });
    expect(forms[2]?.get('refresh_token')).toBe('rt2');
  });

  it.each([
    ['another patient', { patient: 'B2' }, 'patient_changed'],
    ['the patient in another case', { patient: 'a1' }, 'patient_changed'],
    ['a patient that is none', { patient: ['B2'] }, 'patient_changed'],
    ['a tenant', { tenant: 't2' }, 'patient_changed'],
    ['an encounter', { encounter: 'E2' }, 'patient_changed'],
    ['a wider scope', { scope: 'patient/*.rs' }, 'invalid_answer'],
  ])('that answers %s revokes the new token and stops', async (_, body, code) => {
    const grant = await launch();
    answer({ id_token: undefined, ...body });
    expect(await codeOf(grant.refresh())).toBe(code);
    expect(revoked).toEqual(['rt2']);
    expect(await codeOf(grant.refresh())).toBe('no_refresh_token');
    expect(forms).toHaveLength(2);
  });

  it('that answers another person revokes and stops', async () => {
    const grant = await launch();
    answer({ id_token: await idToken({ sub: 'dr-2' }) });
    expect(await codeOf(grant.refresh())).toBe('invalid_id_token');
    expect(revoked).toEqual(['rt2']);
  });

  it('that fails may be tried again; a refusal is told', async () => {
    const grant = await launch();
    answer({}, 503);
    await expect(grant.refresh()).rejects.toBeInstanceOf(AuthorityUnavailable);
    answer({ error: 'invalid_grant' }, 400);
    await expect(grant.refresh()).rejects.toMatchObject({ code: 'token_refused', oauth: 'invalid_grant' });
    answer({ id_token: undefined });
    await expect(grant.refresh()).resolves.toMatchObject({ patient: 'A1' });
  });

  it('is impossible without a refresh token', async () => {
    answer({ refresh_token: undefined });
    const grant = await launch();
    expect(await codeOf(grant.refresh())).toBe('no_refresh_token');
  });
});

describe('revoke', () => {
  it('revokes the newest refresh token of the grant and ends refreshing', async () => {
    const grant = await launch();
    answer({ id_token: undefined });
    const next = await grant.refresh();
    await grant.revoke();
    expect(revoked).toEqual(['rt2']);
    expect(await codeOf(next.refresh())).toBe('no_refresh_token');
  });

  it('without a refresh token revokes the access token', async () => {
    answer({ refresh_token: undefined });
    await (await launch()).revoke();
    expect(revoked).toEqual(['at1']);
  });

  it('does nothing where the server offers none', async () => {
    issuer.metadata.revocation_endpoint = undefined;
    await (await launch()).revoke();
    expect(revoked).toEqual([]);
  });
});

describe('configuration', () => {
  it.each([
    ['fhirServer', { fhirServer: 'http://fhir.example/r4' }],
    ['clientId', { clientId: '' }],
    ['assumedSeconds', { assumedSeconds: 0 }],
    ['assumedSeconds', { assumedSeconds: Number.POSITIVE_INFINITY }],
    ['redirectUri', { redirectUri: '/callback' }],
    ['redirectUri', { redirectUri: 'https://portal.example/#x' }],
    ['privateKey', { privateKey: { kty: 'EC', crv: 'P-384', kid: 'x' } }],
  ])('names the unusable option %s', (option, wrong) => {
    expect(() => client(wrong)).toThrow(`"${option}"`);
  });
});
