import { createHash } from 'node:crypto';
import type { ClientKey, Grant, SealVerifier } from '@hmcp/auth';
import { AccessTokenClaims, type SealClaims } from '@hmcp/core';
import { createLocalJWKSet, exportJWK, generateKeyPair, type JSONWebKeySet, type JWK, jwtVerify, SignJWT } from 'jose';
import { decideExchange, decideForItself, launchable, malformedExchange, type TestClient } from './exchange-rules.js';
import type { TestPerson } from './people.js';

const GRANT_SECONDS = 3600;
const CLIENT_SECONDS = 120;
/** Who is signed in, always. */
const SUBJECT = 'clinician';

/** A private EC P-256 JWK with its public half. */
export interface KeyPair {
  readonly secret: JWK;
  readonly shown: JWK;
}

/** Makes a key that signs with ES256. */
export async function signingKey(kid: string): Promise<KeyPair> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const more = { kid, alg: 'ES256', use: 'sig' };
  return { secret: { ...(await exportJWK(privateKey)), ...more }, shown: { ...(await exportJWK(publicKey)), ...more } };
}

/**
 * An authorization server inside the process: real tokens, real keys, exchange by the rules; who signs in is given. A testbed has one of
 * its own; alone, it serves tests of a client or of a verifier.
 */
export interface TestIssuer {
  readonly issuer: string;
  readonly jwks: JSONWebKeySet;
  /** Metadata, keys and the token endpoint. */
  fetch(request: Request): Promise<Response>;
  /** Adds a client; its key authenticates it at the token endpoint. */
  register(client: TestClient): Promise<ClientKey>;
  /** What a launch for a person yields to a client. @throws {TypeError} `invalid_scope` for what a launch does not grant */
  grant(person: Pick<TestPerson, 'id'>, clientId: string, scope: string): Promise<Grant>;
}

