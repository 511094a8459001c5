import {
  type Decision,
  type Envelope,
  isSealed,
  META,
  type Operation,
  type PatientContext,
  PROTOCOL_VERSION,
  type SealClaims,
} from '@hmcp/core';
import { RequestScope } from '@hmcp/core/request-scope';
import type { AuthInfo } from '@modelcontextprotocol/server';
import type { Inbound } from './admission.js';
import { type RecordBase, STANDARD } from './audit.js';
import type { AgentEnv } from './define-agent.js';
import { fenceOf } from './fence.js';
import { isJsonObject, type Json, metaOf } from './message.js';
import type { PermitHold } from './permit-hold.js';

/** The patient's side of an admitted request: absent in handshake, catalogue and operations about nobody. */
export interface Bound {
  readonly scope: RequestScope;
  readonly context: PatientContext;
  /** The intent to bind answers to; absent when the request brought no envelope. */
  readonly intent: string | undefined;
  /** Of a sealed envelope, verified. */
  readonly seal: SealClaims | undefined;
  /** Held from before the handler of an effect until after its answer. */
  permit: PermitHold | undefined;
  /** True once the epoch has passed, or a switch ended the session's live work: nothing of the request is released. */
  isOver(): boolean;
}

/** A request that was let through to a handler and is not answered yet. */
export interface Admitted {
  readonly inbound: Pick<Inbound, 'method' | 'params' | 'operation'> & { readonly token: Inbound['token'] | undefined };
  readonly bound: Bound | undefined;
  readonly record: RecordBase;
  readonly progressToken: unknown;
  /** Set once something of the answer has been released ahead of it, with its own record. */
  announced: boolean;
  /** Takes the whole answer, for as long as nothing was sent ahead of it. */
  takesWhole: ((answer: string) => void) | undefined;
  /** Ends what belongs to the request. */
  end(): void;
}

const environments = new WeakMap<RequestScope, AgentEnv>();
const sessions = new WeakMap<RequestScope, SealedSession>();

/** The session of a request, as its verified seal names it. */
export type SealedSession = Readonly<Pick<SealClaims, 'sid' | 'epoch'>>;

/** The session a scope's request came in; `undefined` when no manager sealed it. */
export function sessionOf(scope: RequestScope): SealedSession | undefined {
  return sessions.get(scope);
}

/** The deployment that serves a scope; how `patientTool` reaches it without a parameter in every handler. */
export function environmentOf(scope: RequestScope): AgentEnv | undefined {
  return environments.get(scope);
}

/** Opens the scope of a request that a decision lets through. It closes with the caller's connection and at the token's `exp`. */
export function bind(
  inbound: Inbound,
  decision: Extract<Decision, { verdict: 'serve' }>,
  env: AgentEnv,
  signal: AbortSignal | undefined,
): Bound | undefined {
  if (decision.context === undefined) return undefined;
  const { context, envelope, seal } = decision;
  const scope = new RequestScope({
    context,
    token: inbound.token,
    accessToken: inbound.accessToken,
    envelope: envelope === undefined ? plainEnvelope(context) : withoutPermit(envelope),
    by: env.resource,
    hop: inbound.token.hop,
    txn: inbound.token.txn,
    traceparent: inbound.traceparent,
    signal,
  });
  environments.set(scope, env);
  let ended = false;
  const bound: Bound = { scope, context, intent: envelope?.intent.id, seal, permit: undefined, isOver: () => ended };
  if (seal === undefined) return bound;
  sessions.set(scope, { sid: seal.sid, epoch: seal.epoch });
  const { epochs } = fenceOf(env);
  const end = (): void => {
    ended = true;
    scope.close();
  };
  const busy = (): boolean => bound.permit?.busy === true;
  const drain = async (): Promise<'cancelled' | 'completed'> => {
    const completes = busy();
    if (!completes) end();
    await bound.permit?.close();
    return completes ? 'completed' : 'cancelled';
  };
  const request = { intent: scope.facts.envelope.intent.id, busy, drain };
  const leave = epochs.enter(seal, { epoch: seal.epoch, end, request });
  if (scope.closed) leave();
  else scope.signal.addEventListener('abort', leave, { once: true });
  return bound;
}

