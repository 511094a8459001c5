import { outsideScope } from '@hmcp/core/request-scope';
import type { AuthInfo, Transport } from '@modelcontextprotocol/server';
import { authInfoOf, BodyGone, deprecated, recordRefusal, undecided, unprotected, withoutSecrets } from './behind-gate.js';
import { CallerSessions } from './caller-sessions.js';
import { checkEnv } from './check-env.js';
import type { AgentEnv } from './define-agent.js';
import { scopeChallenge } from './gate.js';
import { guardTransport } from './guard.js';
import { metadataPaths } from './metadata.js';
import { type NodeGate, nodeGate } from './node-gate.js';
import { Declarations } from './operations.js';
import { type ProtectedGate, passProtected } from './protected-gate.js';
import { checkStated, type ProtectedOperations } from './protected-operations.js';

/** The deployment of a server that was not written for HMCP: what it serves is declared here, or answers 40303. */
export interface ProtectionEnv extends AgentEnv {
  readonly operations: ProtectedOperations;
}

/** A server transport of either SDK, by what both have; nothing of SDK v1 is needed at run time. */
export interface ServerTransport {
  start(): Promise<void>;
  close(): Promise<void>;
  send(message: never, options?: never): Promise<void>;
}

/** How one transport is protected. */
export interface ProtectOptions {
  /** On a pipe only: a token that pins every request of the connection to one patient. @default none, each request has its own */
  readonly accessToken?: string | undefined;
}

/** What a passed request is served with: the second argument of `handleRequest` and `fetch` in both SDKs. */
export interface PassedRequest {
  readonly authInfo: AuthInfo;
  readonly parsedBody?: unknown;
}

/** HMCP around a server one already has, on SDK v2 or v1. Both halves are needed on HTTP: each refuses without the other. */
export interface Protection {
  /**
   * The paths the gate answers: that of `resource`, and those of its metadata document, which a 401 points to. Mount the gate, or
   * what `fetch` gives, at all of them.
   */
  readonly paths: string[];
  /**
   * Middleware in front of a Node transport: 401 and 403 with their challenges, the metadata document, body limit, no GET. It
   * leaves `req.auth` and the parsed `req.body` for the SDK, and answers 404 to every path but {@link Protection.paths}.
   * - express: `app.use(hmcp.paths, hmcp.gate)`; it goes by `originalUrl`, so a router in between does no harm. Mounted at the
   *   path of the resource alone it decides the same, but nobody finds the metadata document
   * - fastify: in an `onRequest` hook, for fastify reads the body after it, and hijacked, for the SDK writes the answer:
   *   `reply.hijack(); return hmcp.gate(request.raw, reply.raw, () => …)`
   * - `node:http`: `hmcp.gate(request, response, () => …)`
   * - hono, and whatever else is web-standard: {@link Protection.fetch}
   *
   * Best before any body parser. Behind one it decides on what the parser left in `req.body`: a name that was there twice is no
   * longer seen. A parser that left nothing there is 500 and a notice.
   */
  readonly gate: NodeGate;
  /** The same in front of a web-standard transport, as on hono; `serve` is only called with what passed. */
  fetch(serve: (request: Request, passed: PassedRequest) => Promise<Response>): (request: Request) => Promise<Response>;
  /**
   * Instruments a server transport in place, before it is connected: HTTP behind a gate, with or without sessions, or a pipe.
   * Whatever is registered on the server, and whenever, every message passes the ordered decision first.
   * @throws {TypeError} when the transport is in use or protected already
   * @see protocol section 3
   */
  protect<T extends ServerTransport>(transport: T, options?: ProtectOptions): T;
}

/**
 * Protects MCP servers that were not written for HMCP, in three lines: this, the gate, and `protect` around each transport.
 * @throws {TypeError} naming the member of `env` that cannot be used, or the operation that leaves open which argument names the patient
 * @see protocol section 3
 */
export function createProtection(env: ProtectionEnv): Protection {
  checkEnv(env);
  checkStated(env.operations);
  const gate: ProtectedGate = { env, declarations: new Declarations(env.operations), sessions: new CallerSessions() };
  const isProtected = new WeakSet<ServerTransport>();
  return {
    paths: [...new Set([new URL(env.resource).pathname, ...metadataPaths(env)])],
    gate: nodeGate(gate),
    fetch: (serve) => webGate(gate, serve),
    protect(transport, { accessToken } = {}) {
      const guarded = transport as unknown as Transport;
      if (isProtected.has(transport)) throw new TypeError('the transport is protected already');
      if (guarded.onmessage !== undefined) throw new TypeError('protect a transport before it is connected');
      isProtected.add(transport);
      guardTransport(guarded, {
        env,
        declarations: () => gate.declarations,
        accessToken,
        announces: true,
        admits: (exchange) => gate.sessions.admits(guarded.sessionId, exchange),
        closed: () => gate.sessions.forget(guarded.sessionId),
      });
      return transport;
    },
  };
}

type Serve = Parameters<Protection['fetch']>[0];

function webGate(gate: ProtectedGate, serve: Serve): (request: Request) => Promise<Response> {
  const { env } = gate;
  const decide = async (request: Request): Promise<Response> => {
    if (request.bodyUsed) throw new BodyGone();
    const passed = await passProtected(request, gate);
    if (passed instanceof Response) return passed;
    const { exchange, body } = passed;
    const authInfo = authInfoOf(exchange);
    const response = await serve(withoutSecrets(request), body === undefined ? { authInfo } : { authInfo, parsedBody: body });
    if (body === undefined) return response;
    // A stream may have begun before the decision: nothing is sent until it is taken.
    await Promise.allSettled(exchange.deciding);
    if (exchange.challenge !== undefined) {
      await response.body?.cancel();
      return scopeChallenge(exchange.challenge, env);
    }
    if (exchange.deciding.length > 0 || response.status === 202) return deprecated(response, exchange, env);
    if (response.status >= 400) return recordRefusal(response, exchange, body, env);
    await response.body?.cancel();
    return unprotected(exchange, body, env);
  };
  return async (request) => {
    try {
      return await outsideScope(() => decide(request));
    } catch (error) {
      return undecided(error, env);
    }
  };
}
