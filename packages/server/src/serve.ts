import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type NodeIncomingMessageLike, toNodeHandler } from '@modelcontextprotocol/node';
import type { AgentDefinition, AgentEnv, HmcpHandler } from './define-agent.js';

/** A served agent. */
export interface Served {
  /** The port it listens on. */
  readonly port: number;
  readonly handler: HmcpHandler;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Where to listen. */
export interface ServeOptions {
  /** @default 0, a free port */
  readonly port?: number | undefined;
  /** @default "127.0.0.1" */
  readonly host?: string | undefined;
  /** Says that TLS ends in front of this process; required to listen anywhere but on loopback. @default false */
  readonly behindProxy?: boolean | undefined;
}

/**
 * Serves an agent over HTTP on Node.
 * @throws {TypeError} when asked to listen beyond loopback without `behindProxy`
 * @see protocol section 9
 */
export async function serve(agent: AgentDefinition, env: AgentEnv, options: ServeOptions = {}): Promise<Served> {
  const host = options.host ?? '127.0.0.1';
  if (!['127.0.0.1', '::1', 'localhost'].includes(host) && options.behindProxy !== true) {
    throw new TypeError('"host" is not loopback: TLS must end in front of this process, and "behindProxy" must say so');
  }
  const handler = agent.create(env);
  const http = createServer({ headersTimeout: 10_000, requestTimeout: 30_000, maxHeaderSize: 16_384 }, nodeListener(handler));
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject);
    http.listen(options.port ?? 0, host, resolve);
  });
  const close = (): Promise<void> => closeServer(http, handler);
  return { port: (http.address() as AddressInfo).port, handler, close, [Symbol.asyncDispose]: close };
}

/** The Node request listener of a handler; refuses headers that must stand once but were repeated. */
export function nodeListener(handler: HmcpHandler): (request: IncomingMessage, response: ServerResponse) => void {
  const serveMcp = toNodeHandler({ fetch: (request) => handler.fetch(request) }, { maxRequestBodySize: 1_048_577 });
  return (request, response) => {
    if (repeats(request, 'authorization') || repeats(request, 'x-hmcp-patient')) {
      response.writeHead(400, { 'content-type': 'application/json', 'cache-control': 'no-store' });
      response.end('{"error":"a header that must stand once was repeated"}');
      return;
    }
    void serveMcp(request as NodeIncomingMessageLike, response);
  };
}

/** Node keeps the first of a repeated header: only the raw list tells. */
function repeats(request: IncomingMessage, name: string): boolean {
  let count = 0;
  for (let i = 0; i < request.rawHeaders.length; i += 2) if (request.rawHeaders[i]?.toLowerCase() === name) count += 1;
  return count > 1;
}

async function closeServer(http: HttpServer, handler: HmcpHandler): Promise<void> {
  const closed = new Promise<void>((resolve) => http.close(() => resolve()));
  http.closeAllConnections();
  await closed;
  await handler.close();
}
