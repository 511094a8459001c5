import { outsideScope } from '@hmcp/core/request-scope';
import { createMcpHandler, isLegacyRequest, type McpServerFactory } from '@modelcontextprotocol/server';
import { intentOf } from './admitted.js';
import { describe, makeDurable } from './audit.js';
import { authInfoOf, deprecated, idOf, inboundOf, recordRefusal, scopesOf, undecided, withoutSecrets } from './behind-gate.js';
import { checkEnv } from './check-env.js';
import type { AgentEnv, HmcpHandler } from './define-agent.js';
import type { Exchange } from './exchange.js';
import { fenceOf } from './fence.js';
import { auditUnavailable, endStream, jsonRpc, type Passed, passGate, scopeChallenge } from './gate.js';
import { guardTransport } from './guard.js';
import { inspect } from './inspection.js';
import { decideListen } from './listen.js';
import type { Json } from './message.js';
import { isMetadataPath, serveMetadata } from './metadata.js';
import { speaksToNode, writtenWhole } from './node-exchange.js';
import { Declarations, declarationsOf } from './operations.js';
import { announce, interceptConnect, serverOf } from './server-of.js';
import { refusalOnWire } from './wire-error.js';

/** What a carrier needs that guards the wire itself (stdio). */
interface Unguarded {
  readonly factory: McpServerFactory;
  /** Complete once the handler's `undeclared` has resolved. */
  readonly known: Declarations;
}

const unguarded = new WeakMap<HmcpHandler, Unguarded>();

/** The factory behind a handler. @throws {TypeError} when {@link createHmcpHandler} did not make it */
export function behindHandler(handler: HmcpHandler): Unguarded {
  const found = unguarded.get(handler);
  if (!found) throw new TypeError('an agent must create its handler with createHmcpHandler');
  return found;
}

/**
 * Makes an HMCP server of an MCP server factory (SDK v2): gate, guard, result check and audit around every instance.
 * The factory runs once at start for inspection; operations it leaves undeclared are logged with the line to add, and
 * answer 40303.
 * @throws {TypeError} naming the member of `env` that cannot be used
 * @see protocol section 3
 */
export function createHmcpHandler(factory: McpServerFactory, env: AgentEnv): HmcpHandler {
  checkEnv(env);
  const known = new Declarations(env.operations);
  const guarded: McpServerFactory = async (context) => {
    const product = await factory(context);
    const server = serverOf(product);
    const declarations = new Declarations(env.operations, declarationsOf(server));
    known.include(declarationsOf(server));
    announce(server, env);
    interceptConnect(server, (transport) => guardTransport(transport, { env, declarations: () => declarations }));
    return product;
  };
  const mcp = createMcpHandler(guarded, { onerror: () => undefined });
  const path = new URL(env.resource).pathname;
  const inspected = outsideScope(() => inspect(factory, env, known));

  async function serve(request: Request): Promise<Response> {
    if (isMetadataPath(request, env)) {
      await inspected;
      return serveMetadata(request, env, scopesOf(known));
    }
    if (new URL(request.url).pathname !== path) return new Response(null, { status: 404 });
    const passed = await passGate(request, env);
    if (passed instanceof Response) return passed;
    const answer = (await serveListen(passed, request)) ?? (await serveRequest(passed, request));
    return deprecated(answer, passed.exchange, env);
  }

  async function serveRequest({ exchange, body }: Passed, request: Request): Promise<Response> {
    let whole: string | undefined;
    exchange.takesWhole = (answer) => {
      whole = answer;
    };
    const response = await forward(request, exchange, body);
    // A stream may have begun before the decision: nothing is sent until it is taken.
    await Promise.allSettled(exchange.deciding);
    if (exchange.challenge !== undefined) {
      await response.body?.cancel();
      return scopeChallenge(exchange.challenge, env);
    }
    // What the SDK refused itself never reached the guard.
    if (response.status < 400 || exchange.deciding.length > 0)
      return whole === undefined ? response : writtenWhole(whole, response, request);
    return recordRefusal(response, exchange, body, env);
  }

  /** `subscriptions/listen` of revision 2026-07-28 is answered by the SDK before any transport: it is decided here. */
  async function serveListen({ exchange, body }: Passed, request: Request): Promise<Response | undefined> {
    if (body.method !== 'subscriptions/listen' || body.id === undefined || (await isLegacyRequest(request, body)))
      return undefined;
    const inbound = inboundOf(exchange, body);
    const decision = await decideListen(inbound, env, known);
    const { seal } = decision;
    const context = decision.verdict === 'serve' ? decision.context : undefined;
    const record = { ...(await describe(inbound, env, context, seal)), intent: intentOf(inbound.params) };
    try {
      if (decision.verdict === 'refuse') {
        const { refusal } = decision;
        const error = refusalOnWire(refusal, inbound, env, record.intent);
        const code = refusal.kind === 'scope' ? 403 : error.code;
        const { check, reason } = refusal;
        await makeDurable(env, { ...record, event: 'request.refused', outcome: 4, code, check, reason });
        return refusal.kind === 'scope' ? scopeChallenge(refusal.scope, env) : jsonRpc(200, idOf(body), error);
      }
      const response = await forward(request, exchange, body);
      if (response.status >= 400) return recordRefusal(response, exchange, body, env);
      await makeDurable(env, { ...record, event: 'request.served', outcome: 0 });
      const over = new AbortController();
      const leave = seal && fenceOf(env).epochs.enter(seal, { epoch: seal.epoch, end: () => over.abort() });
      return endStream(response, exchange.token.expiresAt * 1000 - (env.now ?? Date.now)(), over.signal, leave);
    } catch (error) {
      return auditUnavailable(error, body.id);
    }
  }

  /** Behind the gate there is only what was verified about a token: neither it nor a patient header goes further. */
  function forward(request: Request, exchange: Exchange, body: Json): Promise<Response> {
    return mcp.fetch(withoutSecrets(request), { authInfo: authInfoOf(exchange), parsedBody: body });
  }

  const handler: HmcpHandler = {
    async fetch(request) {
      try {
        return await outsideScope(() => serve(request));
      } catch (error) {
        return undecided(error, env);
      }
    },
    undeclared: inspected,
    factory: guarded,
    env,
    notify: mcp.notify,
    close: () => mcp.close(),
  };
  unguarded.set(handler, { factory, known });
  speaksToNode(handler);
  return handler;
}
