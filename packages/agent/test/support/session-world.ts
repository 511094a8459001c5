import {
  type ClientCredentials,
  createSealSigner,
  createSealVerifier,
  createTokenVerifier,
  ExchangeRefused,
  type ExchangeRequest,
  type Grant,
  type SealSigner,
  type TokenExchanger,
} from '@hmcp/auth';
import {
  type ContextManager,
  createContextManager,
  type MemoryStore,
  memoryStore,
  type ParticipantLink,
} from '@hmcp/context-manager';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { type Agent, type AgentOptions, createAgent, openSession, type Session, type SessionOptions } from '../../src/index.js';
import { type SealedPeer, sealedPeer } from './sealed-peer.js';
import { FHIR, MemoryAudit, NOW } from './world.js';

export const MANAGER = 'https://manager.example/mcp';
export const ISSUER = 'https://as.example';
export const TRUST_DOMAIN = 'https://clinic.example';
export const LABS = 'https://labs.example/mcp';
export const PORTAL_SCOPE =
  'hmcp:context.switch hmcp:context.participate patient/hmcp:read patient/Observation.rs patient/Patient.r';

/** What to type at C2, by patient. */
export const TYPED: Readonly<Record<string, { readonly birthDate: string; readonly recordNumberLast4: string }>> = {
  'pt-ann-4711': { birthDate: '1950-02-01', recordNumberLast4: '4410' },
  'pt-cy-2222': { birthDate: '1999-07-30', recordNumberLast4: '77A1' },
  'pt-bo-0815': { birthDate: '1961-11-23', recordNumberLast4: '9B21' },
};

/** A clock moved by hand; a wait of the agent moves it. */
export interface TestClock {
  now(): number;
  wait(ms: number, signal?: AbortSignal): Promise<void>;
  advance(ms: number): void;
}

export function testClock(): TestClock {
  let at = NOW;
  const waiting = new Set<{ until: number; wake: () => void }>();
  return {
    now: () => at,
    wait: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted || ms <= 0) return resolve();
        const entry = {
          until: at + ms,
          wake: () => {
            waiting.delete(entry);
            resolve();
          },
        };
        waiting.add(entry);
        signal?.addEventListener('abort', entry.wake, { once: true });
      }),
    advance(ms) {
      at += ms;
      for (const entry of [...waiting]) if (entry.until <= at) entry.wake();
    },
  };
}

/** A grant the tests follow: whether it was revoked, and how often. */
export interface TestGrant extends Grant {
  revoked: number;
}

/** What a request to the manager meets on its way; the default is to be served. */
export type ManagerNetwork = (request: Request, serve: () => Promise<Response>) => Promise<Response>;

export interface SessionWorld {
  /** The one that runs now. */
  readonly manager: () => ContextManager;
  readonly store: MemoryStore;
  readonly clock: TestClock;
  readonly labs: SealedPeer;
  readonly agent: Agent;
  readonly audit: MemoryAudit;
  readonly signer: SealSigner;
  readonly exchanges: ExchangeRequest[];
  /** JSON-RPC bodies that went to the manager. */
  readonly asked: { readonly method: string; readonly name?: string; readonly body: string }[];
  network: ManagerNetwork;
  /** Revokes what may be exchanged: access tokens named here are refused. */
  readonly dead: Set<string>;
  grant(patient: string, more?: Partial<Grant>): TestGrant;
  open(patient: string, more?: Partial<SessionOptions>): Promise<Session>;
  /** Another process: its own agent, on the same network. */
  another(options: Partial<AgentOptions> & { readonly clientId: string }): { readonly agent: Agent; readonly audit: MemoryAudit };
  /** Tokens of an agent itself, for the manager. */
  credentials(clientId: string): ClientCredentials;
  /** The manager crashes; another one starts on the same store. */
  restart(): Promise<void>;
  /** A token for the manager, as an authorization server would mint it. */
  mint(claims: Readonly<Record<string, unknown>>): Promise<string>;
  close(): Promise<void>;
}

