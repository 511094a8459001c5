import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ClientKey, createSealSigner, createSealVerifier, type SealFacts } from '@hmcp/auth';
import { createAuthorizationServer, signIn } from '@hmcp/authorization-server';
import { testIssuer } from '@hmcp/testing';
import { exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose';

/** The clients of the vectors. */
export interface VectorClient {
  readonly scope: string;
  readonly resource?: string;
  readonly targets?: readonly string[];
}

/** What a token endpoint answered, or where a launch ended. */
export interface Answer {
  readonly error?: string | undefined;
  readonly accessToken?: string | undefined;
}

/** One authorization server the vectors are run against, at its own endpoints. */
export interface IssuerUnderTest {
  readonly issuer: string;
  /** URL of a resource by its name in the vectors. */
  url(name: string): string;
  /** A launch of the portal for the patient of the vectors. */
  launch(scope: string): Promise<Answer>;
  /** Asks the token endpoint as a client. @param signedBy whose key signs the assertion */
  token(clientId: string, form: readonly [string, string][], signedBy?: string): Promise<Answer>;
  /** A seal of the one manager it trusts, for the person, client and patient of the launches unless told otherwise. */
  seal(facts: Partial<SealFacts>, ageSeconds: number): Promise<string>;
  /** Milliseconds its clock is ahead. */
  readonly clock: { ahead: number };
  close(): Promise<void>;
}

const PATIENT = 'A1';
const ADDRESSES: Readonly<Record<string, string>> = {
  fhir: 'http://127.0.0.1:9001/fhir',
  triage: 'http://127.0.0.1:9002/mcp',
  labs: 'http://127.0.0.1:9003/mcp',
  medications: 'http://127.0.0.1:9004/mcp',
  manager: 'http://127.0.0.1:9006/mcp',
};
const url = (name: string): string => ADDRESSES[name] ?? `http://127.0.0.1:9099/${name}`;
const FHIR = url('fhir');
const MANAGER = url('manager');
const CALLBACK = 'http://127.0.0.1:9005/callback';
const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

async function keyOf(kid: string): Promise<JWK> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  return { ...(await exportJWK(privateKey)), kid, alg: 'ES256', use: 'sig' };
}

/** The manager whose seals count. */
async function sealing(issuer: string, subject: string) {
  const key = await keyOf('seal-key');
  const signer = (now: () => number) => createSealSigner({ issuer: MANAGER, trustDomain: 'ward', key, now });
  const manager = {
    issuer: MANAGER,
    resource: MANAGER,
    clientId: 'context-manager',
    keys: {
      keys: (await signer(Date.now)).jwks.keys.map(({ d: _, ...one }) => ({ ...one, kty: 'EC' as const, kid: 'seal-key' })),
    },
    trustDomain: 'ward',
    fhirServers: [FHIR],
    tokenIssuers: [issuer],
  };
  const facts = { sub_iss: issuer, sub: subject, azp: 'portal', sid: 's_1', epoch: 1, patient: PATIENT, fhirServer: FHIR };
  return {
    manager,
    seal: async (more: Partial<SealFacts>, age: number) =>
      (await signer(() => Date.now() - age * 1000)).sign({ ...facts, pk: 'k'.repeat(43), ...more }),
  };
}

async function asserted(
  issuer: string,
  clientId: string,
  key: JWK,
  form: readonly [string, string][],
  at: number,
): Promise<URLSearchParams> {
  const body = new URLSearchParams(form.map(([name, value]): [string, string] => [name, value]));
  const seconds = Math.floor(at / 1000);
  const claims = {
    iss: clientId,
    sub: clientId,
    aud: `${issuer}/token`,
    jti: crypto.randomUUID(),
    iat: seconds,
    exp: seconds + 60,
  };
  const header = { alg: 'ES256', typ: 'JWT', kid: `${key.kid}` };
  body.set('client_id', clientId);
  body.set('client_assertion_type', ASSERTION_TYPE);
  body.set('client_assertion', await new SignJWT(claims).setProtectedHeader(header).sign(await importJWK(key, 'ES256')));
  return body;
}

async function answerOf(response: Response): Promise<Answer> {
  const { error, access_token: accessToken } = (await response.json()) as { error?: string; access_token?: string };
  return { error, accessToken };
}

