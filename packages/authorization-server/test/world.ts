import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSealSigner, type SealFacts } from '@hmcp/auth';
import type { AuditRecord } from '@hmcp/core';
import { type CryptoKey, decodeJwt, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import {
  ACCESS_TOKEN_TYPE,
  type AuthorizationServer,
  type AuthorizationServerConfigInput,
  createAuthorizationServer,
  type Person,
  type ScriptedBrowser,
  type SignIn,
  signIn,
  TOKEN_EXCHANGE,
} from '../src/index.js';

export const FHIR = 'http://127.0.0.1:9001/fhir';
export const TRIAGE = 'http://127.0.0.1:9002/mcp';
export const LABS = 'http://127.0.0.1:9003/mcp';
export const MEDICATIONS = 'http://127.0.0.1:9004/mcp';
export const MANAGER = 'http://127.0.0.1:9006/mcp';
export const CALLBACK = 'http://127.0.0.1:9005/callback';
export const LAUNCH_SCOPE = 'launch/patient openid fhirUser patient/hmcp:read patient/*.rs';

export const people = [
  { id: 'ann', name: 'Ann Hollis', birthDate: '1961-04-02', gender: 'female', identifierLast4: '1177' },
  { id: 'bo', name: 'Bo Hollis', birthDate: '1961-04-23', gender: 'male', identifierLast4: '4471' },
  { id: 'cy', name: 'Cy Ames', birthDate: '1990-12-01' },
] as const;

/** Many people who share a family name, with `ann` first. */
export function crowdOf(size: number): Person[] {
  const one = (i: number) => ({
    id: `p${i}`,
    name: `Person ${i} Hollis`,
    birthDate: `19${20 + i}-01-02`,
    gender: 'unknown' as const,
  });
  return [people[0], ...Array.from({ length: size - 1 }, (_, i) => one(i + 1))];
}

const PASSWORD = 'synthetic-only';
const SECRET = Buffer.alloc(32, 7).toString('base64url');

interface Keys {
  readonly privateKey: CryptoKey;
  readonly jwk: { kty: 'EC' | 'RSA'; kid: string };
}

/** A running server on loopback, its registered clients' keys, and its audit. */
export interface World {
  readonly server: AuthorizationServer;
  readonly issuer: string;
  readonly records: AuditRecord[];
  readonly state: string;
  /** Moves the server's clock. */
  readonly clock: { offsetMs: number };
  /** Signs a seal of the trusted manager: for `clin` at `portal` on `ann`, unless told otherwise. */
  seal(facts?: Partial<SealFacts>, at?: number): Promise<string>;
  /** Makes the next audit appends fail. */
  readonly auditor: { broken: boolean };
  authorizeUrl(parameters?: Record<string, string | undefined>): { url: string; verifier: string; state: string };
  launch(
    options?: Partial<SignIn> & { parameters?: Record<string, string | undefined>; redeem?: Record<string, string> },
  ): Promise<TokenAnswer>;
  token(clientId: string, parameters: Record<string, string> | [string, string][]): Promise<TokenAnswer>;
  exchange(clientId: string, subject: string, resource: string, scope: string, more?: [string, string][]): Promise<TokenAnswer>;
  assertion(clientId: string, claims?: JWTPayload, header?: { alg?: string; typ?: string; kid?: string }): Promise<string>;
  post(path: string, body: URLSearchParams, headers?: Record<string, string>): Promise<TokenAnswer>;
  /** Puts another request handler behind the issuer's address. */
  replaceHandler(handler: AuthorizationServer['handle']): void;
  close(): Promise<void>;
}

export interface TokenAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
  /** Claims of the access token; empty when there is none. */
  readonly claims: JWTPayload & Record<string, unknown>;
  readonly accessToken: string;
}