/** A permit that came with a request was for this one call. @see protocol section 2.2 */
function withoutPermit(envelope: Envelope): Envelope {
  if (!isSealed(envelope)) return envelope;
  const { permit: _, ...rest } = envelope;
  return rest;
}

/** The envelope a hop makes itself for its own calls, when the caller sent none. @see protocol section 2.2 */
function plainEnvelope({ patient, tenant, encounter }: PatientContext): Envelope {
  return {
    version: PROTOCOL_VERSION,
    patient,
    intent: { id: crypto.randomUUID() },
    ...(tenant === undefined ? {} : { tenant }),
    ...(encounter === undefined ? {} : { encounter }),
  };
}

/** Calls `end` when a token expires; call the result to forget it. @see protocol section 5 */
export function atExpiry(expiresAt: number, env: AgentEnv, end: () => void): () => void {
  const left = Math.min(Math.max(expiresAt * 1000 - (env.now ?? Date.now)(), 0), 2 ** 31 - 1);
  const timer = setTimeout(end, left);
  timer.unref();
  return () => clearTimeout(timer);
}

/** What a handler sees of `params`: no token, and the patient filled in where the operation names an argument for it. */
export function handlerParams(
  params: Json,
  operation?: Operation | undefined,
  context?: PatientContext | undefined,
  method?: string | undefined,
): Json {
  const { [META.authorization]: _, ...meta } = metaOf(params);
  const shown = params._meta === undefined ? params : { ...params, _meta: meta };
  const { patientArgument } = operation ?? {};
  if (patientArgument == null || context === undefined) return shown;
  if (method === 'tools/call' || method === 'prompts/get') {
    const given = isJsonObject(params.arguments) ? params.arguments : {};
    return { ...shown, arguments: { ...given, [patientArgument]: context.patient } };
  }
  // A URI and what is being completed are the caller's own words, and were compared; params of a custom method are its arguments.
  return method === undefined || STANDARD.has(method) ? shown : { ...shown, [patientArgument]: context.patient };
}

/** Which declared fields of a contract's input the arguments do not satisfy; `undefined` when they do. */
export function invalidArguments(operation: Operation | undefined, method: string, params: Json): string | undefined {
  if (method !== 'tools/call' || operation === undefined || !hasInput(operation)) return undefined;
  const parsed = operation.input.safeParse(params.arguments ?? {});
  if (parsed.success) return undefined;
  // Only names of the contract are said again: a name the caller made up may be anything.
  const known = parsed.error.issues
    .map(({ path }) => String(path[0]))
    .filter((name) => Object.hasOwn(operation.input.shape, name));
  return ['Invalid params', [...new Set(known)].slice(0, 8).join(', ')].filter(Boolean).join(': ');
}

interface WithInput extends Operation {
  readonly input: {
    readonly shape: Json;
    safeParse(
      value: unknown,
    ): { success: true } | { success: false; error: { issues: readonly { path: readonly PropertyKey[] }[] } };
  };
}

function hasInput(operation: Operation): operation is WithInput {
  return 'input' in operation && isJsonObject(operation.input) && 'safeParse' in operation.input;
}

/** What handlers and factories may know of who calls; the token itself goes no further than the gate. */
export function publicAuthInfo(token: Inbound['token']): AuthInfo {
  return { token: '', clientId: token.clientId, scopes: token.scope.split(' '), expiresAt: token.expiresAt };
}

/** The intent a request carries, when it is one, whatever else is wrong with its envelope. */
export function intentOf(params: Json): string | undefined {
  const envelope = metaOf(params)[META.context];
  const intent = isJsonObject(envelope) && isJsonObject(envelope.intent) ? envelope.intent.id : undefined;
  return typeof intent === 'string' && /^[A-Za-z0-9\-_.]{1,128}$/.test(intent) ? intent : undefined;
}
