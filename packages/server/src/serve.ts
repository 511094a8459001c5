import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { AgentDefinition, AgentEnv, HmcpHandler } from './define-agent.js';
import { serveExchange } from './node-exchange.js';

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

/**
 * The Node request listener of a handler. Node keeps only the first of a repeated header: those that must stand once are put
 * together again, so that the gate sees that they were repeated.
 */
export function nodeListener(handler: Pick<HmcpHandler, 'fetch'>): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    for (const name of ['host', 'content-type', 'authorization', 'x-hmcp-patient']) {
      const values = valuesOf(request, name);
      if (values.length > 1) request.headers[name] = values.join(', ');
    }
    void serveExchange(handler, request, response);
  };
}

function valuesOf({ rawHeaders }: IncomingMessage, name: string): string[] {
  return rawHeaders.filter((_, i) => i % 2 === 1 && rawHeaders[i - 1]?.toLowerCase() === name);
}

async function closeServer(http: HttpServer, handler: HmcpHandler): Promise<void> {
  const closed = new Promise<void>((resolve) => http.close(() => resolve()));
  http.closeAllConnections();
  await closed;
  await handler.close();
}
