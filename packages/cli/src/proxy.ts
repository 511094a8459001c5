import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One HTTP exchange as it passed a proxy: what was asked, and every byte that left the party behind it. */
export interface RecordedExchange {
  /** Name of the party behind the proxy. */
  readonly to: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly requestBody: Buffer;
  readonly responseBody: Buffer;
}

/** A reverse proxy that holds the public address of one party before the party listens. */
export interface ReverseProxy {
  readonly port: number;
  /** Where requests go from now on; before that they get 503. */
  forwardTo(port: number): void;
  close(): Promise<void>;
}

const KEPT_BYTES = 16 * 1024 * 1024;

/**
 * Opens a reverse proxy on loopback. It changes nothing that passes, `Host` included; `record` sees each exchange when it
 * has ended.
 * @param port the port to hold; another free one when it is taken. 0: any
 */
export async function openProxy(
  name: string,
  port: number,
  record?: (exchange: RecordedExchange) => void,
): Promise<ReverseProxy> {
  const upstream = new Agent({ keepAlive: true });
  let target: number | undefined;
  const server = createServer((incoming, outgoing) => {
    if (target === undefined) {
      outgoing.writeHead(503, { 'retry-after': '1' }).end();
      return;
    }
    forward(incoming, outgoing, target, upstream, record && ((seen) => record({ to: name, ...seen })));
  });
  const listen = (wanted: number): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(wanted, '127.0.0.1', () => {
        server.off('error', reject);
        resolve();
      });
    });
  await listen(port).catch((error: NodeJS.ErrnoException) => {
    if (port === 0 || error.code !== 'EADDRINUSE') throw error;
    return listen(0);
  });
  return {
    port: (server.address() as AddressInfo).port,
    forwardTo(listening) {
      target = listening;
    },
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      upstream.destroy();
    },
  };
}

function forward(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  port: number,
  agent: Agent,
  record: ((exchange: Omit<RecordedExchange, 'to'>) => void) | undefined,
): void {
  const asked: Buffer[] = [];
  const answered: Buffer[] = [];
  // Raw headers: what a caller repeated must reach the party repeated.
  const onward = request({
    host: '127.0.0.1',
    port,
    method: incoming.method,
    path: incoming.url,
    headers: pairs(incoming.rawHeaders),
    agent,
    setHost: false,
  });
  onward.on('response', (answer) => {
    outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
    if (record) answer.on('data', keep(answered));
    answer.pipe(outgoing);
    answer.on('end', () => {
      record?.({
        method: incoming.method ?? '',
        path: incoming.url ?? '',
        status: answer.statusCode ?? 0,
        requestBody: Buffer.concat(asked),
        responseBody: Buffer.concat(answered),
      });
    });
    answer.on('error', () => outgoing.destroy());
  });
  onward.on('error', () => {
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(502).end();
  });
  outgoing.on('close', () => onward.destroy());
  if (record) incoming.on('data', keep(asked));
  incoming.pipe(onward);
}

function keep(chunks: Buffer[]): (chunk: Buffer) => void {
  let size = 0;
  return (chunk) => {
    size += chunk.length;
    if (size <= KEPT_BYTES) chunks.push(chunk);
  };
}

function pairs(raw: readonly string[]): string[] {
  return [...raw];
}
