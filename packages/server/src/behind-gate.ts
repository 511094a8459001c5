import { HmcpError } from '@hmcp/core';
import type { AuthInfo } from '@modelcontextprotocol/server';
import type { Inbound } from './admission.js';
import { publicAuthInfo } from './admitted.js';
import { describe, makeDurable } from './audit.js';
import type { AgentEnv } from './define-agent.js';
import { behindGate, type Exchange } from './exchange.js';
import { auditUnavailable, jsonRpc } from './gate.js';
import { isJsonObject, type Json } from './message.js';
import { ownedBody, withHeaders } from './node-exchange.js';
import type { Declarations } from './operations.js';
import { scrub } from './wire-error.js';

/** Headers that go no further than the gate: what proves the caller, and what may name a patient. */
export const SECRET_HEADERS: readonly string[] = ['authorization', 'proxy-authorization', 'cookie', 'x-hmcp-patient'];

/** The request as what stands behind the gate may see it; its body was read. */
export function withoutSecrets(request: Request): Request {
  if (ownedBody(request) !== undefined) {
    for (const name of SECRET_HEADERS) request.headers.delete(name);
    return request;
  }
  const headers = new Headers(request.headers);
  for (const name of SECRET_HEADERS) headers.delete(name);
  return new Request(request.url, { method: request.method, headers, signal: request.signal });
}

/** What the SDK carries from the gate to the guard. */
export function authInfoOf(exchange: Exchange): AuthInfo {
  const authInfo = publicAuthInfo(exchange.token);
  behindGate(authInfo, exchange);
  return authInfo;
}

/** What the SDK refused before any transport: its code stays, its text goes, for it repeats what was sent. */
export async function recordRefusal(response: Response, exchange: Exchange, body: Json, env: AgentEnv): Promise<Response> {
  const said: unknown = await response.json().catch(() => undefined);
  try {
    await noteRefusal(response.status, exchange, body, env);
    return jsonRpc(response.status, idOf(body), scrub(isJsonObject(said) ? said.error : undefined));
  } catch (error) {
    return auditUnavailable(error, body.id);
  }
}

/** The record of a request that the SDK refused before any transport. @throws {HmcpError} 50302 */
export async function noteRefusal(status: number, exchange: Exchange, body: Json, env: AgentEnv): Promise<void> {
  const record = await describe(inboundOf(exchange, body), env, undefined);
  const reason = 'the request is no valid MCP request';
  await makeDurable(env, { ...record, event: 'request.refused', outcome: 4, code: status, check: 'size', reason });
}

/**
 * What a caller is told in place of an answer that no guard decided: its transport was never handed to `protect`. A message, for a
 * status would look like a server that cannot be reached. Recorded, and said to the operators.
 */
export async function unprotected(exchange: Exchange, body: Json, env: AgentEnv): Promise<Response> {
  env.log?.error({}, 'an answer of a transport that is not protected was withheld: hand each transport to `protect`');
  try {
    const record = await describe(inboundOf(exchange, body), env, undefined);
    const reason = 'the transport of this server is not protected';
    await makeDurable(env, { ...record, event: 'result.withheld', outcome: 8, code: -32603, check: 'result', reason });
    return jsonRpc(200, idOf(body), { code: -32603, message: `Internal error: ${reason}` });
  } catch (error) {
    return auditUnavailable(error, body.id);
  }
}

/** A body was read before the gate, and is not where it would look: a mistake of the deployment, not of the caller. */
export class BodyGone extends TypeError {
  override readonly name = 'BodyGone';
}

/** What could not be decided at all. */
export function undecided(error: unknown, env: AgentEnv): Response {
  const isBodyGone = error instanceof BodyGone;
  env.log?.error(
    { err: error },
    isBodyGone ? 'a body was read before the gate: put the gate first' : 'a request could not be decided',
  );
  return jsonRpc(error instanceof HmcpError ? 200 : 500, null, { code: -32603, message: 'Internal error' });
}

/** A request as the decision takes it. */
export function inboundOf({ token, accessToken, header, traceparent }: Exchange, { method, params }: Json): Inbound {
  const asked = isJsonObject(params) ? params : {};
  return { token, accessToken, header, traceparent, method: String(method), params: asked, operation: undefined };
}

/** The id of a request, to answer it. */
export function idOf({ id }: Json): string | number | null {
  return typeof id === 'string' || typeof id === 'number' ? id : null;
}

/** Every scope that something here needs, for the metadata document. */
export function scopesOf(known: Declarations): string[] {
  const scopes = known.all().flatMap((operation) => `${operation.scope} ${operation.onward ?? ''}`.split(' '));
  return [...new Set(scopes.filter(Boolean))].sort();
}

/** `Deprecation` and `Sunset` on answers while the header may name a patient. @see protocol section 2.5 */
export function deprecated(response: Response, exchange: Exchange, env: AgentEnv): Response {
  if (exchange.header === undefined || !env.transition) return response;
  const headers = new Headers(response.headers);
  headers.set('Deprecation', 'true');
  headers.set('Sunset', new Date(env.transition.until).toUTCString());
  return withHeaders(response, headers);
}