const keys = (async () => {
  const make = async (kid: string) => {
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
    const publicJwk = { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' };
    return { secret: privateKey, jwk: { ...(await exportJWK(privateKey)), kid, alg: 'ES256' }, publicJwk };
  };
  return { as: await make('as'), seal: await make('seal') };
})();

function personOf(id: string): unknown {
  const typed = TYPED[id];
  if (typed === undefined) return undefined;
  const identifier = [{ type: { coding: [{ code: 'MR' }] }, value: `rec-${typed.recordNumberLast4}` }];
  const name = [{ family: 'Example', given: [id.split('-')[1] ?? ''] }];
  return { resourceType: 'Patient', id, name, birthDate: typed.birthDate, gender: 'female', identifier };
}

/** A manager in this process behind the real SDK, a portal's agent, one server, and a network the test owns. */
export async function sessionWorld(
  options: { agent?: Partial<AgentOptions>; link?: ParticipantLink } = {},
): Promise<SessionWorld> {
  const { as, seal } = await keys;
  const clock = testClock();
  const store = memoryStore();
  const labs = sealedPeer(LABS);
  const grants = new Map<string, TestGrant>();
  const exchanges: ExchangeRequest[] = [];
  const dead = new Set<string>();
  const issued = new Map<string, { accessToken: string; scope: string; expiresAt: number }>();
  let serial = 0;

  const mint = (claims: Readonly<Record<string, unknown>>): Promise<string> => {
    const at = Math.floor(clock.now() / 1000);
    serial += 1;
    const payload = { iss: ISSUER, aud: MANAGER, jti: `j${serial}`, iat: at, exp: at + 600, ...claims };
    return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', kid: 'as', typ: 'at+jwt' }).sign(as.secret);
  };
  /** Exchanges of one client. Tokens for the manager are real; a server of the tests gets an opaque one. */
  const exchangerOf = (clientId: string): TokenExchanger => ({
    async exchange(request) {
      exchanges.push(request);
      const { subjectToken, resource, scope } = request;
      if (dead.has(subjectToken)) throw new ExchangeRefused('invalid_grant');
      // The longest exchange a server may be configured for.
      const expiresAt = Math.floor(clock.now() / 1000) + 300;
      if (resource !== MANAGER) return { accessToken: `for ${resource} from ${subjectToken}`, scope, expiresAt };
      const grant = grants.get(subjectToken) ?? grants.get(subjectToken.split(' from ')[1] ?? '');
      if (grant === undefined) throw new ExchangeRefused('invalid_grant');
      const { patient, encounter, tenant } = grant;
      const direct = clientId === grant.clientId;
      const chain = direct ? [] : [{ jti: 'j0', client_id: grant.clientId, aud: LABS, scope: PORTAL_SCOPE }];
      const claims = {
        sub: grant.subject,
        client_id: clientId,
        scope,
        patient,
        encounter,
        tenant,
        ...(direct ? {} : { act: { sub: clientId } }),
        __hmcp: { v: 1, chain, ...(request.sid === undefined ? {} : { sid: request.sid }) },
      };
      // As an exchanger does: the same token again, while it lives long enough.
      const key = JSON.stringify([clientId, subjectToken, scope, request.sid]);
      const known = issued.get(key);
      if (known !== undefined && known.expiresAt > expiresAt - 60) return known;
      const token = { accessToken: await mint(claims), scope, expiresAt };
      issued.set(key, token);
      return token;
    },
  });

  const start = () =>
    createContextManager({
      resource: MANAGER,
      clientId: 'manager',
      trustDomain: TRUST_DOMAIN,
      authorizationServers: [ISSUER],
      fhirServers: [FHIR],
      verifier: createTokenVerifier({
        resource: MANAGER,
        issuers: [{ issuer: ISSUER, fhirServer: FHIR, jwks: { keys: [as.publicJwk] } }],
        now: clock.now,
      }),
      store,
      sealKey: seal.jwk,
      tenantKey: 'tenant-key-of-tests',
      pseudonymKey: 'pseudonym-key-of-tests',
      clients: [
        { clientId: 'portal', name: 'Portal', humanUi: true },
        { clientId: 'labs', name: 'Labs', ...endpointOf('labs') },
        { clientId: 'orders', name: 'Orders', effector: true, ...endpointOf('orders') },
      ],
      participants: options.link,
      tokens: { exchange: async ({ scope }) => ({ accessToken: 'fhir', scope, expiresAt: clock.now() / 1000 + 60 }) },
      clock,
      fetch: async (input) => {
        const person = personOf(String(input).split('/').at(-1) ?? '');
        return person === undefined ? new Response(null, { status: 404 }) : Response.json(person);
      },
    });
  let manager = await start();

  const fetch: typeof globalThis.fetch = async (input, init) => {
    const request = new Request(String(input), init as RequestInit);
    if (request.url === LABS) return labs.fetch(request);
    if (request.url !== MANAGER) throw new TypeError('fetch failed');
    const body = typeof init?.body === 'string' ? init.body : '';
    const { method = '', params } = JSON.parse(body || '{}') as { method?: string; params?: { name?: string } };
    made.asked.push({ method, body, ...(params?.name === undefined ? {} : { name: params.name }) });
    return made.network(request, () => manager.fetch(request));
  };
  const seals = createSealVerifier({
    managers: [{ ...withoutJwks(manager), keys: (await createSealSigner({ ...sealOptions(), key: seal.jwk })).jwks }],
    now: clock.now,
  });
  const another: SessionWorld['another'] = (more) => {
    const audit = new MemoryAudit();
    const agent = createAgent({
      name: more.clientId,
      peers: [{ name: 'labs', resource: LABS, kind: 'hmcp' }],
      tokens: exchangerOf(more.clientId),
      audit,
      pseudonymKey: 'a key of the tests',
      seals,
      now: clock.now,
      wait: async (ms) => clock.advance(ms),
      fetch,
      ...more,
    });
    return { agent, audit };
  };
  const { agent, audit } = another({ clientId: 'portal', ...options.agent });

  const made: SessionWorld = {
    manager: () => manager,
    store,
    clock,
    labs,
    agent,
    audit,
    exchanges,
    asked: [],
    dead,
    network: (_, serve) => serve(),
    signer: await createSealSigner({ ...sealOptions(), key: seal.jwk, now: clock.now }),
    grant(patient, more = {}) {
      const grant: TestGrant = {
        accessToken: `grant-${grants.size + 1}`,
        expiresAt: NOW / 1000 + 3600,
        scope: PORTAL_SCOPE,
        missing: [],
        patient,
        subject: 'dr-grey',
        fhirServer: FHIR,
        issuer: ISSUER,
        clientId: 'portal',
        refreshToken: `refresh-${grants.size + 1}`,
        refresh: () => Promise.reject(new Error('not here')),
        ...more,
        revoked: 0,
        revoke: async () => {
          grant.revoked += 1;
        },
      };
      grants.set(grant.accessToken, grant);
      return grant;
    },
    open: (patient, more = {}) =>
      openSession({ agent, grant: made.grant(patient), manager: MANAGER, participants: ['labs', 'orders'], ...more }),
    another,
    credentials: (clientId) => ({
      token: async ({ scope }) => {
        const expiresAt = Math.floor(clock.now() / 1000) + 300;
        const known = issued.get(clientId);
        if (known !== undefined && known.expiresAt > expiresAt - 60) return known;
        const token = { accessToken: await mint({ sub: clientId, client_id: clientId, scope }), scope, expiresAt };
        issued.set(clientId, token);
        return token;
      },
    }),
    restart: async () => {
      manager = await start();
    },
    mint,
    async close() {
      await agent.close();
      await manager.close();
      await labs.close();
    },
  };
  return made;
}

function endpointOf(clientId: string) {
  const url = `https://${clientId}.example/mcp`;
  return { endpoint: { url, resource: url } };
}

function sealOptions() {
  return { issuer: new URL(MANAGER).origin, trustDomain: TRUST_DOMAIN };
}

function withoutJwks(manager: ContextManager) {
  const { jwksUri: _, ...trusted } = manager.trusted([ISSUER]);
  return trusted;
}
