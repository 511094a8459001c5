import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { FhirServer } from './fhir-server.js';

/** Where a FHIR server listens. */
export interface FhirListenOptions {
  /** Public base URL, as in the server's options: requests are seen at its origin, whatever address they arrive at. */
  readonly base: string;
  /** @default 0, any free port */
  readonly port?: number | undefined;
  /** @default 127.0.0.1 */
  readonly hostname?: string | undefined;
}

/** A listening server. */
export interface FhirListener {
  readonly port: number;
  close(): Promise<void>;
}

/** Serves a {@link FhirServer} over HTTP/1.1. Headers are limited to 16 KiB; request bodies are not read. */
export async function listenFhir(server: FhirServer, options: FhirListenOptions): Promise<FhirListener> {
  const { origin } = new URL(options.base);
  const http = createServer({ maxHeaderSize: 16_384, headersTimeout: 10_000, requestTimeout: 30_000 }, (incoming, outgoing) => {
    serve(server, origin, incoming, outgoing).catch(() => outgoing.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject);
    http.listen(options.port ?? 0, options.hostname ?? '127.0.0.1', resolve);
  });
  return {
    port: (http.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve, reject) => {
        http.close((error) => (error ? reject(error) : resolve()));
        http.closeAllConnections();
      }),
  };
}

async function serve(server: FhirServer, origin: string, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const request = requestOf(origin, incoming);
  const response = request ? await server.fetch(request) : new Response(null, { status: 400 });
  const body = Buffer.from(await response.arrayBuffer());
  outgoing.writeHead(response.status, { ...Object.fromEntries(response.headers), 'content-length': body.length });
  outgoing.end(body);
}

/** From `rawHeaders`, so that a second `Authorization` header is seen and refused. */
function requestOf(origin: string, incoming: IncomingMessage): Request | undefined {
  try {
    const headers = new Headers();
    for (let at = 0; at + 1 < incoming.rawHeaders.length; at += 2) {
      const [name = '', value = ''] = incoming.rawHeaders.slice(at, at + 2);
      if (!name.startsWith(':')) headers.append(name, value);
    }
    const path = incoming.url ?? '/';
    return path.startsWith('/') ? new Request(`${origin}${path}`, { method: incoming.method ?? 'GET', headers }) : undefined;
  } catch {
    return undefined;
  }
}
