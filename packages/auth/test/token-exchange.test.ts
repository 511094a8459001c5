import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  AuthorityUnavailable,
  type ClientKey,
  createClientCredentials,
  createTokenExchanger,
  ExchangeRefused,
  type ExchangeRequest,
} from '../src/index.js';
import { clock, mint, RESOURCE, type SigningKey, signingKey, T0, type TinyIssuer, tinyIssuer } from './support/issuer.js';

const TRIAGE = 'https://triage.example/mcp';
let issuer: TinyIssuer;
let time: ReturnType<typeof clock>;
let key: SigningKey;
let subjectToken: string;
let forms: URLSearchParams[];
beforeEach(async () => {
  issuer = await tinyIssuer();
  time = clock();
  key = await signingKey('c1', 'ES384');
  forms = [];
  subjectToken = await mint(issuer, { claims: { aud: TRIAGE, scope: 'patient/*.rs', tenant: 't1' } });
  answer();
});
afterEach(() => issuer.close());

/** What the authorization server says from now on: a token of the subject, with these changes. */
function answer(body: Record<string, unknown> = {}, claims: Record<string, unknown> = {}, status = 200) {
  issuer.on('/token', async (_request, form, response) => {
    forms.push(form);
    response.statusCode = status;
    if (status !== 200) return body;
    const at = time.now() / 1000;
    const scope = form.get('scope') ?? '';
    const all = { aud: form.get('resource'), scope, tenant: 't1', jti: `x${forms.length}`, exp: at + 120, ...claims };
    const access_token = await mint(issuer, { at, claims: all });
    const issued_token_type = 'urn:ietf:params:oauth:token-type:access_token';
    return { access_token, issued_token_type, token_type: 'Bearer', expires_in: 120, scope, ...body };
  });
}
const exchanger = () =>
  createTokenExchanger({ issuer: issuer.url, client: { clientId: 'triage', privateKey: key.privateJwk }, now: time.now });
const wish = (more: Partial<ExchangeRequest> = {}): ExchangeRequest => ({
  ...{ subjectToken, resource: RESOURCE, scope: 'patient/Observation.rs' },
  ...more,
});
const refusedWith = async (promise: Promise<unknown>) => {
  const error = await promise.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(ExchangeRefused);
  return (error as ExchangeRefused).error;
};

describe('the request', () => {
  it('is RFC 8693 with one resource, a scope and nothing about the patient', async () => {
    const token = await exchanger().exchange(wish());
    expect(token).toMatchObject({ scope: 'patient/Observation.rs', expiresAt: T0 + 120 });
    const { client_assertion, ...form } = Object.fromEntries(forms[0] ?? []);
    expect(form).toEqual({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: subjectToken,
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      resource: RESOURCE,
      scope: 'patient/Observation.rs',
      client_id: 'triage',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    });
    const { payload } = await jwtVerify(client_assertion ?? '', createLocalJWKSet({ keys: [key.publicJwk] }), {
      ...{ issuer: 'triage', subject: 'triage', audience: `${issuer.url}/token`, typ: 'JWT', algorithms: ['ES384'] },
      currentDate: new Date(time.now()),
    });
    expect(payload.exp).toBeLessThanOrEqual(T0 + 300);
    expect(payload.jti).toMatch(/^[\w-]{22}$/);
    expect(decodeProtectedHeader(client_assertion ?? '')).toEqual({ alg: 'ES384', kid: 'c1', typ: 'JWT' });
  });

  it('carries a fresh assertion every time', async () => {
    const triage = exchanger();
    await triage.exchange(wish());
    await triage.exchange(wish({ scope: 'patient/Condition.rs' }));
    const [one, two] = forms.map((form) => form.get('client_assertion'));
    expect(one).not.toBe(two);
  });
});

describe('inside a session', () => {
  const session = (sid?: string) => ({ __hmcp: { v: 1, ...(sid === undefined ? {} : { sid }), chain: [] } });

  it('sends the seal, and takes a token of that session', async () => {
    answer({}, session('ctx_1'));
    await expect(exchanger().exchange(wish({ sid: 'ctx_1', seal: 'a.b.c' }))).resolves.toBeDefined();
    expect(forms[0]?.get('hmcp_seal')).toBe('a.b.c');
  });

  it('a renewed seal of the same session is no reason for another token', async () => {
    answer({}, session('ctx_1'));
    const triage = exchanger();
    await triage.exchange(wish({ sid: 'ctx_1', seal: 'a.b.c' }));
    await triage.exchange(wish({ sid: 'ctx_1', seal: 'a.b.d' }));
    expect(forms).toHaveLength(1);
  });

  it.each([
    ['of no session', {}],
    ['of an empty claim', { __hmcp: {} }],
    ['without its sid', session()],
    ['of another session', session('ctx_2')],
  ])('a token %s is not used', async (_, claims) => {
    answer({}, claims);
    expect(await refusedWith(exchanger().exchange(wish({ sid: 'ctx_1', seal: 'a.b.c' })))).toBe('context_changed');
  });
});

