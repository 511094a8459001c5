import { checkCompartment, META, resultNamed } from '@hmcp/core';
import type { Admitted } from './admitted.js';
import { compared, makeDurable } from './audit.js';
import type { AgentEnv } from './define-agent.js';
import { isJsonObject, type Json, metaOf } from './message.js';
import { bindResult, nobody } from './result.js';

/** Which method and which members of `params` cross the boundary; whatever else a handler puts there stays behind. */
const IN_REQUEST: Readonly<Record<string, readonly string[]>> = {
  'notifications/progress': ['progressToken', 'progress', 'total', 'message'],
  'notifications/message': ['level', 'logger', 'data'],
};
const OUTSIDE: Readonly<Record<string, readonly string[]>> = {
  'notifications/tools/list_changed': [],
  'notifications/prompts/list_changed': [],
  'notifications/resources/list_changed': [],
  'notifications/resources/updated': ['uri'],
  'notifications/subscriptions/acknowledged': ['notifications'],
};
/** Names the subscription a notification belongs to (MCP revision 2026-07-28). */
const SUBSCRIPTION = 'io.modelcontextprotocol/subscriptionId';

/** A notification as it may be sent. */
export interface Notice {
  readonly jsonrpc: '2.0';
  readonly method: string;
  readonly params: Json;
}

/** True for the two notifications a handler may send inside its request. @see protocol section 3 */
export function isInRequest(method: string): boolean {
  return Object.hasOwn(IN_REQUEST, method);
}

/**
 * A progress or log notification of a request, checked as its result will be, bound, and recorded once a request before the
 * first; `undefined` when it is withheld.
 * @throws {HmcpError} 50302 when the record could not be made durable
 * @see protocol sections 2.4 and 3
 */
export async function noticeInRequest(
  method: string,
  params: Json,
  admitted: Admitted,
  env: AgentEnv,
): Promise<Notice | undefined> {
  const { inbound, bound, record } = admitted;
  if (bound?.scope.closed) return undefined;
  const said = pick(params, IN_REQUEST[method] ?? []);
  if (method === 'notifications/progress' && (said.progressToken !== admitted.progressToken || !isProgress(said)))
    return undefined;
  const { progressToken, ...examinable } = said;
  const patient = bound?.context ?? (inbound.token ? nobody(inbound.token.fhirServer) : undefined);
  if (patient === undefined) return undefined;
  const verdict = checkCompartment(examinable, {
    patient,
    sourceBase: patient.fhirServer,
    patientArgument: inbound.operation?.patientArgument,
  });
  const unverifiable = verdict.inside && verdict.unverifiable > 0 && saysMore(said);
  if (!verdict.inside || bound?.scope.holdsForeign(params) || (unverifiable && env.unverifiable === 'withhold')) {
    const reason = unverifiable
      ? 'a notification that cannot be verified was withheld'
      : 'a notification during the request was withheld';
    const named = bound === undefined || verdict.inside ? [] : resultNamed(patient, verdict);
    await makeDurable(env, {
      ...record,
      ...(await compared(named, env)),
      event: 'result.withheld',
      outcome: 8,
      code: 40903,
      check: 'result',
      reason,
    });
    return undefined;
  }
  if (!admitted.announced) {
    admitted.announced = true;
    await makeDurable(env, { ...record, event: 'request.served', outcome: 0, reason: 'a notification before the answer' });
  }
  const binding = bound && (await bindResult(bound, env.resource, verdict.resources));
  // The request may have ended while this was recorded.
  if (bound?.scope.closed) return undefined;
  return { jsonrpc: '2.0', method, params: binding === undefined ? said : { ...said, _meta: { [META.context]: binding } } };
}

/** Outside a request: that something changed, never what; about a resource only to who was allowed to watch it. */
export function noticeOutside(method: string, params: Json, watched: (uri: string) => boolean): Notice | undefined {
  if (!Object.hasOwn(OUTSIDE, method)) return undefined;
  const said = pick(params, OUTSIDE[method] ?? []);
  if (method === 'notifications/resources/updated' && !(typeof said.uri === 'string' && watched(said.uri))) return undefined;
  if (method === 'notifications/subscriptions/acknowledged' && !onlyWatched(said.notifications, watched)) return undefined;
  const subscription = metaOf(params)[SUBSCRIPTION];
  const named = typeof subscription === 'string' || typeof subscription === 'number';
  return { jsonrpc: '2.0', method, params: named ? { ...said, _meta: { [SUBSCRIPTION]: subscription } } : said };
}

function onlyWatched(filter: unknown, watched: (uri: string) => boolean): boolean {
  if (!isJsonObject(filter)) return filter === undefined;
  return Object.entries(filter).every(([name, value]) => {
    if (name !== 'resourceSubscriptions') return typeof value === 'boolean';
    return Array.isArray(value) && value.every((uri) => typeof uri === 'string' && watched(uri));
  });
}

function isProgress({ progress, total, message }: Json): boolean {
  const numbers = typeof progress === 'number' && (total === undefined || typeof total === 'number');
  return numbers && (message === undefined || typeof message === 'string');
}

/** Numbers and a level say nothing that would have to be verified. */
function saysMore({ message, data, logger }: Json): boolean {
  return message !== undefined || data !== undefined || logger !== undefined;
}

function pick(params: Json, members: readonly string[]): Json {
  return Object.fromEntries(members.filter((name) => params[name] !== undefined).map((name) => [name, params[name]]));
}
