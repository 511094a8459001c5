import { createHmac, createPublicKey } from 'node:crypto';
import { base64url, CompactSign } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AuthorityUnavailable, createTokenVerifier, TokenError, type TokenVerifierOptions } from '../src/index.js';
import { clock, loopback, METADATA, mint, RESOURCE, signingKey, T0, type TinyIssuer, tinyIssuer } from './support/issuer.js';

let issuer: TinyIssuer;
let time: ReturnType<typeof clock>;
beforeEach(async () => {
  issuer = await tinyIssuer();
  time = clock();
});
afterEach(() => issuer.close());

const FHIR = 'https://fhir.example/r4';
const verifier = (options: Partial<TokenVerifierOptions> = {}) =>
  createTokenVerifier({ resource: RESOURCE, issuers: [{ issuer: issuer.url, fhirServer: FHIR }], now: time.now, ...options });

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(TokenError);
  const refused = error as TokenError;
  expect([refused.status, refused.error, refused.message]).toEqual([401, 'invalid_token', 'access token missing or not valid']);
  return refused.reason;
}
const encode = (value: unknown) => base64url.encode(typeof value === 'string' ? value : JSON.stringify(value));
const signRaw = (payload: string, header: Record<string, unknown> = {}) =>
  new CompactSign(new TextEncoder().encode(payload))
    .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'at+jwt', ...header })
    .sign(issuer.key.privateKey);

describe('a valid token', () => {
  it('yields what the server needs to know, with the FHIR base of the configured issuer', async () => {
    const token = await verifier().verify(
      await mint(issuer, { claims: { tenant: 't1', encounter: 'E9', fhirUser: `${FHIR}/Practitioner/p1`, txn: 'T-97' } }),
    );
    expect(token).toMatchObject({
      ...{ issuer: issuer.url, subject: 'alice', clientId: 'portal', audience: RESOURCE, fhirServer: FHIR, jti: 'j1' },
      ...{ patient: 'A1', tenant: 't1', encounter: 'E9', txn: 'T-97', hop: 1, firstClient: 'portal', actors: [], chain: [] },
      ...{ issuedAt: T0, expiresAt: T0 + 300, scope: 'patient/Observation.rs' },
    });
    expect(token.scopes).toHaveLength(1);
    expect(Object.isFrozen(token)).toBe(true);
  });

  it('may carry application/at+jwt, a one-member audience array and no scope', async () => {
    const sent = await mint(issuer, {
      header: { typ: 'application/at+jwt' },
      claims: { aud: [RESOURCE], scope: undefined, patient: undefined },
    });
    await expect(verifier().verify(sent)).resolves.toMatchObject({ scope: '', scopes: [], patient: undefined });
  });

  it.each(['RS256', 'EdDSA'])('may be signed with %s', async (alg) => {
    const key = await signingKey('k2', alg);
    issuer.jwks.keys.push(key.publicJwk);
    await expect(verifier().verify(await mint(issuer, { key }))).resolves.toMatchObject({ patient: 'A1' });
  });

  it('of a second hop yields its actors and chain', async () => {
    const chain = [{ jti: 'j0', client_id: 'portal', aud: 'https://triage.example/mcp', scope: 'patient/*.rs' }];
    const sent = await mint(issuer, {
      claims: { client_id: 'triage', act: { sub: 'triage' }, __hmcp: { v: 1, sid: 's1', chain } },
    });
    const token = await verifier().verify(sent);
    expect(token).toMatchObject({ actors: ['triage'], chain, hop: 2, firstClient: 'portal', clientId: 'triage', sid: 's1' });
  });

  it('is verified with configured keys without any fetch', async () => {
    const issuers = [{ issuer: issuer.url, fhirServer: FHIR, jwks: issuer.jwks }];
    await verifier({ issuers }).verify(await mint(issuer));
    expect(issuer.asked).toEqual([]);
  });
});