describe('the cache', () => {
  it('keeps one token per subject token, resource, scope and session', async () => {
    const triage = exchanger();
    const first = await triage.exchange(wish());
    expect(await triage.exchange(wish())).toBe(first);
    expect(forms).toHaveLength(1);
    const otherSubject = await mint(issuer, { claims: { aud: TRIAGE, scope: 'patient/*.rs', tenant: 't1', jti: 'j2' } });
    const others: Partial<ExchangeRequest>[] = [
      { subjectToken: otherSubject },
      { resource: 'https://medications.example/mcp' },
      { scope: 'patient/Observation.r' },
      { sid: 's1' },
      { sid: 's2' },
    ];
    for (const other of others) {
      answer({}, { __hmcp: { v: 1, sid: other.sid, chain: [] } });
      await triage.exchange(wish(other));
    }
    expect(forms).toHaveLength(1 + others.length);
  });

  it('never gives a token of one patient for another, though jti and everything else are equal', async () => {
    const triage = exchanger();
    const first = await triage.exchange(wish());
    const ofB = await mint(issuer, { claims: { aud: TRIAGE, scope: 'patient/*.rs', tenant: 't1', patient: 'B2' } });
    answer({}, { patient: 'B2' });
    expect((await triage.exchange(wish({ subjectToken: ofB }))).accessToken).not.toBe(first.accessToken);
  });

  it('sends one request for two calls at once, and one more after a failure', async () => {
    const triage = exchanger();
    const [one, two] = await Promise.all([triage.exchange(wish()), triage.exchange(wish())]);
    expect(one).toBe(two);
    expect(forms).toHaveLength(1);
    answer({ error: 'invalid_target' }, {}, 400);
    const both = await Promise.allSettled([triage.exchange(wish({ sid: 'x' })), triage.exchange(wish({ sid: 'x' }))]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(forms).toHaveLength(2);
    answer({}, { __hmcp: { v: 1, sid: 'x', chain: [] } });
    await triage.exchange(wish({ sid: 'x' }));
    expect(forms).toHaveLength(3);
  });

  it('uses a token only while it outlives the call', async () => {
    const triage = exchanger();
    const first = await triage.exchange(wish());
    time.advance(90);
    expect(await triage.exchange(wish())).toBe(first);
    expect(await triage.exchange(wish({ lifeSeconds: 31 }))).not.toBe(first);
    time.advance(91);
    await triage.exchange(wish());
    expect(forms).toHaveLength(3);
  });
});

describe('life', () => {
  it('a parent that does not outlive the call is refused before anything is sent', async () => {
    time.advance(271);
    expect(await refusedWith(exchanger().exchange(wish()))).toBe('subject_expiring');
    expect(issuer.asked).toEqual([]);
    await expect(exchanger().exchange(wish({ lifeSeconds: 29 }))).resolves.toMatchObject({ expiresAt: T0 + 300 });
  });

  it('a call longer than any exchanged token asks for the longest there is', async () => {
    await expect(exchanger().exchange(wish({ lifeSeconds: 3600 }))).resolves.toBeDefined();
  });

  it.each([
    ['its own exp', {}, { exp: T0 + 29 }],
    ['what the server says', { expires_in: 29 }, {}],
  ])('an answer shorter than the call by %s is refused and not remembered', async (_, body, claims) => {
    const triage = exchanger();
    answer(body, claims);
    expect(await refusedWith(triage.exchange(wish()))).toBe('life_too_short');
    answer();
    await expect(triage.exchange(wish())).resolves.toBeDefined();
  });

  it('never counts on more life than the parent has', async () => {
    answer({ expires_in: 3600 }, { exp: T0 + 3600 });
    await expect(exchanger().exchange(wish())).resolves.toMatchObject({ expiresAt: T0 + 300 });
  });
});

describe('the answer', () => {
  it.each([
    'invalid_scope',
    'invalid_target',
    'invalid_grant',
    'invalid_client',
  ])('%s is a refusal with that code', async (error) => {
    answer({ error, error_description: 'patient A1 may not' }, {}, 400);
    const refused = exchanger().exchange(wish());
    expect(await refusedWith(refused)).toBe(error);
    await expect(refused).rejects.not.toThrow('A1');
  });

  it.each([{ error: 'Patient A1: no!' }, { error: 7 }, {}, [], null])('words %j of the server are not repeated', async (body) => {
    answer(body as Record<string, unknown>, {}, 403);
    expect(await refusedWith(exchanger().exchange(wish()))).toBe('invalid_answer');
  });

  it.each([
    ['no token', { access_token: undefined }],
    ['an empty token', { access_token: '' }],
    ['another token type', { token_type: 'DPoP' }],
    ['a refresh token', { issued_token_type: 'urn:ietf:params:oauth:token-type:refresh_token' }],
    ['no life', { expires_in: undefined }],
    ['a life as text', { expires_in: '120' }],
    ['a negative life', { expires_in: -1 }],
  ])('with %s is not used', async (_, body) => {
    answer(body);
    expect(await refusedWith(exchanger().exchange(wish()))).toBe('invalid_answer');
  });

  it.each([
    'patient/*.rs',
    'patient/Observation.rs patient/Condition.rs',
    'user/Observation.rs',
    'patient/Observation.cruds',
  ])('that grants %s for patient/Observation.rs is not used', async (scope) => {
    answer({ scope });
    expect(await refusedWith(exchanger().exchange(wish()))).toBe('scope_widened');
  });

  it('may grant less, and says so', async () => {
    answer({ scope: 'patient/Observation.r' });
    await expect(exchanger().exchange(wish())).resolves.toMatchObject({ scope: 'patient/Observation.r' });
  });

  it.each([
    ['patient', { patient: 'B2' }],
    ['missing patient', { patient: undefined }],
    ['tenant', { tenant: 't2' }],
    ['encounter', { encounter: 'E1' }],
    ['person', { sub: 'bob' }],
    ['issuer', { iss: 'https://other.example' }],
    ['audience', { aud: 'https://medications.example/mcp' }],
    ['second audience', { aud: [RESOURCE, 'https://medications.example/mcp'] }],
  ])('with another %s is not used', async (_, claims) => {
    answer({}, claims);
    expect(await refusedWith(exchanger().exchange(wish()))).toBe('context_changed');
  });

  it('may be opaque', async () => {
    answer({ access_token: 'opaque' });
    await expect(exchanger().exchange(wish())).resolves.toMatchObject({ accessToken: 'opaque', expiresAt: T0 + 120 });
  });

  it('that does not come means unavailable, and nothing is remembered', async () => {
    const triage = exchanger();
    answer({}, {}, 503);
    await expect(triage.exchange(wish())).rejects.toBeInstanceOf(AuthorityUnavailable);
    answer();
    await expect(triage.exchange(wish())).resolves.toBeDefined();
    const unreachable = createTokenExchanger({
      ...{ issuer: 'http://127.0.0.1:9', client: { clientId: 'triage', privateKey: key.privateJwk }, now: time.now },
    });
    await expect(unreachable.exchange(wish())).rejects.toBeInstanceOf(AuthorityUnavailable);
  });

  it('is not even asked for without a scope', async () => {
    expect(await refusedWith(exchanger().exchange(wish({ scope: ' ' })))).toBe('invalid_scope');
    expect(issuer.asked).toEqual([]);
  });
});

describe('configuration', () => {
  it.each([
    ['issuer', { issuer: 'http://as.example' }, {}],
    ['client.privateKey', {}, { d: undefined }],
    ['client.privateKey.kid', {}, { kid: undefined }],
    ['client.privateKey.alg', {}, { alg: 'HS256' }],
    ['client.privateKey.alg', {}, { alg: 'none' }],
  ])('names the unusable option %s', (option, wrong, jwk) => {
    const privateKey = { ...key.privateJwk, ...jwk } as SigningKey['privateJwk'];
    const make = () => createTokenExchanger({ issuer: issuer.url, client: { clientId: 'triage', privateKey }, ...wrong });
    expect(make).toThrow(TypeError);
    expect(make).toThrow(`"${option}"`);
  });

  it.each([
    ['"client" is missing', undefined],
    ['"client" is missing', null],
    ['"client" is missing', 'triage'],
    ['"client.clientId" is missing', {}],
    ['"client.clientId" is missing', { clientId: '' }],
    ['"client.privateKey" is missing', { clientId: 'triage' }],
    ['"client.privateKey" is missing', { clientId: 'triage', privateKey: 'a.pem' }],
  ])('of which a part was not configured is refused: %s', (message, client) => {
    const options = { issuer: issuer.url, client: client as unknown as ClientKey };
    for (const make of [createTokenExchanger, createClientCredentials]) {
      expect(() => make(options)).toThrow(TypeError);
      expect(() => make(options)).toThrow(message);
    }
  });
});
