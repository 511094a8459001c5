import { AuthorityUnavailable, bearerChallenge, protectedResourceMetadataUrl, readBearer, TokenError } from '@hmcp/auth';
import { type Check, HmcpError, META, parsePatientHeader } from '@hmcp/core';
import { makeDurable } from './audit.js';
import type { AgentEnv } from './define-agent.js';
import type { Exchange } from './exchange.js';
import { isJsonObject, type Json, MAX_BODY_BYTES, metaOf, readMessage } from './message.js';
import { ownedBody } from './node-exchange.js';
import { wireError } from './wire-error.js';

const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A request that passed the gate, ready for the MCP handler behind it. */
export interface Passed {
  readonly exchange: Exchange;
  readonly body: Json;
}

/**
 * The first checks of protocol section 3, on HTTP: size and syntax, host and origin, `Authorization`, token.
 * Answers 400, 401, 403, 405, 413, 415 or 503 itself; nothing later is evaluated then.
 * @see protocol sections 3 and 4
 */
export async function passGate(request: Request, env: AgentEnv): Promise<Passed | Response> {
  if (request.method !== 'POST') return plain(405, 'only POST is served here', { Allow: 'POST' });
  const body = await readBody(request);
  if (body instanceof Fault) return refuse(body, request, env);
  const strange = strangeHost(request, env);
  if (strange) return refuse(strange, request, env);
  const patient = parsePatientHeader(request.headers.get('x-hmcp-patient'));
  if ('malformed' in patient) return refuse(new Fault(400, 'X-HMCP-Patient must be one bare FHIR id', 'header'), request, env);

  try {
    const accessToken = readBearer(request);
    if (META.authorization in metaOf(isJsonObject(body.params) ? body.params : {}))
      throw new TokenError('invalid_request', 'token in the body');
    return { body, exchange: await exchangeBy(accessToken, request, patient.header, env) };
  } catch (error) {
    return refuseToken(error, request, env);
  }
}

/** The same of a request that says nothing but its address: host and origin, `Authorization`, token. */
export async function passCaller(request: Request, env: AgentEnv): Promise<Exchange | Response> {
  const strange = strangeHost(request, env);
  if (strange) return refuse(strange, request, env);
  try {
    return await exchangeBy(readBearer(request), request, undefined, env);
  } catch (error) {
    return refuseToken(error, request, env);
  }
}

/** A request whose signal is in use is kept: Node lets go of what aborts the signal together with the request. */
const kept = new WeakMap<AbortSignal, Request>();

async function exchangeBy(accessToken: string, request: Request, header: string | undefined, env: AgentEnv): Promise<Exchange> {
  const token = await env.verifier.verify(accessToken);
  kept.set(request.signal, request);
  return {
    token,
    accessToken,
    carrier: 'http',
    header,
    traceparent: traceparentOf(request),
    signal: request.signal,
    deciding: [],
  };
}

/** What is wrong with a request before its token is looked at. */
class Fault {
  readonly status: number;
  /** A fixed sentence: the answer, and the reason in the audit. */
  readonly says: string;
  readonly check: Check;
  /** JSON-RPC code, when the body was to be JSON-RPC. */
  readonly code: number | undefined;

  constructor(status: number, says: string, check: Check, code?: number) {
    this.status = status;
    this.says = says;
    this.check = check;
    this.code = code;
  }
}

async function refuse({ status, says, check, code }: Fault, request: Request, env: AgentEnv): Promise<Response> {
  const answer = code === undefined ? plain(status, says) : jsonRpc(status, null, { code, message: says });
  return recorded({ code: status, check, reason: says }, answer, request, env);
}

/** The trace a request says it belongs to; `undefined` when it is malformed. */
function traceparentOf(request: Request): string | undefined {
  const traceparent = request.headers.get('traceparent') ?? '';
  return TRACEPARENT.test(traceparent) ? traceparent : undefined;
}

/**
 * The refusal once its record is durable, else 50302. Before the token holds nobody knows whose request it was: its trace is all by
 * which the record is found from the caller's side.
 */
async function recorded(
  refusal: { readonly code: number; readonly check: Check; readonly reason: string },
  answer: Response,
  request: Request,
  env: AgentEnv,
): Promise<Response> {
  const traceparent = traceparentOf(request);
  try {
    await makeDurable(env, { ...refusal, event: 'request.refused', outcome: 4, by: env.resource, traceparent });
    return answer;
  } catch (error) {
    return auditUnavailable(error, null);
  }
}

