import { META, PROTOCOL_VERSION } from '@hmcp/core';
import {
  type AuthInfo,
  createMcpHandler,
  InMemoryTransport,
  type JSONRPCMessage,
  type McpRequestContext,
  McpServer,
  type McpServerFactory,
  type Server,
  type Transport,
} from '@modelcontextprotocol/server';
import type { AgentEnv } from './define-agent.js';
import { decideListen, endAtExpiry, isListen, passGate, scopeChallenge } from './gate.js';
import { type Exchange, guardTransport } from './guard.js';
import { isMetadataPath, serveMetadata } from './metadata.js';
import { Declarations, declarationsOf } from './operations.js';

/** An HMCP server, web-standard: `fetch` serves one HTTP request. Mount it on Node with `serve`. */
export interface HmcpHandler {
  /** Serves MCP at the path of `env.resource`, and the protected-resource metadata. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** Resolves, once the factory has run for inspection, to the operations it registered without declaring them. */
  readonly undeclared: Promise<readonly string[]>;
  /** The guarded factory, for other carriers (stdio). */
  readonly factory: McpServerFactory;
  readonly env: AgentEnv;
  /** Tells listeners that a resource changed; carries no data. */
  readonly notify: ReturnType<typeof createMcpHandler>['notify'];
  close(): Promise<void>;
}

const exchanges = new WeakMap<AuthInfo, Exchange>();

/**
 * Makes an HMCP server of an MCP server factory (SDK v2): gate, guard, result check and audit around every instance.
 * The factory runs once at start for inspection; operations it leaves undeclared are logged with the line to add, and
 * answer 40303.
 * @see protocol section 3
 */
export function createHmcpHandler(factory: McpServerFactory, env: AgentEnv): HmcpHandler {
  const known = new Declarations(env.operations);
  const guarded: McpServerFactory = async (context) => {
    const product = await factory(context);
    const server = serverOf(product);
    const declarations = declarationsOf(server);
    known.include(declarations);
    announce(server, env);
    interceptConnect(server, (transport) =>
      guardTransport(transport, {
        env,
        carrier: 'http',
        declarations: () => merged(env, declarationsOf(server)),
        exchange: async (_message, extra) => (extra?.authInfo ? exchanges.get(extra.authInfo) : undefined),
      }),
    );
    return product;
  };
  const mcp = createMcpHandler(guarded, { onerror: () => undefined, maxRequestBodySize: 2_097_152 });
  const path = new URL(env.resource).pathname;
  const inspected = inspect(factory, env, known);

  async function fetch(request: Request): Promise<Response> {
    if (isMetadataPath(request, env)) {
      await inspected;
      return serveMetadata(request, env, scopesOf(known));
    }
    if (new URL(request.url).pathname !== path) return new Response(null, { status: 404 });
    const passed = await passGate(request, env);
    if (passed instanceof Response) return passed;
    const { exchange, body } = passed;
    if (isListen(body)) {
      const refused = await decideListen(body, exchange, env, known);
      if (refused) return refused;
    }
    // The token itself goes no further: behind the gate there is only what was verified about it.
    const authInfo: AuthInfo = {
      token: '',
      clientId: exchange.token.clientId,
      scopes: exchange.token.scope.split(' '),
      expiresAt: exchange.token.expiresAt,
    };
    exchanges.set(authInfo, exchange);
    const response = await mcp.fetch(request, { authInfo, parsedBody: body });
    // A stream may have begun before the decision: nothing is sent until it is taken.
    await Promise.allSettled(exchange.deciding);
    if (exchange.challenge !== undefined) {
      await response.body?.cancel();
      return scopeChallenge(exchange.challenge, env);
    }
    return deprecated(endAtExpiry(response, exchange.token.expiresAt, env), exchange, env);
  }

  return {
    fetch,
    undeclared: inspected,
    factory,
    env,
    notify: mcp.notify,
    close: () => mcp.close(),
  };
}

