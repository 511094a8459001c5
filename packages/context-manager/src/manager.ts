import {
  type AccessPolicy,
  type ClientCredentials,
  createSealSigner,
  type TokenExchanger,
  type TokenVerifier,
  type TrustedManager,
} from '@hmcp/auth';
import { checkHashKey, MANAGER_SCOPES, PARTICIPANT_METHODS, unusable } from '@hmcp/core';
import { type AgentEnv, isMetadataPath, passGate, type ServerLog, serveMetadata } from '@hmcp/server';
import { type AuthInfo, createMcpHandler } from '@modelcontextprotocol/server';
import type { JWK } from 'jose';
import { Attendance } from './attendance.js';
import { type Clock, systemClock } from './clock.js';
import { fhirIdentifiers } from './identifiers.js';
import { drained, vote } from './machine.js';
import { managerServer, type Passage } from './mcp-server.js';
import type { Message } from './messages.js';
import { Office } from './office.js';
import { type ManagedClient, mcpParticipants, type ParticipantLink } from './participants.js';
import { Sessions } from './sessions.js';
import type { ContextStore } from './store.js';
import { Switching } from './switching.js';
import { type Timing, timingOf } from './timing.js';
import { Traffic } from './traffic.js';
import { Underway } from './underway.js';

/** What a context manager is made of. There is no member that turns a check off. */
export interface ContextManagerOptions {
  /** Its resource identifier and public URL: the audience of every token it accepts. */
  readonly resource: string;
  /** `iss` of its seals. @default the origin of `resource` */
  readonly issuer?: string | undefined;
  /** Its client identifier at the authorization servers, for those who trust it. */
  readonly clientId: string;
  /** `aud` of its seals. */
  readonly trustDomain: string;
  readonly authorizationServers: readonly string[];
  /** FHIR bases whose patients it opens. */
  readonly fhirServers: readonly string[];
  readonly verifier: TokenVerifier;
  readonly store: ContextStore;
  /** Private EC P-256 JWK with `kid`; signs seals and nothing else. */
  readonly sealKey: JWK;
  /** Key of patient keys (`pk`) in seals and audit: 16 characters or more, 32 random ones are advised. */
  readonly tenantKey: string;
  /** Key of people in the audit: as `tenantKey`. */
  readonly pseudonymKey: string;
  /** Every client that may open sessions or be named in one. */
  readonly clients: readonly ManagedClient[];
  /** Exchanges the switch token to read identifiers from the FHIR server. */
  readonly tokens: TokenExchanger;
  /** Tokens with which participants are told; without them, or `participants`, everybody pulls. */
  readonly credentials?: ClientCredentials | undefined;
  /** How participants are told. @default over MCP, with `credentials` */
  readonly participants?: ParticipantLink | undefined;
  /** Decides for tokens that name no patient; without one they are refused (40302). */
  readonly policy?: AccessPolicy | undefined;
  readonly timing?: Partial<Timing> | undefined;
  readonly clock?: Clock | undefined;
  readonly allowedOrigins?: readonly string[] | undefined;
  readonly log?: ServerLog | undefined;
  readonly fetch?: typeof globalThis.fetch | undefined;
}

/** A context manager, web-standard. Mount it on Node with `nodeListener` of `@hmcp/server`. */
export interface ContextManager {
  /** Serves MCP at the path of `resource`, the protected-resource metadata, and the seal keys at {@link ContextManager.jwksUri}. */
  readonly fetch: (request: Request) => Promise<Response>;
  readonly jwksUri: string;
  /** What a server's or an authorization server's trust list says of this manager. @param tokenIssuers whose people it names */
  trusted(tokenIssuers: readonly string[]): TrustedManager;
  /**
   * Ends the requests that wait, and resolves when none is being served, each with its record, and no switch is being drained.
   * From its call on requests are answered 503. The store is the caller's to close, after this.
   */
  close(): Promise<void>;
}

const JWKS_PATH = '/.well-known/hmcp-seal-keys.json';

/**
 * Makes a context manager over a store. What an earlier run left undecided is aborted first.
 * @throws {TypeError} naming the option that cannot be used
 * @see protocol section 6
 */