/** The issuer of testbeds. */
export async function ofTestbed(clients: Readonly<Record<string, VectorClient>>): Promise<IssuerUnderTest> {
  const issuer = 'https://issuer.example';
  const clock = { ahead: 0 };
  const now = (): number => Date.now() + clock.ahead;
  const { manager, seal } = await sealing(issuer, 'clinician');
  const server = await testIssuer({ issuer, fhirServer: FHIR, seals: createSealVerifier({ managers: [manager], now }), now });
  const keys = new Map<string, ClientKey>();
  for (const [clientId, { scope, resource, targets }] of Object.entries(clients)) {
    const known = { resource: resource === undefined ? undefined : url(resource), targets: targets?.map(url) };
    keys.set(clientId, await server.register({ clientId, scope, ...known }));
  }
  await server.register({ clientId: 'context-manager', resource: MANAGER, scope: '' });
  return {
    issuer,
    url,
    clock,
    seal,
    launch: (scope) =>
      server.grant({ id: PATIENT }, 'portal', scope).then(
        ({ accessToken }) => ({ accessToken }),
        (refused: Error) => ({ error: refused.message.split(':')[0] }),
      ),
    async token(clientId, form, signedBy = clientId) {
      const key = keys.get(signedBy)?.privateKey as JWK;
      const body = await asserted(issuer, clientId, key, form, now());
      return answerOf(await server.fetch(new Request(`${issuer}/token`, { method: 'POST', body })));
    },
    close: async () => undefined,
  };
}

/** The authorization server for development, on a port of its own. */
export async function ofDevelopment(clients: Readonly<Record<string, VectorClient>>): Promise<IssuerUnderTest> {
  const state = await mkdtemp(join(tmpdir(), 'hmcp-tokens-'));
  let handle: Awaited<ReturnType<typeof createAuthorizationServer>>['handle'] = (_, response) =>
    void response.writeHead(503).end();
  const listener = createServer((request, response) => handle(request, response));
  await new Promise<void>((resolve) => void listener.listen(0, '127.0.0.1', resolve));
  const address = listener.address();
  const issuer = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  const clock = { ahead: 0 };
  const { manager, seal } = await sealing(issuer, 'clin');
  const keys = new Map<string, JWK>();
  const registrations = [];
  for (const [clientId, { scope, resource, targets }] of Object.entries(clients)) {
    const { d: secret, ...shown } = await keyOf(`${clientId}-key`);
    keys.set(clientId, { ...shown, d: `${secret}` });
    const others = Object.keys(clients).filter((name) => clients[name]?.resource !== undefined && name !== clientId);
    const person = clientId === 'portal';
    registrations.push({
      clientId,
      name: clientId,
      scope,
      jwks: { keys: [{ ...shown, kty: 'EC' as const, kid: `${clientId}-key` }] },
      ...(resource === undefined ? {} : { resource: url(resource) }),
      targets: (targets ?? ['fhir', ...others]).map(url),
      ...(person ? { redirectUris: [CALLBACK] } : {}),
      grants: person
        ? (['authorization_code', 'token-exchange'] as const).slice()
        : resource === undefined
          ? (['client_credentials'] as const).slice()
          : (['token-exchange'] as const).slice(),
    });
  }
  const server = await createAuthorizationServer({
    config: {
      publicUrl: issuer,
      fhirServer: FHIR,
      state,
      pseudonymKey: Buffer.alloc(32, 7).toString('base64url'),
      people: [{ id: PATIENT, name: 'Ann Hollis', birthDate: '1961-04-02', gender: 'female', identifierLast4: '1177' }],
      accounts: [{ username: 'clin', password: 'synthetic-only', name: 'Dr Clin', fhirUser: 'Practitioner/p1', patients: '*' }],
      clients: registrations,
      resources: [
        { resource: FHIR, scopesSupported: ['patient/*.rs', 'system/*.rs'] },
        { resource: MANAGER, scopesSupported: ['hmcp:context.participate'] },
        ...['triage', 'labs', 'medications'].map((name) => ({
          resource: url(name),
          scopesSupported: [clients[name]?.scope ?? ''],
        })),
      ],
      managers: [manager],
    },
    now: () => Date.now() + clock.ahead,
    audit: { append: async () => undefined, close: async () => undefined },
  });
  handle = server.handle;
  const token: IssuerUnderTest['token'] = async (clientId, form, signedBy = clientId) => {
    const body = await asserted(issuer, clientId, keys.get(signedBy) ?? ({} as JWK), form, Date.now());
    return answerOf(await fetch(`${issuer}/token`, { method: 'POST', body }));
  };
  return {
    issuer,
    url,
    clock,
    seal,
    token,
    async launch(scope) {
      const verifier = 'v'.repeat(43);
      const challenge = Buffer.from(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))).toString(
        'base64url',
      );
      const asked = { response_type: 'code', client_id: 'portal', redirect_uri: CALLBACK, scope, state: 'state', aud: FHIR };
      const start = new URL('/auth', issuer);
      start.search = `${new URLSearchParams({ ...asked, code_challenge: challenge, code_challenge_method: 'S256' })}`;
      const ended = new URL(await signIn({ url: start.href, username: 'clin', password: 'synthetic-only', patient: 0 }));
      const code = ended.searchParams.get('code');
      if (code === null) return { error: ended.searchParams.get('error') ?? 'no error' };
      const form = { grant_type: 'authorization_code', code, redirect_uri: CALLBACK, code_verifier: verifier };
      return token('portal', Object.entries(form));
    },
    async close() {
      await new Promise<void>((resolve) => {
        listener.close(() => resolve());
        listener.closeAllConnections();
      });
      await rm(state, { recursive: true, force: true });
    },
  };
}
