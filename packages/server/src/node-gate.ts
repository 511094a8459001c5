import type { IncomingMessage, ServerResponse } from 'node:http';
import { outsideScope } from '@hmcp/core/request-scope';
import { authInfoOf, BodyGone, deprecated, noteRefusal, SECRET_HEADERS, undecided, unprotected } from './behind-gate.js';
import type { Exchange } from './exchange.js';
import { type Json, MAX_BODY_BYTES } from './message.js';
import { readUpTo, shaped, Unreadable, writeWhole } from './node-exchange.js';
import { type PassedOn, type ProtectedGate, passProtected } from './protected-gate.js';

/** Middleware of Node: `node:http` with a function of one's own, or a framework of the `(req, res, next)` kind. */
export type NodeGate = (request: IncomingMessage, response: ServerResponse, next: () => unknown) => Promise<void>;

/** What earlier middleware and frameworks put on a request, and what the gate leaves for the SDK. */
type Carried = IncomingMessage & { originalUrl?: string; body?: unknown; rawBody?: unknown; auth?: unknown };

/** The gate as middleware: answers what does not pass, and hands the rest on with its body parsed and its secrets taken off. */
export function nodeGate(gate: ProtectedGate): NodeGate {
  return async (request, response, next) => {
    const gone = new AbortController();
    response.once('close', () => {
      if (!response.writableFinished) gone.abort();
    });
    if (response.destroyed) gone.abort(); // while earlier middleware was at work
    try {
      const passed = await outsideScope(async () => passProtected(await webRequest(request, gone.signal), gate));
      if (passed instanceof Response) return await writeWhole(passed, response);
      handOn(passed, request, response, gate);
      await next();
    } catch (error) {
      await writeWhole(error instanceof Unreadable ? new Response(null, { status: 400 }) : undecided(error, gate.env), response);
    }
  };
}

function handOn({ exchange, body }: PassedOn, request: Carried, response: ServerResponse, gate: ProtectedGate): void {
  for (const name of SECRET_HEADERS) delete request.headers[name];
  request.rawHeaders = request.rawHeaders.filter((_, i, all) => !SECRET_HEADERS.includes((all[i - (i % 2)] ?? '').toLowerCase()));
  request.auth = authInfoOf(exchange);
  if (body !== undefined) {
    request.body = body;
    // For a transport that is not handed the parsed body: the stream is at its end.
    request.rawBody = Buffer.from(JSON.stringify(body));
    withholdUndecided(exchange, body, response, gate);
  }
  const { headers } = deprecated(new Response(null), exchange, gate.env);
  for (const [name, value] of headers) response.setHeader(name, value);
}

/**
 * Lets no answer begin that no guard began to decide: it comes from a transport that nobody protected. Whatever is written then goes
 * nowhere, and the caller is told so instead.
 */
function withholdUndecided(exchange: Exchange, body: Json, response: ServerResponse, { env }: ProtectedGate): void {
  const { writeHead, flushHeaders, write, end } = response;
  let withheld = false;
  const withholds = (status: number): boolean => {
    // 202 answers what asks for nothing, and has no body.
    if (withheld || response.headersSent || status >= 400 || status === 202 || exchange.deciding.length > 0) return withheld;
    withheld = true;
    const answered = unprotected(exchange, body, env).then(async (said) => {
      const bytes = Buffer.from(await said.arrayBuffer());
      for (const name of response.getHeaderNames()) response.removeHeader(name);
      Reflect.apply(writeHead, response, [said.status, Object.fromEntries(said.headers)]);
      Reflect.apply(end, response, [bytes]);
    });
    answered.catch(() => response.destroy());
    return true;
  };
  response.writeHead = (...head: unknown[]) =>
    withholds(Number(head[0])) ? response : (Reflect.apply(writeHead, response, head) as ServerResponse);
  response.flushHeaders = () => {
    if (!withholds(response.statusCode)) Reflect.apply(flushHeaders, response, []);
  };
  response.write = (...chunk: unknown[]) => withholds(response.statusCode) || (Reflect.apply(write, response, chunk) as boolean);
  response.end = (...last: unknown[]) =>
    withholds(response.statusCode) ? response : (Reflect.apply(end, response, last) as ServerResponse);
  response.once('finish', () => {
    if (response.statusCode < 400 || exchange.deciding.length > 0) return;
    void noteRefusal(response.statusCode, exchange, body, env).catch(() => undefined);
  });
}

/** The request as the gate reads it. Repeated headers stay repeated; a body that earlier middleware read is taken from it. */
async function webRequest(request: Carried, signal: AbortSignal): Promise<Request> {
  const { method = 'GET', rawHeaders } = request;
  const target = request.originalUrl ?? request.url ?? '/';
  const headers = new Headers();
  for (let i = 0; i < rawHeaders.length; i += 2) headers.append(rawHeaders[i] ?? '', rawHeaders[i + 1] ?? '');
  if (method !== 'POST') return shaped(target, 'host.invalid', { method, headers, signal });
  const isRead = request.readableEnded;
  if (isRead && request.body === undefined && hadBody(request)) throw new BodyGone();
  const body = isRead ? textOf(request.body) : await readUpTo(request, MAX_BODY_BYTES + 1);
  return shaped(target, 'host.invalid', { method, headers, signal, body });
}

function hadBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

function textOf(body: unknown): string | Uint8Array<ArrayBuffer> {
  if (body instanceof Uint8Array) return new Uint8Array(body);
  return typeof body === 'string' ? body : (JSON.stringify(body) ?? '');
}
