import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createScriptedBrowser, signIn } from '../src/index.js';
import { CALLBACK, crowdOf, FHIR, LABS, LAUNCH_SCOPE, startWorld, TRIAGE, type World } from './world.js';

let world: World;
const printed = (['log', 'info', 'warn', 'error'] as const).map((level) => vi.spyOn(console, level));
beforeAll(async () => {
  world = await startWorld();
});
beforeEach(() => {
  world.records.length = 0;
});
afterAll(async () => {
  await world.close();
  for (const spy of printed) expect(spy).not.toHaveBeenCalled();
});

const bo = { name: 'Bo Hollis', birthDate: '1961-04-23' };
const person = { username: 'clin', password: 'synthetic-only', patient: bo };
const params = (url: string) => Object.fromEntries(new URL(url).searchParams);

describe('a launch', () => {
  it('puts the picked patient into the token and beside it, with an absolute fhirUser and the whole scope', async () => {
    const { status, body, claims, headers } = await world.launch({ patient: bo });
    expect(status).toBe(200);
    const fhirUser = `${FHIR}/Practitioner/p1`;
    expect(body).toMatchObject({ token_type: 'Bearer', scope: LAUNCH_SCOPE, patient: 'bo', fhirUser, expires_in: 3600 });
    expect(body).not.toHaveProperty('refresh_token');
    expect(claims).toMatchObject({
      iss: world.issuer,
      sub: 'clin',
      aud: FHIR,
      client_id: 'portal',
      scope: LAUNCH_SCOPE,
      patient: 'bo',
      fhirUser,
      __hmcp: { v: 1, chain: [] },
    });
    expect(claims).not.toHaveProperty('act');
    expect(headers.get('cache-control')).toContain('no-store');
    expect(headers.get('pragma')).toBe('no-cache');
  });

  it('is audited with the patient as a key and the person as a hash', async () => {
    const { claims } = await world.launch({ patient: bo });
    expect(world.records).toHaveLength(1);
    expect(world.records[0]).toMatchObject({
      event: 'token.issued',
      outcome: 0,
      method: 'authorization_code',
      clientId: 'portal',
      jti: claims.jti,
      peer: FHIR,
      pkScope: 'local',
      pk: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      fhirUser: `${FHIR}/Practitioner/p1`,
    });
    expect(JSON.stringify(world.records)).not.toMatch(/"bo"|clin"|Hollis/);
  });

  it('hashes the fhirUser of anybody but a practitioner', async () => {
    await world.launch({ username: 'one', patient: 0 });
    expect(world.records[0]?.fhirUser).toMatch(/^[A-Za-z0-9_-]{43}$/);
  });

  it('signs ID tokens with RS256 and gives the fhirUser there too', async () => {
    const { body } = await world.launch({ patient: bo });
    const [header = '', payload = ''] = String(body.id_token).split('.');
    expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toMatchObject({ alg: 'RS256' });
    expect(JSON.parse(Buffer.from(payload, 'base64url').toString())).toMatchObject({
      iss: world.issuer,
      aud: 'portal',
      sub: 'clin',
      fhirUser: `${FHIR}/Practitioner/p1`,
    });
  });

  it('in the same browser for another patient gives the other patient, and leaves the first grant as it was', async () => {
    const browser = createScriptedBrowser();
    const parameters = { scope: `${LAUNCH_SCOPE} offline_access` };
    const first = await world.launch({ browser, patient: { name: 'Ann Hollis', birthDate: '1961-04-02' }, parameters });
    const second = await world.launch({ browser, patient: bo, password: 'not asked again', parameters });
    expect([first.claims.patient, second.claims.patient]).toEqual(['ann', 'bo']);
    const again = await world.token('portal', { grant_type: 'refresh_token', refresh_token: String(first.body.refresh_token) });
    expect(again.claims.patient).toBe('ann');
  });

  it('for a public client works with PKCE alone and lets its own origin read the answer', async () => {
    const { url, verifier } = world.authorizeUrl({ client_id: 'browser-app', scope: 'launch/patient patient/*.rs' });
    const code = params(await signIn({ ...person, url })).code ?? '';
    const form = {
      grant_type: 'authorization_code',
      client_id: 'browser-app',
      code,
      redirect_uri: CALLBACK,
      code_verifier: verifier,
    };
    const answer = await world.post('/token', new URLSearchParams(form), { origin: new URL(CALLBACK).origin });
    expect(answer.claims.patient).toBe('bo');
    expect(answer.headers.get('access-control-allow-origin')).toBe(new URL(CALLBACK).origin);
    const foreign = await world.post('/token', new URLSearchParams(form), { origin: 'https://evil.example' });
    expect(foreign.status).toBe(400);
    expect(foreign.headers.get('access-control-allow-origin')).toBeNull();
  });

  it('with user scopes only asks for no patient and names none', async () => {
    const { claims, body } = await world.launch({ parameters: { scope: 'openid user/*.rs' }, patient: undefined });
    expect(claims).not.toHaveProperty('patient');
    expect(body).not.toHaveProperty('patient');
  });

  it('gives what the person left ticked, and says so', async () => {
    const { body, claims } = await world.launch({ patient: bo, scopes: ['patient/*.rs'] });
    expect(body.scope).toBe('launch/patient openid fhirUser patient/*.rs');
    expect(claims.scope).toBe(body.scope);
  });

  it('without aud or resource is for the FHIR server', async () => {
    expect((await world.launch({ patient: bo, parameters: { aud: undefined } })).claims.aud).toBe(FHIR);
    expect((await world.launch({ patient: bo, parameters: { aud: undefined, resource: TRIAGE } })).claims.aud).toBe(TRIAGE);
    expect((await world.launch({ patient: bo, parameters: { resource: FHIR } })).claims.aud).toBe(FHIR);
  });
});

describe('a launch is refused by redirect, with state and issuer,', () => {
  it.each([
    ['without PKCE', { code_challenge: undefined, code_challenge_method: undefined }, 'invalid_request'],
    ['with plain PKCE', { code_challenge_method: 'plain' }, 'invalid_request'],
    ['for an unknown aud', { aud: 'http://127.0.0.1:9099/fhir' }, 'invalid_target'],
    ['for an aud with a trailing slash', { aud: `${FHIR}/` }, 'invalid_target'],
    ['for an unknown resource', { aud: undefined, resource: 'https://evil.example/mcp' }, 'invalid_target'],
    ['when aud and resource differ', { resource: LABS }, 'invalid_target'],
    ['without scope', { scope: undefined }, 'invalid_scope'],
    ['for a malformed scope', { scope: 'patient/Observation.dus' }, 'invalid_scope'],
    ['for a lower-case FHIR type', { scope: 'patient/observation.rs' }, 'invalid_scope'],
    ['for a capital Patient/ prefix', { scope: 'Patient/Observation.rs' }, 'invalid_scope'],
    ['for more than the registration', { scope: 'patient/*.cruds' }, 'invalid_scope'],
    ['for system scopes', { scope: 'system/*.rs' }, 'invalid_scope'],
    ['for an unknown launch', { launch: 'xyz', scope: 'launch patient/*.rs' }, 'invalid_request'],
    ['for launch without a launch', { scope: 'launch patient/*.rs' }, 'invalid_request'],
    ['with prompt=none', { prompt: 'none' }, 'login_required'],
    ['with a response type other than code', { response_type: 'token' }, 'unsupported_response_type'],
  ])('%s', async (_name, parameters: Record<string, string | undefined>, error) => {
    const { url, state } = world.authorizeUrl(parameters);
    const response = await fetch(url, { redirect: 'manual' });
    const location = response.headers.get('location') ?? '';
    const answered = params(location.replace('#', '?'));
    expect(location.startsWith(CALLBACK)).toBe(true);
    expect(answered).toMatchObject({ error, state, iss: world.issuer });
    expect(world.records).toMatchObject([{ event: 'token.refused', outcome: 4, method: 'authorize' }]);
  });

  it('for an account with no patients', async () => {
    const { url, state } = world.authorizeUrl();
    const callback = await signIn({ ...person, username: 'none', url });
    expect(params(callback)).toMatchObject({ error: 'access_denied', state, iss: world.issuer });
    expect(world.records[0]).toMatchObject({ event: 'token.refused', reason: 'the account has no patients' });
  });

  it.each([
    ['of another account', 'bo'],
    ['who does not exist', 'nobody'],
    ['by reference', 'Patient/ann'],
    ['who is empty', ''],
    ['with the wrong case', 'ANN'],
  ])('for a submitted patient %s', async (_name, patient) => {
    const { url, state } = world.authorizeUrl();
    const browser = createScriptedBrowser();
    const signInVisit = await browser.open(url, CALLBACK);
    if (!('url' in signInVisit)) throw new Error('no page');
    const picker = await browser.submit(
      signInVisit.url,
      [
        ['username', 'one'],
        ['password', 'synthetic-only'],
        ['do', 'sign-in'],
      ],
      CALLBACK,
    );
    if (!('url' in picker)) throw new Error('no page');
    expect(picker.page).toContain('Ann Hollis');
    expect(picker.page).not.toContain('Bo Hollis');
    const end = await browser.submit(
      picker.url,
      [
        ['patient', patient],
        ['do', 'pick'],
      ],
      CALLBACK,
    );
    expect('callback' in end && params(end.callback)).toMatchObject({ error: 'access_denied', state, iss: world.issuer });
    expect(world.records.at(-1)).toMatchObject({ reason: 'the patient is not among those of the account' });
  });
});

describe('a launch ends on a page, without redirect,', () => {
  it.each([
    ['for an unregistered redirect URI', { redirect_uri: 'https://evil.example/callback' }],
    ['for a redirect URI with a longer path', { redirect_uri: `${CALLBACK}/x` }],
    ['for an unknown client', { client_id: 'stranger' }],
  ])('%s', async (_name, parameters) => {
    const response = await fetch(world.authorizeUrl(parameters).url, { redirect: 'manual', headers: { accept: 'text/html' } });
    expect(response.status).toBe(400);
    expect(response.headers.get('location')).toBeNull();
    expect(await response.text()).toContain('data-step="error"');
  });

  it('when the flow is not that of this browser', async () => {
    const visit = await createScriptedBrowser().open(world.authorizeUrl().url, CALLBACK);
    const stolen = await fetch('url' in visit ? visit.url : '');
    expect(stolen.status).toBe(400);
    expect(await stolen.text()).not.toContain('type="password"');
  });
});

describe('the pages', () => {
  it('show who may be opened without any patient id in a URL, load nothing and run nothing', async () => {
    const visits: string[] = [];
    const recording: typeof fetch = async (input, init) => {
      visits.push(String(input));
      const response = await fetch(input, init);
      if (response.status === 200) {
        const policy = response.headers.get('content-security-policy') ?? '';
        expect(policy).toContain("default-src 'none'");
        expect(policy).toContain("frame-ancestors 'none'");
        expect(policy).not.toContain('script-src');
        expect(response.headers.get('cache-control')).toBe('no-store');
      }
      return response;
    };
    const callback = await signIn({ ...person, url: world.authorizeUrl().url, fetch: recording });
    expect(params(callback).code).toBeTruthy();
    for (const url of [...visits, callback]) expect(url).not.toMatch(/\bbo\b|\bann\b|Hollis/);
  });

  it('say the same for a wrong name and a wrong password', async () => {
    const page = async (username: string, password: string) => {
      const browser = createScriptedBrowser();
      const visit = await browser.open(world.authorizeUrl().url, CALLBACK);
      const url = 'url' in visit ? visit.url : '';
      const answer = await browser.submit(
        url,
        [
          ['username', username],
          ['password', password],
          ['do', 'sign-in'],
        ],
        CALLBACK,
      );
      return 'page' in answer ? answer.page.replaceAll(/\/interaction\/[\w-]+/g, '') : '';
    };
    const [name, password] = [await page('stranger', 'synthetic-only'), await page('clin', 'wrong')];
    expect(name).toContain('role="alert"');
    expect(name).toBe(password);
    await expect(signIn({ ...person, url: world.authorizeUrl().url, password: 'wrong' })).rejects.toThrow('did not accept');
  });

  it('are searched by a scripted person when the list is long', async () => {
    const crowd = await startWorld((config) => ({ ...config, people: crowdOf(60) }));
    try {
      const { claims } = await crowd.launch({ patient: { name: 'Person 57 Hollis', birthDate: '1977-01-02' } });
      expect(claims.patient).toBe('p57');
    } finally {
      await crowd.close();
    }
  });

  it('refuse a scripted person who names somebody outside the list', async () => {
    const stranger = { name: 'Bo Hollis', birthDate: '1961-04-24' };
    await expect(signIn({ ...person, url: world.authorizeUrl().url, patient: stranger })).rejects.toThrow('not in the list');
    const beyond = signIn({ ...person, url: world.authorizeUrl().url, patient: 98 });
    await expect(beyond).rejects.toThrow(/^there is no place 99 in the list of patients, which shows \d+$/);
  });
});

describe('redeeming a code is refused', () => {
  it('with the wrong verifier', async () => {
    const answer = await world.launch({ redeem: { code_verifier: 'x'.repeat(43) } });
    expect(answer).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
    expect(world.records).toMatchObject([{ event: 'token.refused', code: 400, reason: 'invalid_grant', clientId: 'portal' }]);
  });

  it('with another redirect URI', async () => {
    expect(await world.launch({ redeem: { redirect_uri: `${CALLBACK}2` } })).toMatchObject({
      status: 400,
      body: { error: 'invalid_grant' },
    });
  });

  it('for another client', async () => {
    const { url, verifier } = world.authorizeUrl();
    const code = params(await signIn({ ...person, url })).code ?? '';
    const form = { grant_type: 'authorization_code', code, redirect_uri: CALLBACK, code_verifier: verifier };
    expect(await world.token('browser-app', form)).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
  });

  it('twice, and the second time ends the refresh token and every exchange of the first', async () => {
    const { url, verifier } = world.authorizeUrl({ scope: `${LAUNCH_SCOPE} offline_access` });
    const code = params(await signIn({ ...person, url })).code ?? '';
    const form = { grant_type: 'authorization_code', code, redirect_uri: CALLBACK, code_verifier: verifier };
    const first = await world.token('portal', form);
    expect(first.body.refresh_token).toBeTruthy();
    expect((await world.exchange('portal', first.accessToken, TRIAGE, 'patient/hmcp:read')).status).toBe(200);
    expect(await world.token('portal', form)).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
    const refresh = { grant_type: 'refresh_token', refresh_token: String(first.body.refresh_token) };
    expect(await world.token('portal', refresh)).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
    const exchange = await world.exchange('portal', first.accessToken, TRIAGE, 'patient/hmcp:read');
    expect(exchange).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
  });
});

describe('a refresh token', () => {
  const launch = () => world.launch({ patient: bo, parameters: { scope: `${LAUNCH_SCOPE} offline_access` } });
  const refresh = (token: unknown, more: Record<string, string> = {}) =>
    world.token('portal', { grant_type: 'refresh_token', refresh_token: String(token), ...more });

  it('keeps the patient, and is replaced at each use', async () => {
    const first = await launch();
    const second = await refresh(first.body.refresh_token);
    expect(second).toMatchObject({ status: 200, body: { patient: 'bo' }, claims: { patient: 'bo', aud: FHIR } });
    expect(second.body.scope).toBe(first.body.scope);
    expect(second.body.refresh_token).not.toBe(first.body.refresh_token);
    expect(second.headers.get('pragma')).toBe('no-cache');
  });

  it('gives fewer scopes on request, never more', async () => {
    const first = await launch();
    const narrow = await refresh(first.body.refresh_token, { scope: 'patient/*.rs' });
    expect(narrow.body.scope).toBe('patient/*.rs');
    const wide = await refresh(narrow.body.refresh_token, { scope: 'user/*.rs' });
    expect(wide).toMatchObject({ status: 400, body: { error: 'invalid_scope' } });
  });

  it('used twice ends the whole family', async () => {
    const first = await launch();
    const second = await refresh(first.body.refresh_token);
    expect((await refresh(first.body.refresh_token)).body.error).toBe('invalid_grant');
    expect((await refresh(second.body.refresh_token)).body.error).toBe('invalid_grant');
  });

  it('is worthless once revoked, and so is the exchange of its access tokens', async () => {
    const first = await launch();
    const body = new URLSearchParams({
      token: String(first.body.refresh_token),
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: await world.assertion('portal'),
    });
    expect((await world.post('/token/revocation', body)).status).toBe(200);
    expect((await refresh(first.body.refresh_token)).body.error).toBe('invalid_grant');
    expect((await world.exchange('portal', first.accessToken, TRIAGE, 'patient/hmcp:read')).body.error).toBe('invalid_grant');
  });

  it('is refused after the access to the patient was withdrawn, and no other patient is affected', async () => {
    const own = await startWorld();
    try {
      const parameters = { scope: `${LAUNCH_SCOPE} offline_access` };
      const [forBo, forAnn] = [await own.launch({ patient: bo, parameters }), await own.launch({ patient: 0, parameters })];
      own.server.directory.withdraw('clin', 'bo');
      const again = (token: unknown) => own.token('portal', { grant_type: 'refresh_token', refresh_token: String(token) });
      expect((await again(forBo.body.refresh_token)).body).toMatchObject({ error: 'invalid_grant' });
      expect(own.records.at(-1)?.reason).toBe('the account may no longer open the record');
      expect((await own.exchange('portal', forBo.accessToken, TRIAGE, 'patient/hmcp:read')).body.error).toBe('invalid_grant');
      expect((await again(forAnn.body.refresh_token)).status).toBe(200);
    } finally {
      await own.close();
    }
  });
});
