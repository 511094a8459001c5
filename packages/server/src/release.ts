import { HmcpError, META, type NamedPatient, type Refusal, resultNamed } from '@hmcp/core';
import { refusalError } from './admission.js';
import type { Admitted, Bound } from './admitted.js';
import { compared, makeDurable } from './audit.js';
import { shownList, toolFault } from './catalogue.js';
import type { AgentEnv } from './define-agent.js';
import { isJsonObject, type Json, type Message } from './message.js';
import type { Declarations } from './operations.js';
import { bindResult, examineResult, nobody, withoutOwnKeys } from './result.js';
import { awaitingText, mixesRequests, withText } from './structured-text.js';
import { uncheckable } from './uncheckable.js';
import { scrub, type WireError, wireError } from './wire-error.js';

const OVER = 'the epoch has passed, or a switch ended the request';

/** What is put into the response instead of what the handler said. */
export type Answer =
  | {
      readonly result: Json;
      /** JSON of its `structuredContent` as it was checked, where that was made. */
      readonly structured?: string | undefined;
    }
  | { readonly error: WireError };

/**
 * Decides what of a handler's answer is released: a result inside the patient's compartment, bound and not to be cached; a
 * refusal of a later hop as it came; of anything else a fixed sentence. Its record is durable before it is given.
 * @see protocol sections 3, 4 and 7
 */
export async function release(message: Message, admitted: Admitted, env: AgentEnv, declarations: Declarations): Promise<Answer> {
  try {
    return await settle(message, admitted, env, declarations);
  } catch (error) {
    if (error instanceof HmcpError) return { error: wireError(error) };
    env.log?.error({ err: error }, 'an answer could not be settled');
    return { error: scrub(undefined) };
  }
}

async function settle(message: Message, before: Admitted, env: AgentEnv, declarations: Declarations): Promise<Answer> {
  const { inbound, bound } = before;
  const result = isJsonObject(message.result) ? message.result : undefined;
  const failed = result === undefined || saysError(result);
  // Whatever else it would have been, it is nobody's answer any more.
  if (failed && bound?.isOver()) return withhold(40901, 'epoch', OVER, before, env);
  const refusal = bound?.scope.refusals[0];
  if (refusal && failed) {
    const relayed = { code: refusal.code, check: refusal.check, peer: refusal.data.by };
    const reason = refusal.data.by === env.resource ? refusal.reason : 'a hop behind this one refused';
    await makeDurable(env, { ...before.record, event: 'request.refused', outcome: 4, ...relayed, reason });
    return { error: wireError(refusal) };
  }
  const fault = failed && inbound.method === 'tools/call' ? toolFault(message, inbound.params.name, env) : undefined;
  if (result === undefined) {
    const error = scrub(message.error);
    const reason = fault ?? 'the handler failed';
    await makeDurable(env, { ...before.record, event: 'request.refused', outcome: 8, code: error.code, reason });
    return { error };
  }
  if (result.resultType !== undefined && result.resultType !== 'complete') {
    const reason = 'the handler asked its client for something';
    await makeDurable(env, { ...before.record, event: 'request.refused', outcome: 8, code: -32603, check: 'result', reason });
    return { error: scrub(undefined) };
  }
  const shown = failed ? undefined : shownList(inbound.method, inbound.params, result, declarations, env);
  const said = shown?.result ?? failure(result);
  const reason =
    fault ?? (shown !== undefined && shown.leftOut > 0 ? 'undeclared operations were left out of the list' : undefined);
  const admitted = reason === undefined ? before : { ...before, record: { ...before.record, reason } };
  if (bound) return releaseBound(said, bound, admitted, env);
  if (inbound.operation && inbound.token) return releaseAboutNobody(said, inbound.token.fhirServer, admitted, env);
  await makeDurable(env, { ...admitted.record, event: 'request.served', outcome: failed ? 4 : 0 });
  return { result: withMeta(said) };
}

