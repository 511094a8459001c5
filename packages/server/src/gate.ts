import { AuthorityUnavailable, bearerChallenge, protectedResourceMetadataUrl, readBearer, TokenError } from '@hmcp/auth';
import { type AuditRecord, HmcpError, parsePatientHeader, parseStrictJson } from '@hmcp/core';
import { admit, describe, type Inbound, refusalError } from './admission.js';
import type { AgentEnv } from './define-agent.js';
import { type Exchange, wireError } from './guard.js';
import type { Declarations } from './operations.js';

/** Largest request body accepted, in bytes. @see protocol section 3 */
export const MAX_BODY_BYTES = 1_048_576;

const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** A request that passed the gate, ready for the MCP handler behind it. */
export interface Passed {
  readonly exchange: Exchange;
  readonly body: unknown;
}

/**
 * The first checks of protocol section 3, on HTTP: size and syntax, host and origin, `Authorization`, token.
 * Answers 400, 401, 403, 405, 413, 415 or 503 itself; nothing later is evaluated then.
 * @see protocol sections 3 and 4
 */
export async function passGate(request: Request, env: AgentEnv): Promise<Passed | Response> {
  if (request.method !== 'POST') return plain(405, 'only POST is served here', { Allow: 'POST' });
  const host = checkHost(request, env);
  const read = await readBody(request);
  if (read instanceof Response) return read;
  if (host) return host;
  const patient = parsePatientHeader(request.headers.get('x-hmcp-patient'));
  if ('malformed' in patient) return plain(400, 'X-HMCP-Patient must be one bare FHIR id');

  try {
    const accessToken = readBearer(request);
    const token = await env.verifier.verify(accessToken);
    const traceparent = request.headers.get('traceparent') ?? '';
    return {
      body: read.value,
      exchange: {
        token,
        accessToken,
        header: patient.header,
        traceparent: TRACEPARENT.test(traceparent) ? traceparent : undefined,
        signal: request.signal,
        deciding: [],
      },
    };
  } catch (error) {
    return refuseToken(error, env);
  }
}

/** 400 or 401 for a token fault, 503 for an authority that is down; audited, and nothing of the token in it. */
async function refuseToken(error: unknown, env: AgentEnv): Promise<Response> {
  const unavailable = error instanceof AuthorityUnavailable;
  const fault = error instanceof TokenError ? error : undefined;
  const status = unavailable ? 503 : (fault?.status ?? 401);
  const audited = await audit(
    {
      event: 'request.refused',
      outcome: 4,
      code: status,
      check: 'token',
      reason: unavailable ? 'the authority is unavailable' : (fault?.reason ?? 'the token could not be verified'),
      by: env.resource,
    },
    env,
  );
  if (!audited) return auditUnavailable(env, null);
  if (unavailable)
    return plain(503, 'an authority this server must ask did not answer', { 'Retry-After': String(error.retryAfterSeconds) });
  const challenge = bearerChallenge({
    error: fault === undefined ? 'invalid_token' : fault.error,
    description: fault?.error === undefined ? undefined : 'the access token is not valid for this server',
    resourceMetadata: protectedResourceMetadataUrl(env.resource),
  });
  return plain(status, status === 400 ? 'malformed authorization' : 'a valid access token is required', {
    'WWW-Authenticate': challenge,
  });
}

/** The 403 of a scope refusal: one complete challenge. @see protocol section 4 */
export function scopeChallenge(scope: string, env: AgentEnv): Response {
  const challenge = bearerChallenge({
    error: 'insufficient_scope',
    description: 'the access token lacks a scope of this operation',
    scope,
    resourceMetadata: protectedResourceMetadataUrl(env.resource),
  });
  return plain(403, 'the access token lacks a scope of this operation', { 'WWW-Authenticate': challenge });
}

/**
 * Decides `subscriptions/listen`, which the SDK answers before any transport: each resource URI is a request in context.
 * `undefined` lets it through.
 * @see protocol section 3
 */