export async function startWorld(
  change: (config: AuthorizationServerConfigInput) => AuthorizationServerConfigInput = (config) => config,
): Promise<World> {
  const state = await mkdtemp(join(tmpdir(), 'hmcp-as-'));
  const keys = new Map<string, Keys>();
  for (const id of ['portal', 'triage', 'labs', 'medications', 'backend']) keys.set(id, await makeKeys(id));
  const jwks = (id: string) => ({ keys: [keyOf(keys, id).jwk] });

  let handle: AuthorizationServer['handle'] = (_request, response) => void response.writeHead(503).end();
  const proxy = createServer((request, response) => handle(request, response));
  await new Promise<void>((resolve) => void proxy.listen(0, '127.0.0.1', resolve));
  const address = proxy.address();
  const issuer = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;

  const sealKey = await exportJWK((await generateKeyPair('ES256', { extractable: true })).privateKey);
  const signerAt = (at?: number) =>
    createSealSigner({
      issuer: MANAGER,
      trustDomain: 'ward',
      key: { ...sealKey, kid: 'seal-key' },
      ...(at === undefined ? {} : { now: () => at }),
    });
  const clock = { offsetMs: 0 };
  const auditor = { broken: false };
  const records: AuditRecord[] = [];
  const agent = (clientId: string, resource: string) => ({
    clientId,
    name: clientId,
    resource,
    targets: [LABS, MEDICATIONS, FHIR].filter((target) => target !== resource),
    scope: 'patient/*.rs patient/hmcp:read',
    jwks: jwks(clientId),
    grants: ['token-exchange' as const],
  });
  const config: AuthorizationServerConfigInput = {
    publicUrl: issuer,
    fhirServer: FHIR,
    state,
    pseudonymKey: SECRET,
    people: [...people],
    accounts: [
      { username: 'clin', password: PASSWORD, name: 'Dr Clin', fhirUser: 'Practitioner/p1', patients: '*' },
      { username: 'one', password: PASSWORD, name: 'Parent One', fhirUser: 'RelatedPerson/r1', patients: ['ann'] },
      { username: 'none', password: PASSWORD, name: 'Nobody Here', fhirUser: 'Practitioner/p2', patients: [] },
    ],
    clients: [
      {
        clientId: 'portal',
        name: 'Ward Portal',
        redirectUris: [CALLBACK],
        targets: [TRIAGE, LABS, MANAGER],
        scope: 'patient/*.rs patient/hmcp:read user/*.rs hmcp:context.switch hmcp:context.participate',
        jwks: jwks('portal'),
        grants: ['authorization_code', 'refresh_token', 'token-exchange'],
      },
      {
        clientId: 'browser-app',
        name: 'Browser App',
        redirectUris: [CALLBACK],
        scope: 'patient/*.rs',
        grants: ['authorization_code', 'refresh_token'],
      },
      agent('triage', TRIAGE),
      agent('labs', LABS),
      agent('medications', MEDICATIONS),
      {
        clientId: 'backend',
        name: 'Backend',
        scope: 'system/*.rs hmcp:read hmcp:context.participate hmcp:context.switch',
        jwks: jwks('backend'),
        grants: ['client_credentials'],
      },
    ],
    resources: [
      { resource: FHIR, scopesSupported: ['patient/*.rs', 'user/*.rs', 'system/*.rs'] },
      { resource: TRIAGE, scopesSupported: ['patient/*.rs', 'patient/hmcp:read', 'user/*.rs'] },
      { resource: LABS, scopesSupported: ['patient/Observation.rs'] },
      { resource: MEDICATIONS, scopesSupported: ['patient/*.rs'] },
      { resource: MANAGER, scopesSupported: ['hmcp:context.switch hmcp:context.participate patient/Patient.r'] },
    ],
    managers: [
      {
        issuer: MANAGER,
        resource: MANAGER,
        clientId: 'context-manager',
        keys: { keys: (await signerAt()).jwks.keys.map(({ d: _, ...key }) => ({ ...key, kty: 'EC' as const, kid: 'seal-key' })) },
        trustDomain: 'ward',
        fhirServers: [FHIR],
        tokenIssuers: [issuer],
      },
    ],
  };
  const server = await createAuthorizationServer({
    config: change(config),
    now: () => Date.now() + clock.offsetMs,
    audit: {
      append: async (record) => {
        if (auditor.broken) throw new Error('disk full');
        records.push(record);
      },
      close: async () => {},
    },
  });
  handle = server.handle;

  const world: World = {
    server,
    issuer,
    records,
    state,
    clock,
    auditor,
    async seal(facts = {}, at) {
      const person = { sub_iss: issuer, sub: 'clin', azp: 'portal' };
      const session = { sid: 'ctx_1', epoch: 0, patient: 'ann', fhirServer: FHIR, pk: 'k'.repeat(43) };
      return (await signerAt(at)).sign({ ...person, ...session, ...facts });
    },
    replaceHandler(handler) {
      handle = handler;
    },
    authorizeUrl(parameters = {}) {
      const verifier = randomBytes(32).toString('base64url');
      const state = randomUUID();
      const all: Record<string, string | undefined> = {
        response_type: 'code',
        client_id: 'portal',
        redirect_uri: CALLBACK,
        scope: LAUNCH_SCOPE,
        state,
        aud: FHIR,
        code_challenge: createHash('sha256').update(verifier).digest('base64url'),
        code_challenge_method: 'S256',
        ...parameters,
      };
      const url = new URL('/auth', issuer);
      for (const [name, value] of Object.entries(all)) if (value !== undefined) url.searchParams.append(name, value);
      return { url: url.href, verifier, state };
    },
    async launch({ parameters = {}, redeem = {}, ...person } = {}) {
      const { url, verifier, state } = world.authorizeUrl(parameters);
      const callback = new URL(await signIn({ url, username: 'clin', password: PASSWORD, patient: 1, ...person }));
      const code = callback.searchParams.get('code');
      if (code === null || callback.searchParams.get('state') !== state) throw new Error(`no code: ${callback.search}`);
      return world.token(parameters.client_id ?? 'portal', {
        grant_type: 'authorization_code',
        code,
        redirect_uri: CALLBACK,
        code_verifier: verifier,
        ...redeem,
      });
    },
    async token(clientId, parameters) {
      const body = new URLSearchParams(parameters);
      if (keys.has(clientId)) {
        body.append('client_assertion_type', 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer');
        body.append('client_assertion', await world.assertion(clientId));
      } else body.append('client_id', clientId);
      return world.post('/token', body);
    },
    exchange(clientId, subject, resource, scope, more = []) {
      return world.token(clientId, [
        ['grant_type', TOKEN_EXCHANGE],
        ['subject_token', subject],
        ...(more.some(([name]) => name === 'subject_token_type')
          ? []
          : [['subject_token_type', ACCESS_TOKEN_TYPE] as [string, string]]),
        ['resource', resource],
        ['scope', scope],
        ...more,
      ]);
    },
    assertion(clientId, claims = {}, header = {}) {
      const now = Math.floor(Date.now() / 1000);
      const { privateKey } = keyOf(keys, clientId);
      return new SignJWT({
        iss: clientId,
        sub: clientId,
        aud: `${issuer}/token`,
        jti: randomUUID(),
        iat: now,
        exp: now + 60,
        ...claims,
      })
        .setProtectedHeader({ alg: 'ES384', typ: 'JWT', kid: `${clientId}-key`, ...header })
        .sign(privateKey);
    },
    async post(path, body, headers = {}) {
      const response = await fetch(new URL(path, issuer), { method: 'POST', body, headers });
      const text = await response.text();
      const answer: Record<string, unknown> = text === '' ? {} : JSON.parse(text);
      const accessToken = typeof answer.access_token === 'string' ? answer.access_token : '';
      return {
        status: response.status,
        headers: response.headers,
        body: answer,
        accessToken,
        claims: accessToken === '' ? {} : decodeJwt(accessToken),
      };
    },
    async close() {
      await new Promise<void>((resolve) => {
        proxy.close(() => resolve());
        proxy.closeAllConnections();
      });
      await rm(state, { recursive: true, force: true });
    },
  };
  return world;
}

export type { ScriptedBrowser };

async function makeKeys(id: string): Promise<Keys> {
  const { privateKey, publicKey } = await generateKeyPair('ES384', { extractable: true });
  const { crv, x, y } = await exportJWK(publicKey);
  return { privateKey, jwk: { kty: 'EC', kid: `${id}-key`, ...{ crv, x, y, alg: 'ES384', use: 'sig' } } };
}

function keyOf(keys: ReadonlyMap<string, Keys>, id: string): Keys {
  const found = keys.get(id);
  if (found === undefined) throw new Error(`no key for ${id}`);
  return found;
}
