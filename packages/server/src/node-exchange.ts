import { isUtf8 } from 'node:buffer';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { MAX_BODY_BYTES } from './message.js';

/** Answers a request in the shapes of the web. */
type WebFetch = (request: Request) => Promise<Response>;

/** A body as it was read, and as text where it is UTF-8. */
interface OwnedBody {
  readonly bytes: Uint8Array;
  readonly text: string | undefined;
  /** Nobody stands between Node and the handler: neither request nor response needs a body of its own. */
  readonly direct: boolean;
}

const owned = new WeakMap<Request, OwnedBody>();
const written = new WeakMap<Response, string>();
const handlers = new WeakMap<object, WebFetch>();

/** Remembers a handler of this package: where Node calls it, bodies are handed over as they are, and no stream is made of them. */
export function speaksToNode(handler: { readonly fetch: WebFetch }): void {
  handlers.set(handler, handler.fetch);
}

/**
 * The body of a request that this package made of one of Node's, as it was read; nobody else holds such a request, so its headers need
 * no copy. `undefined` for a request of anybody else's.
 */
export function ownedBody(request: Request): OwnedBody | undefined {
  return owned.get(request);
}

/** A response with this text in the place of its own; Node is given the text, and reads no stream for it. */
export function writtenWhole(text: string, { status, headers }: Response, request: Request): Response {
  const response = new Response(owned.get(request)?.direct ? null : text, { status, headers });
  written.set(response, text);
  return response;
}

/** The same response under other headers. */
export function withHeaders(response: Response, headers: Headers): Response {
  const text = written.get(response);
  const same = new Response(response.body, { status: response.status, headers });
  if (text !== undefined) written.set(same, text);
  return same;
}

/** Serves one exchange of Node by a web-standard handler: reads the request, bounded, and writes what is answered. */
export async function serveExchange(
  handler: { readonly fetch: WebFetch },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort();
  });
  let answer: Response;
  try {
    // Not where somebody put another function in its place: that one may read, or copy, what it is given.
    const direct = handlers.get(handler) === handler.fetch;
    answer = await handler.fetch(await ownRequest(request, gone.signal, direct));
  } catch (error) {
    answer =
      error instanceof Unreadable
        ? new Response(null, { status: 400 })
        : Response.json({ jsonrpc: '2.0', id: null, error: { code: -32603, message: 'Internal error' } }, { status: 500 });
  }
  try {
    if (answer.headers.get('content-type')?.startsWith('text/event-stream')) await writeStream(answer, response, gone.signal);
    else await writeWhole(answer, response);
  } catch {
    response.destroy(); // half of an answer looks like none
  }
}

async function ownRequest(request: IncomingMessage, signal: AbortSignal, direct: boolean): Promise<Request> {
  const { method = 'GET', headers: given, url = '/' } = request;
  const headers = new Headers();
  for (const [name, value] of Object.entries(given)) {
    if (typeof value === 'string') headers.set(name, value);
    else for (const one of value ?? []) headers.append(name, one);
  }
  const bodied = method !== 'GET' && method !== 'HEAD';
  const bytes = bodied ? await readUpTo(request, MAX_BODY_BYTES + 1) : Buffer.alloc(0);
  const text = isUtf8(bytes) ? bytes.toString() : undefined;
  const body = bodied && !direct ? { body: text ?? bytes } : {};
  const made = shaped(url, given.host ?? 'localhost', { method, headers, signal, ...body });
  owned.set(made, { bytes, text, direct });
  return made;
}

/** A request that is none: its target or method cannot be put as one of the web, or it ended before its body did. */
export class Unreadable extends Error {
  override readonly name = 'Unreadable';
}

/**
 * What Node was asked, in the shape of the web. A target that names its host, as to a proxy, is believed before the header.
 * @throws {Unreadable}
 * @see RFC 9112 section 3.2.2
 */
export function shaped(target: string, host: string, init: RequestInit & { readonly headers: Headers }): Request {
  try {
    if (!/^https?:\/\//i.test(target)) return new Request(`http://${host}${target}`, init);
    init.headers.set('host', new URL(target).host);
    return new Request(target, init);
  } catch {
    throw new Unreadable();
  }
}

/**
 * As much of a body as shows that it is too large; what is beyond is read and dropped, so that it can be answered.
 * @throws {Unreadable} when it ended early
 */
export function readUpTo(request: IncomingMessage, most: number): Promise<Buffer<ArrayBuffer>> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      if (size < most) chunks.push(chunk);
      size += chunk.length;
      if (size >= most) resolve(Buffer.concat(chunks));
    });
    request.once('end', () => resolve(Buffer.concat(chunks)));
    const endedEarly = (): void => reject(new Unreadable());
    request.once('error', endedEarly);
    request.once('close', () => {
      if (!request.readableEnded) endedEarly();
    });
    if (request.readableEnded) reject(new Error('the body was read by somebody else'));
    else if (request.destroyed) endedEarly();
  });
}

/** Writes an answer that is had as a whole. */
export async function writeWhole(said: Response, response: ServerResponse): Promise<void> {
  if (response.headersSent || response.destroyed) return;
  const text = written.get(said);
  const body = text ?? Buffer.from(await said.arrayBuffer());
  const length = text === undefined && said.body === null ? {} : { 'content-length': `${Buffer.byteLength(body)}` };
  const tooLarge = said.status === 413 ? { connection: 'close' } : {};
  response.writeHead(said.status, { ...headersOf(said), ...length, ...tooLarge });
  response.end(body);
}

/** Cookies stand one in a line: they cannot be put together. How the body travels on this connection is Node's to say. */
function headersOf({ headers }: Response): OutgoingHttpHeaders {
  const cookies = headers.getSetCookie();
  const { 'transfer-encoding': _, ...others } = Object.fromEntries(headers);
  return { ...others, ...(cookies.length > 1 ? { 'set-cookie': cookies } : {}) };
}

/** Writes an answer as it comes; the handler is told when its reader has gone. */
async function writeStream(said: Response, response: ServerResponse, gone: AbortSignal): Promise<void> {
  response.writeHead(said.status, headersOf(said));
  response.flushHeaders();
  const reader = said.body?.getReader();
  const left = (): void => void reader?.cancel().catch(() => undefined);
  gone.addEventListener('abort', left, { once: true });
  if (gone.aborted) left();
  try {
    for (let read = await reader?.read(); read !== undefined && !read.done; read = await reader?.read()) {
      if (!response.write(read.value)) await drained(response);
    }
  } catch {
    // The stream failed: what was sent so far is all there is.
  } finally {
    gone.removeEventListener('abort', left);
    response.end();
  }
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    if (response.destroyed) return resolve(); // what it would have told is past
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.once('drain', done);
    response.once('close', done);
  });
}