async function releaseBound(result: Json, bound: Bound, admitted: Admitted, env: AgentEnv): Promise<Answer> {
  const { inbound, record } = admitted;
  const { scope, context } = bound;
  if (scope.closed) return withhold(40901, 'epoch', bound.isOver() ? OVER : 'the request has ended', admitted, env);
  if (mixesRequests(result, scope))
    return withhold(40903, 'result', 'the result holds an object of another request', admitted, env);
  const failed = saysError(result);
  const awaiting = awaitingText(result);
  const examined = examineResult(inbound.method, awaiting ?? result, context, failed ? undefined : inbound.operation);
  if (!examined.inside) return withhold(40903, 'result', examined.reason, admitted, env, resultNamed(context, examined));
  const { result: said, structured } = awaiting ? withText(awaiting) : { result, structured: undefined };
  // The one sentence of a failure is this program's own.
  const unverifiable = failed ? 0 : examined.unverifiable;
  if (unverifiable > 0 && env.unverifiable === 'withhold')
    return withhold(40903, 'result', uncheckable(admitted.inbound, awaiting ?? result, context), admitted, env);
  const binding = await bindResult(bound, env.resource, examined.resources);
  const meta = binding === undefined ? {} : { [META.context]: binding };
  const counted = { types: examined.types, ...(unverifiable > 0 ? { unverifiable } : {}) };
  await makeDurable(env, { ...record, event: 'request.served', outcome: failed ? 4 : 0, ...counted });
  // The epoch may have passed while that was recorded.
  if (bound.isOver()) return withhold(40901, 'epoch', OVER, admitted, env);
  // Nothing about a patient is cached anywhere: the hints say so whatever the handler set.
  return { result: { ...withMeta(said, meta), ttlMs: 0, cacheScope: 'private' }, structured };
}

/** An operation declared to be about nobody may not answer with anybody's record. */
async function releaseAboutNobody(result: Json, fhirServer: string, admitted: Admitted, env: AgentEnv): Promise<Answer> {
  const { inbound, record } = admitted;
  const failed = saysError(result);
  const awaiting = awaitingText(result);
  const examined = examineResult(inbound.method, awaiting ?? result, nobody(fhirServer), failed ? undefined : inbound.operation);
  if (!examined.inside) return withhold(40903, 'result', examined.reason, admitted, env);
  const { result: said, structured } = awaiting ? withText(awaiting) : { result, structured: undefined };
  await makeDurable(env, { ...record, event: 'request.served', outcome: failed ? 4 : 0, types: examined.types });
  return { result: withMeta(said), structured };
}

async function withhold(
  code: 40901 | 40903,
  check: 'epoch' | 'result',
  reason: string,
  { inbound, record }: Admitted,
  env: AgentEnv,
  named: readonly NamedPatient[] = [],
): Promise<Answer> {
  await makeDurable(env, {
    ...record,
    ...(await compared(named, env)),
    event: 'result.withheld',
    outcome: 8,
    code,
    check,
    reason,
  });
  const refusal = { kind: 'context', code, check, reason } as const satisfies Refusal;
  const error = inbound.token
    ? refusalError(refusal, { token: inbound.token }, env, record.intent)
    : new HmcpError(code, { by: env.resource, check }, { reason });
  return { error: wireError(error) };
}

function saysError(result: Json): boolean {
  return result.isError !== undefined && result.isError !== false;
}

/** Of a failed tool nothing is left but that it failed: its text is an exception's, or may be. */
function failure({ resultType, _meta }: Json): Json {
  const frame = { ...(resultType === undefined ? {} : { resultType }), ...(_meta === undefined ? {} : { _meta }) };
  return { ...frame, content: [{ type: 'text', text: 'The tool failed.' }], isError: true };
}

function withMeta(result: Json, own: Json = {}): Json {
  const meta = { ...withoutOwnKeys(result._meta), ...own };
  const { _meta, ...rest } = result;
  return Object.keys(meta).length === 0 ? rest : { ...rest, _meta: meta };
}
