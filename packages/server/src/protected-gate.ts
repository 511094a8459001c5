import { type Decision, type DecisionFacts, decide, methodClass } from '@hmcp/core';
import type { Inbound } from './admission.js';
import { intentOf } from './admitted.js';
import { describe, makeDurable } from './audit.js';
import { inboundOf, scopesOf } from './behind-gate.js';
import type { CallerSessions } from './caller-sessions.js';
import type { AgentEnv } from './define-agent.js';
import type { Exchange } from './exchange.js';
import { fenceOf } from './fence.js';
import { auditUnavailable, jsonRpc, passCaller, passGate, scopeChallenge } from './gate.js';
import { decideListen } from './listen.js';
import type { Json } from './message.js';
import { isMetadataPath, serveMetadata } from './metadata.js';
import type { Declarations } from './operations.js';

/** What stands in front of transports that somebody else made. */
export interface ProtectedGate {
  readonly env: AgentEnv;
  readonly declarations: Declarations;
  readonly sessions: CallerSessions;
}

/** Passed on to the transport: the body of a POST; none when a session is ended. */
export interface PassedOn {
  readonly exchange: Exchange;
  readonly body: Json | undefined;
}

/**
 * Decides everything that can be decided before the transport: the checks of the gate, whose session it is, and the scopes of
 * the operation, so that a scope refusal is a 403. Only POST and DELETE of the resource's own path pass: a stream opened by
 * GET could repeat what another token was answered.
 * @see protocol section 3
 */
export async function passProtected(request: Request, gate: ProtectedGate): Promise<PassedOn | Response> {
  const { env, declarations, sessions } = gate;
  if (isMetadataPath(request, env)) return serveMetadata(request, env, scopesOf(declarations));
  if (new URL(request.url).pathname !== new URL(env.resource).pathname) return new Response(null, { status: 404 });
  const passed = request.method === 'DELETE' ? await passDelete(request, env) : await passGate(request, env);
  if (passed instanceof Response) return passed;
  const { exchange, body } = passed;
  try {
    if (sessions.isForeign(request.headers.get('mcp-session-id'), exchange)) {
      const record = await describe(inboundOf(exchange, body ?? {}), env, undefined);
      const reason = 'the session of the connection is another caller’s';
      await makeDurable(env, { ...record, event: 'request.refused', outcome: 4, code: 404, check: 'session', reason });
      return jsonRpc(404, null, { code: -32600, message: 'Session not found' });
    }
    return (await refuseScope(passed, gate)) ?? passed;
  } catch (error) {
    return auditUnavailable(error, body?.id);
  }
}

async function passDelete(request: Request, env: AgentEnv): Promise<PassedOn | Response> {
  const exchange = await passCaller(request, env);
  return exchange instanceof Response ? exchange : { exchange, body: undefined };
}

/** The 403 of a request whose token lacks a scope; whatever else is wrong with it is the guard's to say. */
async function refuseScope({ exchange, body }: PassedOn, gate: ProtectedGate): Promise<Response | undefined> {
  const { env, declarations } = gate;
  if (typeof body?.method !== 'string' || body.id === undefined || methodClass(body.method) !== 'context') return undefined;
  const asked = inboundOf(exchange, body);
  const inbound: Inbound = { ...asked, ...declarations.forRequest(asked.method, asked.params) };
  const listens = body.method === 'subscriptions/listen';
  const decision = listens ? await decideListen(asked, env, declarations) : await decideScope(inbound, env);
  if (decision.verdict !== 'refuse' || decision.refusal.kind !== 'scope') return undefined;
  const { scope, check, reason } = decision.refusal;
  const record = { ...(await describe(inbound, env, undefined)), intent: intentOf(inbound.params) };
  await makeDurable(env, { ...record, event: 'request.refused', outcome: 4, code: 403, check, reason });
  return scopeChallenge(scope, env);
}

/** As far as the decision goes without the access policy, which is asked once: by the guard. */
async function decideScope(inbound: Inbound, env: AgentEnv): Promise<Decision> {
  const fence = fenceOf(env);
  const facts: DecisionFacts = {
    ...inbound,
    params: inbound.variables === undefined ? inbound.params : { ...inbound.params, variables: inbound.variables },
    mode: env.context ?? 'token',
    transition: env.transition,
    managers: fence.managers,
    now: (env.now ?? Date.now)(),
  };
  const decision = decide(facts);
  return decision.verdict === 'verify' ? decide({ ...facts, seal: await fence.verify(decision.seal) }) : decision;
}