export async function createContextManager(options: ContextManagerOptions): Promise<ContextManager> {
  const { resource, trustDomain, store, clients, log, clock = systemClock } = options;
  const issuer = options.issuer ?? new URL(resource).origin;
  check(options);
  const timing = timingOf(options.timing);
  const now = (): number => clock.now();
  const signer = await createSealSigner({ issuer, trustDomain, key: options.sealKey, now });
  const onFailure = (err: unknown): void => log?.error({ err }, 'a request could not be decided');
  const link = options.participants ?? linkOf(options, timing);
  const underway = new Underway();

  const sessions = new Sessions({
    store,
    clock,
    timing,
    self: { by: resource },
    tell: (message) => void underway.add(tell(message).catch(onFailure)),
  });

  /** What a pushed participant answers counts as if it had called. */
  async function tell(message: Message): Promise<void> {
    const endpoint = clients.find(({ clientId }) => clientId === message.to)?.endpoint;
    if (endpoint === undefined) return;
    const reply = await link?.tell(message, endpoint);
    if (reply === undefined) return;
    const { sid, switchId } = message.params;
    const by = { by: resource, clientId: message.to };
    const said = { clientId: message.to, switchId };
    await sessions.apply(sid, by, (session, at) =>
      reply.method === PARTICIPANT_METHODS.prepare
        ? vote(session, { ...said, vote: reply.vote }, at)
        : drained(session, { ...said, drained: reply.drained }, at),
    );
  }

  const jwksUri = new URL(JWKS_PATH, resource).href;
  const trusted = (tokenIssuers: readonly string[]): TrustedManager => ({
    issuer,
    resource,
    clientId: options.clientId,
    jwksUri,
    trustDomain,
    fhirServers: options.fhirServers,
    tokenIssuers,
  });
  const { jwksUri: _, ...self } = trusted(options.authorizationServers);
  const { tenantKey, pseudonymKey, policy, fhirServers } = options;
  const office = new Office({ resource, sessions, signer, clients, fhirServers, tenantKey, pseudonymKey, policy, clock });
  const attendance = new Attendance(office, { managers: [{ ...self, keys: signer.jwks }], now });
  const identifiers = fhirIdentifiers({ tokens: options.tokens, fetch: options.fetch });
  const switching = new Switching({ office, identifiers, underway, onFailure });
  const traffic = new Traffic({ office, attendance, switching, audit: store.audit, underway, onFailure });
  await switching.recover(await store.undecided());

  const closing = new AbortController();
  const passages = new WeakMap<AuthInfo, Passage>();
  const mcp = createMcpHandler(managerServer(traffic, passages), { onerror: () => undefined });
  const env: AgentEnv = {
    resource,
    authorizationServers: options.authorizationServers,
    verifier: options.verifier,
    audit: store.audit,
    pseudonymKey,
    allowedOrigins: options.allowedOrigins,
    log,
    now,
  };
  const path = new URL(resource).pathname;

  async function serve(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (isMetadataPath(request, env)) return serveMetadata(request, env, Object.values(MANAGER_SCOPES).slice(0, 2));
    if (pathname === JWKS_PATH) return serveKeys(request, signer.jwks);
    if (pathname !== path) return new Response(null, { status: 404 });
    const passed = await passGate(request, env);
    if (passed instanceof Response) return passed;
    const { exchange, body } = passed;
    // The SDK answers `subscriptions/listen` before any handler: nothing here is listened to.
    if (body.method === 'subscriptions/listen')
      return Response.json({ jsonrpc: '2.0', id: body.id ?? null, error: { code: -32601, message: 'Method not found' } });
    const { token, accessToken, header, traceparent } = exchange;
    const signal = AbortSignal.any([closing.signal, ...(exchange.signal ? [exchange.signal] : [])]);
    const authInfo: AuthInfo = {
      token: '',
      clientId: token.clientId,
      scopes: token.scope.split(' '),
      expiresAt: token.expiresAt,
    };
    passages.set(authInfo, { caller: { token, accessToken, traceparent, signal }, header });
    const headers = new Headers(request.headers);
    for (const name of ['authorization', 'cookie', 'x-hmcp-patient']) headers.delete(name);
    const stripped = new Request(request.url, { method: 'POST', headers, signal: request.signal });
    return mcp.fetch(stripped, { authInfo, parsedBody: body });
  }

  return {
    async fetch(request) {
      if (closing.signal.aborted) return new Response(null, { status: 503, headers: { 'Retry-After': '1' } });
      return underway.add(serve(request));
    },
    jwksUri,
    trusted,
    async close() {
      closing.abort();
      // What is under way may wait by a clock that keeps no process alive.
      const stay = setInterval(() => undefined, 2 ** 30);
      await underway.idle().finally(() => clearInterval(stay));
      await mcp.close();
      await link?.close();
    },
  };
}

function linkOf({ credentials, fetch, log }: ContextManagerOptions, { voteMs, drainMs }: Timing): ParticipantLink | undefined {
  if (credentials === undefined) return undefined;
  const onFailure = (err: unknown): void => log?.warn({ err }, 'a request could not be decided');
  // Who answers later than that is silent anyhow.
  return mcpParticipants({ credentials, fetch, onFailure, timeoutMs: Math.max(voteMs, drainMs) });
}

function check({ verifier, resource, tenantKey, pseudonymKey, store, clients, fhirServers }: ContextManagerOptions): void {
  if (verifier.resource !== resource) throw unusable('"verifier" accepts tokens of another resource', 401);
  checkHashKey(tenantKey, 'tenantKey');
  checkHashKey(pseudonymKey, 'pseudonymKey');
  if (fhirServers.length === 0) throw new TypeError('"fhirServers" must name at least one');
  if (!store.durable && process.env.NODE_ENV === 'production') throw new TypeError('"store" forgets: not in production');
  const ids = clients.map(({ clientId }) => clientId);
  if (new Set(ids).size !== ids.length) throw new TypeError('"clients" names one client twice');
}

function serveKeys(request: Request, jwks: unknown): Response {
  if (request.method !== 'GET') return new Response(null, { status: 405, headers: { Allow: 'GET' } });
  return Response.json(jwks, { headers: { 'Cache-Control': 'public, max-age=300' } });
}
