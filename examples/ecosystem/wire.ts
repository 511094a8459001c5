import { spawn } from 'node:child_process';
import { createServer, type IncomingMessage, request } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import { fileURLToPath } from 'node:url';

/** The program of `@modelcontextprotocol/server-everything`. */
export const EVERYTHING = '@modelcontextprotocol/server-everything/dist/index.js';

/** What one server was sent: headers of a request, and each JSON-RPC message. */
export interface Sent {
  readonly headers: Readonly<Record<string, unknown>>;
  readonly message: unknown;
}

/** `@modelcontextprotocol/server-everything` as its own process over Streamable HTTP, with a proxy in front that keeps what it is sent. */
export async function serveEverything(): Promise<{
  readonly url: string;
  readonly sent: readonly Sent[];
  close(): Promise<void>;
}> {
  const port = await freePort(); // it takes its port from the environment, and does not tell which one it got
  const program = fileURLToPath(import.meta.resolve(EVERYTHING));
  const env = { PATH: process.env.PATH, PORT: String(port) };
  const child = spawn(process.execPath, [program, 'streamableHttp'], { stdio: ['ignore', 'ignore', 'pipe'], env });
  await new Promise<void>((resolve, reject) => {
    child.once('exit', () => reject(new Error('server-everything ended before it listened')));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (text.includes('listening on port')) resolve();
    });
  });
  const sent: Sent[] = [];
  const proxy = createServer(async (incoming, outgoing) => {
    const body = await textOf(incoming);
    sent.push({ headers: incoming.headers, message: body === '' ? undefined : JSON.parse(body) });
    const { method, url: path, headers } = incoming;
    const onward = request({ host: '127.0.0.1', port, method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    outgoing.once('close', () => onward.destroy());
    onward.once('error', () => outgoing.destroy());
    onward.end(body);
  });
  const url = `http://127.0.0.1:${await listen(proxy)}/mcp`;
  return {
    url,
    sent,
    async close() {
      proxy.closeAllConnections();
      proxy.close();
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/**
 * What of a patient context is in what was sent: names of headers and `_meta` members, and words that must not be there at all.
 * A tool's own arguments are what its caller says on purpose; they are looked through for `words`, too.
 */
export function leaksIn(sent: readonly Sent[], words: readonly string[]): string[] {
  return sent.flatMap(({ headers, message }) => {
    const { params } = (message ?? {}) as { params?: { _meta?: object } };
    const names = Object.keys(headers).filter((name) =>
      /^(authorization|cookie|traceparent|tracestate|baggage)$|hmcp/i.test(name),
    );
    const members = Object.keys(params?._meta ?? {}).filter((name) => name.startsWith('dev.hmcp/'));
    const text = JSON.stringify([headers, message]);
    return [...names, ...members, ...words.filter((word) => text.includes(word)).map(() => 'a word')];
  });
}

async function textOf(incoming: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of incoming.setEncoding('utf8')) text += chunk;
  return text;
}

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
