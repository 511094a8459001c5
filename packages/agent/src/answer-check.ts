import { checkBinding, HmcpError, META, patientKey, resultNamed } from '@hmcp/core';
import type { BoundRequest } from './bound-request.js';
import { deliverable } from './delivery.js';
import type { JsonRpcMessage } from './instrument.js';
import { CACHED_BY_SDK } from './methods.js';
import { TOKEN_REFUSED } from './peer-fetch.js';
import { checkResult } from './result-check.js';
import { sealOf } from './sealed-scope.js';
import { withoutOwnKeys } from './without-context.js';

/**
 * Judges what a peer answered: gives the answer to deliver, or the JSON-RPC error that settles the call instead. Its record is
 * durable before it is given; a refusal of a later hop keeps its code and who refused; of a dropped answer nothing is left.
 * @see protocol sections 2.4 and 4
 */
export async function judgeAnswer(request: BoundRequest, message: JsonRpcMessage) {
  try {
    if (request.hop.scope.closed) throw await request.outlived();
    if (message.error !== undefined) return await judgeError(request, message, message.error);
    return await judgeResult(request, message);
  } catch (error) {
    const refusal = error instanceof HmcpError ? error : await request.drop(40903, 'the answer could not be checked');
    return errorAnswer(message.id, request.fail(refusal));
  }
}

/**
 * The answer as it may be handed over now. While the outcome of a switch is not known it waits; after a commit it is dropped. The
 * last look is taken in the same turn as the delivery.
 * @see protocol section 6
 */
export async function releaseAnswer(request: BoundRequest, answer: JsonRpcMessage): Promise<JsonRpcMessage> {
  if (answer.error !== undefined) return answer;
  await deliverable(request.hop.scope);
  return request.hop.scope.closed ? errorAnswer(answer.id, await request.outlived()) : answer;
}

/** A refusal as the answer of a request. */
export function errorAnswer(id: JsonRpcMessage['id'], { code, message, data }: HmcpError): JsonRpcMessage {
  return { ...answerTo({ jsonrpc: '2.0', ...(id === undefined ? {} : { id }) }), error: { code, message, data } };
}

async function judgeError(request: BoundRequest, message: JsonRpcMessage, error: NonNullable<JsonRpcMessage['error']>) {
  const { hop, ledger } = request;
  const relayed = HmcpError.from(error);
  // On a pipe a token or scope fault has no HTTP status: it is this process's own token that was refused.
  if (relayed?.code === 40100) throw await request.refuse(ledger.refusal(hop.scope, 40302, 'peer', TOKEN_REFUSED.peer));
  if (relayed?.code === 40300) throw await request.refuse(ledger.refusal(hop.scope, 40302, 'scope', TOKEN_REFUSED.scope));
  if (relayed !== undefined) throw await request.refuse(relayed);
  const code = Number.isSafeInteger(error.code) ? error.code : -32603;
  await ledger.failed(hop, code);
  return { ...answerTo(message), error: { code, message: 'the peer answered with an error' } };
}

async function judgeResult(request: BoundRequest, message: JsonRpcMessage) {
  const { hop, ledger, frame } = request;
  const { scope } = hop;
  const result = record(message.result);
  if (result.resultType === 'input_required') throw await request.drop(40903, 'a request of the server stood in its answer');
  const fault = await bindingFault(request, result._meta);
  if (fault !== undefined) {
    // Keyed by the intent or the manager, a binding cannot be told by this process's own key.
    const named = fault === 40903 ? ([{ said: 'context', patient: scope.facts.context }, { said: 'binding' }] as const) : [];
    throw await request.drop(fault, 'the binding is missing or names another context', named);
  }
  const { context: patient } = scope.facts;
  const verdict = checkResult(result, { patient, contract: frame !== undefined, patientArgument: frame?.patientArgument });
  if (!verdict.inside) throw await request.drop(40903, verdict.reason, resultNamed(patient, verdict));
  await ledger.answered(hop, verdict, result.isError === true);
  if (scope.closed) throw await request.outlived();
  return withoutCaching(hop.event.method, withoutOwnKeys({ ...answerTo(message), result: scope.tag(result) }));
}

/**
 * Whether a notification that belongs to a request may be delivered; when not, it is dropped and recorded, and the request
 * goes on. After the request ended none is.
 * @see protocol sections 2.4 and 3
 */
export async function admitNotification(request: BoundRequest, message: JsonRpcMessage) {
  const { hop, ledger } = request;
  const params = record(message.params);
  const fault = await bindingFault(request, params._meta);
  const verdict = checkResult(params, { patient: hop.scope.facts.context, contract: false });
  await deliverable(hop.scope);
  if (hop.scope.closed) return false;
  if (fault === undefined && verdict.inside) return true;
  const reason = verdict.inside ? 'a notification without the binding of its request' : verdict.reason;
  const named = verdict.inside ? [] : resultNamed(hop.scope.facts.context, verdict);
  await ledger.dropped(hop, fault ?? 40903, reason, named);
  return false;
}

/** `undefined` when what came back is bound to this request, or nobody promised that it would be. */
async function bindingFault({ hop }: BoundRequest, meta: unknown): Promise<40901 | 40903 | undefined> {
  if (hop.binding === 'none') return undefined;
  const { context, envelope } = hop.scope.facts;
  const intent = envelope.intent.id;
  const by = hop.record.peer ?? '';
  const seal = sealOf(hop.scope);
  const expected =
    seal === undefined
      ? { pk: await patientKey(intent, context), intent, by }
      : { pk: seal.pk, intent, by, sid: seal.sid, epoch: seal.epoch };
  return checkBinding(record(meta)[META.context], expected);
}

/**
 * The answer marked as not to be kept: SDK clients key their cache by method and URI only, so one patient's resource would be
 * served to the next.
 * @see protocol section 3, "caches"
 */
export function withoutCaching(method: string, message: JsonRpcMessage): JsonRpcMessage {
  const { result } = message;
  if (typeof result !== 'object' || result === null) return message;
  if (!CACHED_BY_SDK.has(method) && !('ttlMs' in result) && !('cacheScope' in result)) return message;
  return { ...message, result: { ...result, ttlMs: 0, cacheScope: 'private' } };
}

function answerTo(message: JsonRpcMessage): JsonRpcMessage {
  return { jsonrpc: '2.0', ...(message.id === undefined ? {} : { id: message.id }) };
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}