/** 400 or 401 for a token fault, 503 for an authority that is down; audited, and nothing of the token in it. */
function refuseToken(error: unknown, request: Request, env: AgentEnv): Promise<Response> {
  if (error instanceof AuthorityUnavailable) {
    const answer = plain(503, 'an authority this server must ask did not answer', {
      'Retry-After': `${error.retryAfterSeconds}`,
    });
    return recorded({ code: 503, check: 'token', reason: 'the authority is unavailable' }, answer, request, env);
  }
  const fault = error instanceof TokenError ? error : undefined;
  if (!fault) env.log?.error({ err: error }, 'a request could not be decided');
  const status = fault?.status ?? 401;
  const challenge = bearerChallenge({
    error: fault === undefined ? 'invalid_token' : fault.error,
    description: fault?.error === 'invalid_token' ? 'the access token is not valid for this server' : undefined,
    resourceMetadata: protectedResourceMetadataUrl(env.resource),
  });
  const says = status === 400 ? 'malformed authorization' : 'a valid access token is required';
  const reason = fault?.reason ?? 'the token could not be verified';
  return recorded({ code: status, check: 'token', reason }, plain(status, says, { 'WWW-Authenticate': challenge }), request, env);
}

/** The 403 of a scope refusal: one complete challenge. @see protocol section 4 */
export function scopeChallenge(scope: string, env: AgentEnv): Response {
  const description = 'the access token lacks a scope of this operation';
  const resourceMetadata = protectedResourceMetadataUrl(env.resource);
  const challenge = bearerChallenge({ error: 'insufficient_scope', description, scope, resourceMetadata });
  return plain(403, description, { 'WWW-Authenticate': challenge });
}

/** 50302 on HTTP 200: what was to be answered could not be recorded. @param error rethrown when it is anything else */
export function auditUnavailable(error: unknown, id: unknown): Response {
  if (!(error instanceof HmcpError)) throw error;
  return jsonRpc(200, typeof id === 'string' || typeof id === 'number' ? id : null, wireError(error));
}

/**
 * Cuts a streamed response when the token it was opened with expires, or its epoch passes.
 * @param over aborts when the epoch has passed
 * @param ended called once the stream has ended, however it did
 * @see protocol section 3
 */
export function endStream(response: Response, left: number, over: AbortSignal, ended?: () => void): Response {
  if (response.body === null) {
    ended?.();
    return response;
  }
  const reader = response.body.getReader();
  let timer: NodeJS.Timeout | undefined;
  let isEnded = false;
  const end = (how: () => void): void => {
    if (isEnded) return;
    isEnded = true;
    clearTimeout(timer);
    ended?.();
    how();
  };
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const cut = (): void =>
        end(() => {
          controller.close();
          void reader.cancel().catch(() => undefined);
        });
      timer = setTimeout(cut, Math.min(Math.max(left, 0), 2 ** 31 - 1));
      timer.unref();
      if (over.aborted) cut();
      else over.addEventListener('abort', cut, { once: true });
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) end(() => controller.close());
        else if (!isEnded) controller.enqueue(value);
      } catch {
        end(() => controller.error(new Error('the stream failed')));
      }
    },
    cancel(reason) {
      end(() => undefined);
      return reader.cancel(reason);
    },
  });
  return new Response(body, { status: response.status, headers: response.headers });
}

function strangeHost(request: Request, env: AgentEnv): Fault | undefined {
  const own = addressOf(env);
  const host = request.headers.get('host') ?? new URL(request.url).host;
  if (host !== own.host) return new Fault(403, 'this host name is not served here', 'header');
  const origin = request.headers.get('origin');
  const known = origin === null || origin === own.origin || (env.allowedOrigins ?? []).includes(origin);
  return known ? undefined : new Fault(403, 'this origin may not call', 'header');
}

const addresses = new WeakMap<AgentEnv, URL>();

/** The resource identifier as a URL, read once. */
function addressOf(env: AgentEnv): URL {
  let address = addresses.get(env);
  if (address !== undefined) return address;
  address = new URL(env.resource);
  addresses.set(env, address);
  return address;
}

async function readBody(request: Request): Promise<Json | Fault> {
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') return new Fault(415, 'the body must be application/json', 'size');
  const own = ownedBody(request);
  const bytes = own?.bytes ?? (await readAll(request));
  if (bytes.byteLength > MAX_BODY_BYTES) return new Fault(413, 'the body is too large', 'size');
  let text: string;
  try {
    text = own?.text ?? UTF_8.decode(bytes);
  } catch {
    return new Fault(400, 'Parse error', 'size', -32700);
  }
  const read = readMessage(text);
  return read.ok ? read.message : new Fault(400, read.says, 'size', read.code);
}

/** A body to its end, or to where it is too large. */
async function readAll(request: Request): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  if (request.body) {
    for await (const chunk of request.body) {
      size += chunk.byteLength;
      chunks.push(chunk);
      if (size > MAX_BODY_BYTES) break;
    }
  }
  return Buffer.concat(chunks);
}

/** A JSON-RPC error at an HTTP status of its own. */
export function jsonRpc(status: number, id: string | number | null, error: object): Response {
  return Response.json({ jsonrpc: '2.0', id, error }, { status, headers: { 'Cache-Control': 'no-store' } });
}

function plain(status: number, sentence: string, headers: Record<string, string> = {}): Response {
  return Response.json({ error: sentence }, { status, headers: { 'Cache-Control': 'no-store', ...headers } });
}