export async function decideListen(
  body: ListenRequest,
  exchange: Exchange,
  env: AgentEnv,
  declarations: Declarations,
): Promise<Response | undefined> {
  const subscribed: unknown =
    body.params.notifications === undefined
      ? undefined
      : (body.params.notifications as Record<string, unknown>).resourceSubscriptions;
  const uris = Array.isArray(subscribed) ? subscribed : [];
  const base = {
    token: exchange.token,
    accessToken: exchange.accessToken,
    header: exchange.header,
    traceparent: exchange.traceparent,
  };
  for (const uri of uris.slice(0, 256)) {
    const params = { _meta: body.params._meta, uri };
    const inbound: Inbound = {
      ...base,
      method: 'resources/read',
      params,
      operation: declarations.forRequest('resources/read', params),
    };
    const decision = await admit(inbound, env);
    if (decision.verdict === 'serve') continue;
    const { refusal } = decision;
    const record = {
      ...(await describe({ ...inbound, method: 'subscriptions/listen' }, env, undefined)),
      event: 'request.refused' as const,
      outcome: 4 as const,
      check: refusal.check,
      reason: refusal.reason,
    };
    if (refusal.kind === 'scope')
      return (await audit({ ...record, code: 403 }, env)) ? scopeChallenge(refusal.scope, env) : auditUnavailable(env, body.id);
    const error =
      refusal.kind === 'malformed' ? { code: -32602, message: 'Invalid params' } : wireError(refusalError(refusal, inbound, env));
    return (await audit({ ...record, code: error.code }, env))
      ? Response.json({ jsonrpc: '2.0', id: body.id, error })
      : auditUnavailable(env, body.id);
  }
  const inbound: Inbound = { ...base, method: 'subscriptions/listen', params: {}, operation: undefined };
  const served = await audit({ ...(await describe(inbound, env, undefined)), event: 'request.served', outcome: 0 }, env);
  return served ? undefined : auditUnavailable(env, body.id);
}

/** A `subscriptions/listen` request. */
export interface ListenRequest {
  readonly id: string | number;
  readonly params: Readonly<Record<string, unknown>>;
}

/** Narrows a body to {@link ListenRequest}. */
export function isListen(body: unknown): body is ListenRequest {
  const message = body as { method?: unknown; id?: unknown } | null;
  return typeof message === 'object' && message?.method === 'subscriptions/listen' && message.id !== undefined;
}

/** Cuts a streamed response when the token it was opened with expires. @see protocol section 3 */
export function endAtExpiry(response: Response, expiresAt: number, env: AgentEnv): Response {
  if (response.body === null || !response.headers.get('content-type')?.startsWith('text/event-stream')) return response;
  const reader = response.body.getReader();
  const left = Math.min(Math.max(expiresAt * 1000 - (env.now ?? Date.now)(), 0), 2 ** 31 - 1);
  let timer: NodeJS.Timeout;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      timer = setTimeout(() => {
        controller.close();
        void reader.cancel();
      }, left);
      timer.unref();
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (value) controller.enqueue(value);
        if (!done) return;
        clearTimeout(timer);
        controller.close();
      } catch {
        clearTimeout(timer);
      }
    },
    cancel(reason) {
      clearTimeout(timer);
      return reader.cancel(reason);
    },
  });
  return new Response(body, { status: response.status, headers: response.headers });
}

function checkHost(request: Request, env: AgentEnv): Response | undefined {
  const own = new URL(env.resource);
  const host = request.headers.get('host');
  if (host !== null && host !== own.host) return plain(403, 'this host name is not served here');
  const origin = request.headers.get('origin');
  if (origin !== null && origin !== own.origin && !(env.allowedOrigins ?? []).includes(origin))
    return plain(403, 'this origin may not call');
  return undefined;
}

async function readBody(request: Request): Promise<{ value: unknown } | Response> {
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') return plain(415, 'the body must be application/json');
  const chunks: Uint8Array[] = [];
  let size = 0;
  if (request.body) {
    for await (const chunk of request.body) {
      size += chunk.byteLength;
      if (size > MAX_BODY_BYTES) return plain(413, 'the body is too large');
      chunks.push(chunk);
    }
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks));
  } catch {
    return jsonRpc(400, -32700, 'Parse error');
  }
  const parsed = parseStrictJson(text);
  if (!parsed.ok)
    return parsed.reason === 'not JSON' ? jsonRpc(400, -32700, 'Parse error') : jsonRpc(400, -32600, 'Invalid Request');
  // One POST is one message: a batch could carry two patients. @see protocol section 3
  if (Array.isArray(parsed.value) || typeof parsed.value !== 'object' || parsed.value === null)
    return jsonRpc(400, -32600, 'Invalid Request');
  return { value: parsed.value };
}

async function audit(record: AuditRecord, env: AgentEnv): Promise<boolean> {
  try {
    await env.audit.append(record);
    return true;
  } catch (err) {
    env.log?.error({ err }, 'an audit record could not be made durable');
    return false;
  }
}

function auditUnavailable(env: AgentEnv, id: string | number | null): Response {
  return Response.json({ jsonrpc: '2.0', id, error: wireError(new HmcpError(50302, { by: env.resource, check: 'audit' })) });
}

function jsonRpc(status: number, code: number, message: string): Response {
  return Response.json(
    { jsonrpc: '2.0', id: null, error: { code, message } },
    { status, headers: { 'Cache-Control': 'no-store' } },
  );
}

function plain(status: number, sentence: string, headers: Record<string, string> = {}): Response {
  return Response.json({ error: sentence }, { status, headers: { 'Cache-Control': 'no-store', ...headers } });
}