/** Announces the extension and how much context this server demands. @see protocol section 9 */
export function announce(server: Server, env: AgentEnv): void {
  server.registerCapabilities({
    extensions: { [META.context]: { versions: [PROTOCOL_VERSION], context: env.context ?? 'token' } },
  });
}

/** The server inside whatever a factory made. */
export function serverOf(product: McpServer | Server): Server {
  return product instanceof McpServer ? product.server : product;
}

/** Replaces `connect` of one instance, so that every transport it is ever connected to is instrumented first. */
export function interceptConnect(server: Server, instrument: (transport: Transport) => Transport): void {
  const connect = server.connect.bind(server);
  Object.defineProperty(server, 'connect', { value: (transport: Transport) => connect(instrument(transport)), writable: false });
}

/** Declarations of the deployment and of one server instance, together. */
export function merged(env: AgentEnv, own: Declarations): Declarations {
  const declarations = new Declarations(env.operations);
  declarations.include(own);
  return declarations;
}

function scopesOf(known: Declarations): string[] {
  return [
    ...new Set(known.all().flatMap((operation) => `${operation.scope} ${operation.onward ?? ''}`.split(' ').filter(Boolean))),
  ].sort();
}

/** `Deprecation` and `Sunset` on answers while the header may name a patient. @see protocol section 2.5 */
function deprecated(response: Response, exchange: Exchange, env: AgentEnv): Response {
  if (exchange.header === undefined || !env.transition) return response;
  const headers = new Headers(response.headers);
  headers.set('Deprecation', 'true');
  headers.set('Sunset', new Date(env.transition.until).toUTCString());
  return new Response(response.body, { status: response.status, headers });
}

/** Runs the factory once, lists what it registered over an in-process transport, and names what nobody declared. */
async function inspect(factory: McpServerFactory, env: AgentEnv, known: Declarations): Promise<readonly string[]> {
  const missing: string[] = [];
  try {
    const product = await factory({ era: 'legacy' } satisfies McpRequestContext);
    const server = serverOf(product);
    const declarations = merged(env, declarationsOf(server));
    known.include(declarationsOf(server));
    const lists = [
      ['tools', 'tools/list', 'tools', 'name'],
      ['prompts', 'prompts/list', 'prompts', 'name'],
      ['resources', 'resources/templates/list', 'resourceTemplates', 'uriTemplate'],
    ] as const;
    const [near, far] = InMemoryTransport.createLinkedPair();
    await server.connect(far);
    const ask = asker(near);
    await near.start();
    await ask('initialize', {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'inspection', version: '1' },
    });
    for (const [kind, method, member, key] of lists) {
      const entries = (await ask(method, {}))?.[member];
      if (!Array.isArray(entries)) continue;
      for (const entry of entries as Record<string, string>[]) {
        const name = entry[key] ?? '';
        if (declarations.find(kind, name)) continue;
        missing.push(`${kind}/${name}`);
        env.log?.warn(
          { method: kind, tool: name },
          'an operation is undeclared and answers 40303: declare it with patientTool or in `operations`',
        );
      }
    }
    await server.close();
  } catch (error) {
    env.log?.warn({ err: error }, 'the server factory could not be inspected at start');
  }
  return missing;
}

function asker(
  transport: Transport,
): (method: string, params: Record<string, unknown>) => Promise<Record<string, unknown> | undefined> {
  const waiting = new Map<unknown, (result: Record<string, unknown> | undefined) => void>();
  transport.onmessage = (message) => {
    const { id, result } = message as { id?: unknown; result?: Record<string, unknown> };
    waiting.get(id)?.(result);
  };
  let next = 0;
  return (method, params) =>
    new Promise((resolve, reject) => {
      const id = ++next;
      waiting.set(id, resolve);
      transport.send({ jsonrpc: '2.0', id, method, params } as JSONRPCMessage).catch(reject);
    });
}