describe('signature and header', () => {
  it.each([
    ['nothing', ''],
    ['an opaque token', 'x8d0-opaque-token'],
    ['two parts', 'e30.e30'],
    ['five parts (JWE)', 'e30.e30.e30.e30.e30'],
    ['a header that is no JSON', `${encode('nope')}.e30.e30`],
    ['padding', `${encode({ alg: 'ES256' })}=.e30.e30`],
    ['a space', ' e30.e30.e30'],
    ['9000 characters', `e30.${'a'.repeat(9000)}.e30`],
    ['a header array', `${encode([])}.e30.e30`],
  ])('refuses %s without a fetch', async (_, sent) => {
    await refusal(verifier().verify(sent));
    expect(issuer.asked).toEqual([]);
  });

  it('refuses a token of more than 8 KiB, however well signed', async () => {
    await expect(verifier().verify(await mint(issuer, { claims: { more: 'x'.repeat(5000) } }))).resolves.toBeDefined();
    expect(await refusal(verifier().verify(await mint(issuer, { claims: { more: 'x'.repeat(6000) } })))).toBe('size');
  });

  it('refuses alg none', async () => {
    const [, payload] = (await mint(issuer)).split('.');
    for (const alg of ['none', 'None', 'NONE']) {
      expect(await refusal(verifier().verify(`${encode({ alg, kid: 'k1', typ: 'at+jwt' })}.${payload}.AA`))).toBe('algorithm');
      await refusal(verifier().verify(`${encode({ alg, kid: 'k1', typ: 'at+jwt' })}.${payload}.`));
    }
  });

  it('refuses HS256 signed with the public key of the issuer', async () => {
    const rsa = await signingKey('k2', 'RS256');
    issuer.jwks.keys.push(rsa.publicJwk);
    await expect(verifier().verify(await mint(issuer, { key: rsa }))).resolves.toBeDefined();
    const [, payload] = (await mint(issuer)).split('.');
    const signed = `${encode({ alg: 'HS256', kid: 'k2', typ: 'at+jwt' })}.${payload}`;
    const pem = createPublicKey({ key: rsa.publicJwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
    const mac = createHmac('sha256', pem).update(signed).digest('base64url');
    expect(await refusal(verifier().verify(`${signed}.${mac}`))).toBe('algorithm');
  });

  it('refuses an algorithm that is not allowed even where the key is right', async () => {
    const key = await signingKey('k2', 'PS256');
    issuer.jwks.keys.push(key.publicJwk);
    expect(await refusal(verifier().verify(await mint(issuer, { key })))).toBe('algorithm');
    await expect(verifier({ algorithms: ['PS256'] }).verify(await mint(issuer, { key }))).resolves.toBeDefined();
  });

  it('never uses a key that the token brings or points at, and never fetches it', async () => {
    const attacker = await loopback();
    const key = await signingKey('k1');
    attacker.on('/jwks', () => ({ keys: [key.publicJwk] }));
    const { kid: _, ...jwk } = key.publicJwk;
    for (const header of [{ jwk }, { jku: `${attacker.url}/jwks` }, { x5u: `${attacker.url}/jwks` }, { x5c: ['AA=='] }]) {
      expect(await refusal(verifier().verify(await mint(issuer, { key, header })))).toBe('signature');
      expect(await refusal(verifier().verify(await mint(issuer, { key, header: { ...header, kid: 'k9' } })))).toBe('unknown key');
    }
    expect(attacker.asked).toEqual([]);
    await attacker.close();
  });

  it.each([
    ['no type', { typ: undefined }, 'type'],
    ['an ID token or plain JWT', { typ: 'JWT' }, 'type'],
    ['a transaction token', { typ: 'txntoken+jwt' }, 'type'],
    ['a seal', { typ: 'hmcp-context+jwt' }, 'type'],
    ['a type that only begins right', { typ: 'at+jwt2' }, 'type'],
    ['no key id', { kid: undefined }, 'no key id'],
    ['an empty key id', { kid: '' }, 'no key id'],
  ])('refuses %s', async (_, header, reason) => {
    expect(await refusal(verifier().verify(await mint(issuer, { header })))).toBe(reason);
  });

  it('refuses critical headers, known ones included', async () => {
    const payload = (await mint(issuer)).split('.')[1];
    for (const crit of [['x-new'], ['b64'], []]) {
      const header = encode({ alg: 'ES256', kid: 'k1', typ: 'at+jwt', crit, b64: true });
      expect(await refusal(verifier().verify(`${header}.${payload}.AAAA`))).toBe('critical header');
    }
  });

  it('refuses a changed payload and a changed signature', async () => {
    const [header, payload, signature] = (await mint(issuer)).split('.');
    const other = encode({ ...JSON.parse(new TextDecoder().decode(base64url.decode(payload ?? ''))), patient: 'B2' });
    expect(await refusal(verifier().verify(`${header}.${other}.${signature}`))).toBe('signature');
    expect(await refusal(verifier().verify(`${header}.${payload}.${'A'.repeat(86)}`))).toBe('signature');
  });
});

describe('issuer, audience and claims', () => {
  it.each([
    ['a trailing slash', (url: string) => `${url}/`],
    ['upper case', (url: string) => url.toUpperCase()],
    ['localhost for 127.0.0.1', (url: string) => url.replace('127.0.0.1', 'localhost')],
    ['a path', (url: string) => `${url}/x`],
    ['nothing', () => ''],
  ])('refuses an issuer that differs by %s, without a fetch', async (_, change) => {
    expect(await refusal(verifier().verify(await mint(issuer, { claims: { iss: change(issuer.url) } })))).toBe('unknown issuer');
    expect(issuer.asked).toEqual([]);
  });

  it('refuses a token that one trusted issuer signs in the name of another', async () => {
    const other = await tinyIssuer();
    const issuers = [issuer, other].map(({ url }) => ({ issuer: url, fhirServer: FHIR }));
    const sent = await mint(issuer, { claims: { iss: other.url } });
    expect(await refusal(verifier({ issuers }).verify(sent))).toBe('signature');
    await other.close();
  });

  it.each([
    ['a sibling agent', 'https://medications.example/mcp'],
    ['a trailing slash', `${RESOURCE}/`],
    ['another case', RESOURCE.toUpperCase()],
    ['the client (an ID token)', 'portal'],
    ['us and somebody else', [RESOURCE, 'https://other.example']],
    ['an empty array', []],
  ])('refuses the audience %s', async (_, aud) => {
    expect(await refusal(verifier().verify(await mint(issuer, { claims: { aud } })))).toBe('audience');
  });

  it.each([
    ['no audience', { aud: undefined }],
    ['a numeric audience', { aud: 7 }],
    ['no subject', { sub: undefined }],
    ['an empty subject', { sub: '' }],
    ['no client', { client_id: undefined }],
    ['no jti', { jti: undefined }],
    ['an empty jti', { jti: '' }],
    ['no exp', { exp: undefined }],
    ['exp as text', { exp: String(T0 + 300) }],
    ['exp beyond integers', { exp: 1e300 }],
    ['no iat', { iat: undefined }],
    ['scope as array', { scope: ['patient/Observation.rs'] }],
    ['scope with a tab', { scope: 'openid\tpatient/Observation.rs', patient: undefined }],
    ['scope with a line feed', { scope: 'openid\npatient/Observation.rs', patient: undefined }],
    ['scope with a quote', { scope: 'hmcp:access "' }],
    ['patient as array', { patient: ['A1'] }],
    ['patient as reference', { patient: 'Patient/A1' }],
    ['patient as URL', { patient: `${FHIR}/Patient/A1` }],
    ['an empty patient', { patient: '' }],
    ['a padded patient', { patient: ' A1' }],
    ['a patient with a line feed', { patient: 'A1\n' }],
    ['a patient with NUL', { patient: 'A1\u0000' }],
    ['a full-width patient', { patient: 'Ａ1' }],
    ['a numeric patient', { patient: 1 }],
    ['a null patient', { patient: null }],
    ['a patient of 65 characters', { patient: 'a'.repeat(65) }],
    ['encounter as object', { encounter: { id: 'E9' } }],
    ['tenant as array', { tenant: ['t1'] }],
    ['fhirUser as object', { fhirUser: {} }],
    ['another version of __hmcp', { __hmcp: { v: 2, chain: [] } }],
    ['an unknown member of __hmcp', { __hmcp: { v: 1, chain: [], epoch: 7 } }],
    ['act without sub', { act: {} }],
  ])('refuses %s', async (_, claims) => {
    expect(await refusal(verifier().verify(await mint(issuer, { claims })))).toBe('claims');
  });

  it.each([{ jkt: 'x' }, { 'x5t#S256': 'x' }, {}, null])('refuses a token bound to a key: cnf %j', async (cnf) => {
    expect(await refusal(verifier().verify(await mint(issuer, { claims: { cnf } })))).toBe('bound to a key');
  });

  it('does not read scopes from scp', async () => {
    const sent = await mint(issuer, { claims: { scope: undefined, scp: ['patient/*.rs'], patient: undefined } });
    await expect(verifier().verify(sent)).resolves.toMatchObject({ scopes: [] });
  });

  it.each([
    ['on the top level', (claims: string) => claims.replace('"patient"', '"patient":"B2","patient"')],
    ['written with an escape', (claims: string) => claims.replace('"patient"', '"p\\u0061tient":"B2","patient"')],
    ['inside', (claims: string) => claims.replace('}', ',"act":{"sub":"a","sub":"b"}}')],
  ])('refuses a claim that is there twice, %s', async (_, change) => {
    const claims = JSON.stringify({
      ...{ iss: issuer.url, sub: 'alice', aud: RESOURCE, client_id: 'portal', jti: 'j1', iat: T0, exp: T0 + 300 },
      patient: 'A1',
    });
    await expect(verifier().verify(await signRaw(claims))).resolves.toBeDefined();
    expect(await refusal(verifier().verify(await signRaw(change(claims))))).toBe('repeated claim');
  });

  it.each(['null', '[]', '"x"', '7', 'not json', ''])('refuses the payload %s', async (payload) => {
    await refusal(verifier().verify(await signRaw(payload)));
  });

  it('refuses an act nested hundreds deep', async () => {
    let act: unknown = { sub: 'a' };
    for (let depth = 0; depth < 250; depth += 1) act = { sub: 'a', act };
    expect(await refusal(verifier().verify(await mint(issuer, { claims: { act } })))).toBe('chain');
  });
});

describe('patient rule', () => {
  it.each([
    'patient/hmcp:read',
    'openid patient/Observation.rs',
    'patient/nonsense',
    'patient/',
    'user/*.rs  patient/x',
  ])('refuses %j without a patient', async (scope) => {
    expect(await refusal(verifier().verify(await mint(issuer, { claims: { scope, patient: undefined } })))).toBe(
      'patient missing',
    );
    await expect(verifier().verify(await mint(issuer, { claims: { scope } }))).resolves.toMatchObject({ patient: 'A1' });
  });

  it.each(['user/Patient.s', 'hmcp:access', 'system/*.rs', ''])('accepts %j without a patient', async (scope) => {
    await expect(verifier().verify(await mint(issuer, { claims: { scope, patient: undefined } }))).resolves.toMatchObject({
      scope,
    });
  });
});

describe('chain', () => {
  const record = (client_id: string, scope = 'patient/*.rs') => ({
    jti: `of-${client_id}`,
    client_id,
    aud: 'https://x.example',
    scope,
  });
  it.each([
    ['act without chain', { client_id: 'triage', act: { sub: 'triage' } }],
    ['chain without act', { __hmcp: { v: 1, chain: [record('portal')] } }],
    ['act that is not the client', { act: { sub: 'triage' }, __hmcp: { v: 1, chain: [record('portal')] } }],
    ['chain longer than act', { client_id: 't', act: { sub: 't' }, __hmcp: { v: 1, chain: [record('portal'), record('t')] } }],
    [
      'a spliced record',
      {
        client_id: 'labs',
        act: { sub: 'labs', act: { sub: 'triage' } },
        __hmcp: { v: 1, chain: [record('portal'), record('evil')] },
      },
    ],
    [
      'a scope wider than its parent',
      { client_id: 't', act: { sub: 't' }, __hmcp: { v: 1, chain: [record('portal', 'patient/Condition.rs')] } },
    ],
  ])('refuses %s', async (_, claims) => {
    expect(await refusal(verifier().verify(await mint(issuer, { claims })))).toBe('chain');
  });
});

describe('tenants', () => {
  const split = () => [
    { issuer: issuer.url, fhirServer: 'https://fhir.example/t1', tenants: ['t1'] },
    { issuer: issuer.url, fhirServer: 'https://fhir.example/t2', tenants: ['t2'] },
  ];
  it('maps issuer and tenant to exactly one FHIR server', async () => {
    const labs = verifier({ issuers: split() });
    await expect(labs.verify(await mint(issuer, { claims: { tenant: 't2' } }))).resolves.toMatchObject({
      fhirServer: 'https://fhir.example/t2',
    });
  });
  it.each([undefined, 't3', 'T1'])('refuses tenant %s where others are configured', async (tenant) => {
    expect(await refusal(verifier({ issuers: split() }).verify(await mint(issuer, { claims: { tenant } })))).toBe('tenant');
  });
});

describe('time', () => {
  it.each([
    ['expired past the leeway', { exp: T0 - 30 }, 'expired'],
    ['not valid yet', { nbf: T0 + 31 }, 'not valid yet'],
    ['issued in an hour', { iat: T0 + 3600, exp: T0 + 7200 }, 'issued in the future'],
    ['issued 31 s ahead', { iat: T0 + 31 }, 'issued in the future'],
    ['older than an hour', { iat: T0 - 3631 }, 'too old'],
  ])('refuses a token %s', async (_, claims, reason) => {
    expect(await refusal(verifier().verify(await mint(issuer, { claims })))).toBe(reason);
  });

  it.each([
    ['just expired', { exp: T0 - 29 }],
    ['valid in 30 s', { nbf: T0 + 30 }],
    ['issued 30 s ahead', { iat: T0 + 30 }],
    ['an hour old', { iat: T0 - 3630 }],
  ])('tolerates a clock difference: %s', async (_, claims) => {
    await expect(verifier().verify(await mint(issuer, { claims }))).resolves.toBeDefined();
  });

  it('refuses a remembered token past exp, and one whose clock went back before nbf', async () => {
    const labs = verifier();
    const sent = await mint(issuer, { claims: { exp: T0 + 20, nbf: T0 } });
    await labs.verify(sent);
    time.advance(-31);
    expect(await refusal(labs.verify(sent))).toBe('not valid yet');
    time.advance(31 + 49);
    await labs.verify(sent);
    time.advance(1);
    expect(await refusal(labs.verify(sent))).toBe('expired');
  });

  it('remembers a token for no more than 60 s: a removed key ends it', async () => {
    const labs = verifier();
    const sent = await mint(issuer);
    const first = await labs.verify(sent);
    expect(await labs.verify(sent)).toBe(first);
    time.advance(59);
    expect(await labs.verify(sent)).toBe(first);
    time.advance(1);
    expect(await labs.verify(sent)).not.toBe(first);
  });

  it('remembers a token only while the issuer’s keys are those it was verified with', async () => {
    const labs = verifier();
    const sent = await mint(issuer);
    await labs.verify(sent);
    const next = await signingKey('k2');
    issuer.jwks.keys.splice(0, 1, next.publicJwk);
    time.advance(31);
    await labs.verify(await mint(issuer, { key: next })); // an unknown key: they are read anew
    expect(await refusal(labs.verify(sent))).toBe('unknown key');
  });

  it.each([
    [
      'with the signature of another',
      async (sent: string) =>
        `${sent.slice(0, sent.lastIndexOf('.'))}.${(await mint(issuer, { claims: { jti: 'j2' } })).split('.')[2]}`,
    ],
    ['with no signature', async (sent: string) => `${sent.slice(0, sent.lastIndexOf('.'))}.`],
    ['with a byte more', async (sent: string) => `${sent}A`],
    ['signed by somebody else', async () => mint(issuer, { key: await signingKey('k1') })],
  ])('does not take a remembered payload %s', async (_, forge) => {
    const labs = verifier();
    const sent = await mint(issuer);
    await labs.verify(sent);
    expect(await refusal(labs.verify(await forge(sent)))).toMatch(/^(signature|not a signed JWT)$/);
    await expect(labs.verify(sent)).resolves.toBeDefined();
  });
});

describe('keys of the issuer', () => {
  it('are fetched once for many tokens at once', async () => {
    const labs = verifier();
    const sent = await Promise.all(Array.from({ length: 8 }, (_, n) => mint(issuer, { claims: { jti: `j${n}` } })));
    await Promise.all(sent.map((token) => labs.verify(token)));
    expect(issuer.asked).toEqual([METADATA, '/jwks']);
  });

  it('are fetched at most once per 30 s for a flood of unknown key ids', async () => {
    const labs = verifier();
    const flood = await Promise.all(Array.from({ length: 100 }, (_, n) => mint(issuer, { header: { kid: `x${n}` } })));
    for (const token of flood) await refusal(labs.verify(token));
    expect(issuer.count('/jwks')).toBe(1);
    time.advance(30);
    await Promise.all(flood.map((token) => refusal(labs.verify(token))));
    expect(issuer.count('/jwks')).toBe(2);
  });

  it('may be rotated: a pre-published key works at once, a removed one ends with the keys it came with', async () => {
    const labs = verifier();
    const next = await signingKey('k2');
    issuer.jwks.keys.push(next.publicJwk);
    await labs.verify(await mint(issuer));
    await labs.verify(await mint(issuer, { key: next }));
    expect(issuer.count('/jwks')).toBe(1);
    issuer.jwks.keys.shift();
    time.advance(600);
    expect(await refusal(labs.verify(await mint(issuer, { at: T0 + 600 })))).toBe('unknown key');
    await labs.verify(await mint(issuer, { key: next, at: T0 + 600 }));
  });

  it('a new key is found after the cooldown', async () => {
    const labs = verifier();
    await labs.verify(await mint(issuer));
    const next = await signingKey('k2');
    issuer.jwks.keys.push(next.publicJwk);
    time.advance(29);
    expect(await refusal(labs.verify(await mint(issuer, { key: next })))).toBe('unknown key');
    time.advance(1);
    await labs.verify(await mint(issuer, { key: next }));
  });

  it('two keys of one id are ambiguous', async () => {
    issuer.jwks.keys.push((await signingKey('k1')).publicJwk);
    expect(await refusal(verifier().verify(await mint(issuer)))).toBe('ambiguous key');
  });

  it('unreachable means 503, never 401, and asks again only after a pause', async () => {
    let up = false;
    issuer.on('/jwks', (_request, _body, response) => {
      if (up) return issuer.jwks;
      response.destroy();
      return undefined;
    });
    const labs = verifier();
    const sent = await mint(issuer);
    for (let n = 0; n < 5; n += 1) await expect(labs.verify(sent)).rejects.toBeInstanceOf(AuthorityUnavailable);
    expect(issuer.count('/jwks')).toBe(1);
    up = true;
    time.advance(1);
    await expect(labs.verify(sent)).resolves.toBeDefined();
  });

  it('are not used stale when they cannot be renewed', async () => {
    const labs = verifier();
    await labs.verify(await mint(issuer));
    issuer.on('/jwks', (_request, _body, response) => {
      response.statusCode = 500;
    });
    time.advance(600);
    await expect(labs.verify(await mint(issuer, { at: T0 + 600 }))).rejects.toBeInstanceOf(AuthorityUnavailable);
  });

  it.each([
    ['metadata of another issuer', () => ({ ...issuer.metadata, issuer: `${issuer.url}/` })],
    ['metadata without keys', () => ({ issuer: issuer.url })],
    ['keys on plain http elsewhere', () => ({ ...issuer.metadata, jwks_uri: 'http://keys.example/jwks' })],
    ['metadata that is no object', () => 'hello'],
  ])('%s are not believed: 503', async (_, metadata) => {
    issuer.on(METADATA, metadata);
    const failed = verifier().verify(await mint(issuer));
    await expect(failed).rejects.toMatchObject({ name: 'AuthorityUnavailable', retryAfterSeconds: 5 });
    expect(issuer.count('/jwks')).toBe(0);
  });

  it.each([
    ['no key set', {}],
    ['an array', []],
    ['keys that are no objects', { keys: [7] }],
  ])('%s: 503', async (_, jwks) => {
    issuer.on('/jwks', () => jwks);
    await expect(verifier().verify(await mint(issuer))).rejects.toBeInstanceOf(AuthorityUnavailable);
  });

  it('behind a redirect are not fetched', async () => {
    const elsewhere = await loopback();
    issuer.on('/jwks', (_request, _body, response) => {
      response.statusCode = 302;
      response.setHeader('location', `${elsewhere.url}/jwks`);
    });
    await expect(verifier().verify(await mint(issuer))).rejects.toBeInstanceOf(AuthorityUnavailable);
    expect(elsewhere.asked).toEqual([]);
    await elsewhere.close();
  });
});

describe('configuration', () => {
  it.each([
    ['resource', { resource: 'labs' }],
    ['resource', { resource: 'https://labs.example/#x' }],
    ['issuers', { issuers: [] }],
    ['issuers[0].issuer', { issuers: [{ issuer: 'http://as.example', fhirServer: FHIR }] }],
    ['issuers[0].fhirServer', { issuers: [{ issuer: 'https://as.example', fhirServer: 'fhir' }] }],
    ['issuers[0].tenants', { issuers: [{ issuer: 'https://as.example', fhirServer: FHIR, tenants: [] }] }],
    ['algorithms', { algorithms: [] }],
    ['algorithms', { algorithms: ['none'] }],
    ['algorithms', { algorithms: ['ES256', 'HS256'] }],
    ['leewaySeconds', { leewaySeconds: 61 }],
    ['leewaySeconds', { leewaySeconds: Number.NaN }],
    ['maxTokenAgeSeconds', { maxTokenAgeSeconds: Number.POSITIVE_INFINITY }],
  ])('names the unusable option %s', (option, options) => {
    const make = () => verifier(options as Partial<TokenVerifierOptions>);
    expect(make).toThrow(TypeError);
    expect(make).toThrow(`"${option}"`);
  });

  it('refuses an issuer and tenant with two FHIR servers', () => {
    const entry = { issuer: issuer.url, fhirServer: FHIR };
    for (const second of [entry, { ...entry, tenants: ['t1'] }]) {
      expect(() => verifier({ issuers: [entry, second] })).toThrow('"issuers[1]"');
    }
  });
});