/** Makes a {@link TestIssuer}. @param seals verifies the seals that come with exchanges */
export async function testIssuer(options: {
  readonly issuer: string;
  readonly fhirServer: string;
  readonly seals: SealVerifier;
  readonly now: () => number;
}): Promise<TestIssuer> {
  const { issuer, fhirServer, seals, now } = options;
  const key = await signingKey('issuer');
  const jwks = { keys: [key.shown] };
  const own = createLocalJWKSet(jwks);
  const tokenEndpoint = `${issuer}/token`;
  const clients = new Map<string, TestClient & { readonly jwks: JSONWebKeySet }>();
  const origins = new Map<string, 'grant' | 'exchange' | 'client'>();
  const revoked = new Set<string>();
  let serial = 0;

  const seconds = () => Math.floor(now() / 1000);
  const known = () => new Set([fhirServer, ...[...clients.values()].flatMap(({ resource = [] }) => resource)]);
  async function mint(origin: 'grant' | 'exchange' | 'client', claims: Readonly<Record<string, unknown>>) {
    serial += 1;
    const jti = `token-${serial}`;
    origins.set(jti, origin);
    const payload = { iss: issuer, jti, iat: seconds(), ...claims };
    return {
      jti,
      token: await new SignJWT(payload).setProtectedHeader({ alg: 'ES256', kid: 'issuer', typ: 'at+jwt' }).sign(key.secret),
    };
  }

  async function authenticated(form: URLSearchParams): Promise<TestClient | undefined> {
    const client = clients.get(form.get('client_id') ?? '');
    if (client === undefined) return undefined;
    const { clientId } = client;
    const expected = { issuer: clientId, subject: clientId, audience: tokenEndpoint, currentDate: new Date(now()) };
    const assertion = form.get('client_assertion') ?? '';
    return jwtVerify(assertion, createLocalJWKSet(client.jwks), expected).then(
      () => client,
      () => undefined,
    );
  }

  async function subjectOf(token: string): Promise<AccessTokenClaims | undefined> {
    try {
      const { payload } = await jwtVerify(token, own, { issuer, typ: 'at+jwt', currentDate: new Date(now()) });
      const claims = AccessTokenClaims.parse(payload);
      return revoked.has(claims.jti) ? undefined : claims;
    } catch {
      return undefined;
    }
  }

  /** The seal's claims; `false` when it does not hold. */
  async function sealIn(form: URLSearchParams): Promise<SealClaims | undefined | false> {
    const seal = form.get('hmcp_seal');
    if (seal === null) return undefined;
    return seals.verify(seal).then(
      ({ claims }) => claims,
      () => false,
    );
  }

  async function exchange(caller: TestClient, form: URLSearchParams): Promise<Response> {
    const malformed = malformedExchange(form);
    if (malformed !== undefined) return refused(malformed);
    const subjectToken = form.get('subject_token') ?? '';
    const [subject, seal] = await Promise.all([subjectOf(subjectToken), sealIn(form)]);
    if (subject === undefined || seal === false) return refused('invalid_grant');
    const decided = decideExchange({
      subject,
      seal,
      caller,
      origin: origins.get(subject.jti) ?? 'unknown',
      pth: createHash('sha256').update(subjectToken).digest('base64url'),
      resource: form.getAll('resource').length === 1 ? (form.get('resource') ?? '') : '',
      scope: form.get('scope') ?? '',
      fhirServer,
      known: known(),
      now: seconds(),
    });
    if ('error' in decided) return refused(decided.error);
    return issued('exchange', decided.claims);
  }

  async function forItself(caller: TestClient, form: URLSearchParams): Promise<Response> {
    const decided = decideForItself(form, caller, known());
    if ('error' in decided) return refused(decided.error);
    const { clientId } = caller;
    const { resource: aud, scope } = decided;
    const exp = seconds() + CLIENT_SECONDS;
    return issued('client', { sub: clientId, client_id: clientId, aud, scope, exp, __hmcp: { v: 1, chain: [] } });
  }

  async function issued(origin: 'exchange' | 'client', claims: Readonly<Record<string, unknown>>): Promise<Response> {
    const { token } = await mint(origin, claims);
    return Response.json({
      access_token: token,
      issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      token_type: 'Bearer',
      expires_in: Number(claims.exp) - seconds(),
      scope: claims.scope,
    });
  }

  async function grant(person: Pick<TestPerson, 'id'>, clientId: string, scope: string): Promise<Grant> {
    const client = clients.get(clientId);
    if (client === undefined) throw new TypeError('a launch is for a client that was registered');
    if (!launchable(scope, client))
      throw new TypeError('invalid_scope: a launch grants what a person may ask for, within the registration');
    const expiresAt = seconds() + GRANT_SECONDS;
    const fhirUser = `${fhirServer}/Practitioner/${SUBJECT}`;
    const context = { sub: SUBJECT, client_id: clientId, scope, patient: person.id, fhirUser };
    const { jti, token } = await mint('grant', { ...context, aud: fhirServer, exp: expiresAt, __hmcp: { v: 1, chain: [] } });
    return {
      accessToken: token,
      expiresAt,
      scope,
      missing: [],
      patient: person.id,
      subject: SUBJECT,
      fhirUser,
      fhirServer,
      issuer,
      clientId,
      refresh: () => grant(person, clientId, scope),
      revoke: async () => {
        revoked.add(jti);
      },
    };
  }

  return {
    issuer,
    jwks,
    grant,
    async fetch(request) {
      const { href } = new URL(request.url);
      if (request.method === 'GET' && href === `${issuer}/.well-known/oauth-authorization-server`)
        return Response.json({ issuer, token_endpoint: tokenEndpoint, jwks_uri: `${issuer}/jwks` });
      if (request.method === 'GET' && href === `${issuer}/jwks`) return Response.json(jwks);
      if (request.method !== 'POST' || href !== tokenEndpoint) return new Response(null, { status: 404 });
      const form = new URLSearchParams(await request.text());
      const caller = await authenticated(form);
      if (caller === undefined) return refused('invalid_client', 401);
      if (form.get('grant_type') === 'client_credentials') return forItself(caller, form);
      return exchange(caller, form);
    },
    async register(client) {
      const { secret, shown } = await signingKey(client.clientId);
      clients.set(client.clientId, { ...client, jwks: { keys: [shown] } });
      return { clientId: client.clientId, privateKey: secret };
    },
  };
}

function refused(error: string, status = 400): Response {
  return Response.json({ error }, { status });
}
