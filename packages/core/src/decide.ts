import type { VerifiedToken } from './access-token.js';
import { type Envelope, isSealed, parseEnvelope } from './envelope.js';
import type { Check, HmcpErrorCode } from './errors.js';
import { controllingManager, type ManagerClient, methodClass } from './method-class.js';
import { namesAnotherPatient } from './patient-arguments.js';
import { FhirId, type PatientContext } from './patient-context.js';
import { isEffect, type Operation } from './patient-tool.js';
import { effectiveScopes, parseScopes, type Scope, satisfies } from './scopes.js';
import type { SealClaims } from './seal.js';
import { sealMismatch } from './seal-bearer.js';

/** How much context a server demands of a request. @see protocol section 2.6 */
export type ContextMode = 'token' | 'envelope' | 'session';

/** When `X-HMCP-Patient` may name the patient by itself. Absent: never. @see protocol section 2.5 */
export interface HeaderTransition {
  /** Clients that may still use the header. */
  readonly clients: readonly string[];
  /** Last moment, milliseconds since the epoch. */
  readonly until: number;
  /** @default false */
  readonly allowWrite?: boolean | undefined;
}

/**
 * What verifying a seal came to: what it says, with the highest epoch verified in this process for its session (its own
 * included); or why it proves nothing.
 */
export type SealFact =
  | { readonly claims: SealClaims; readonly highestEpoch: number }
  | { readonly code: Extract<HmcpErrorCode, 40101 | 40903 | 42801 | 50301>; readonly reason: string };

/** Everything one decision is made from. Facts already obtained; no I/O is left but the two questions. */
export interface DecisionFacts {
  readonly method: string;
  /** `params` of the request as received. */
  readonly params: unknown;
  readonly token: VerifiedToken;
  /** The one value of `X-HMCP-Patient`, already well-formed. */
  readonly header?: string | undefined;
  readonly operation: Operation | undefined;
  readonly mode: ContextMode;
  readonly transition?: HeaderTransition | undefined;
  /** Context managers this server trusts. @default [] */
  readonly managers?: readonly ManagerClient[] | undefined;
  /** Answer to an earlier `verify`. */
  readonly seal?: SealFact | undefined;
  /** Answer to the question of an earlier `ask`; `unavailable` when the policy failed or was late. */
  readonly policy?: 'allow' | 'deny' | 'unavailable' | undefined;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** A refusal before it gets its carrier: a context error, a scope challenge (HTTP 403 or 40300) or malformed params (-32602). */
export type Refusal =
  | { readonly kind: 'context'; readonly code: HmcpErrorCode; readonly check: Check; readonly reason: string }
  | { readonly kind: 'scope'; readonly scope: string; readonly check: 'scope'; readonly reason: string }
  | { readonly kind: 'malformed'; readonly check: 'envelope' | 'argument'; readonly reason: string };

/**
 * The outcome of {@link decide}: serve (with a context when the class has one), verify a seal, ask the access policy, or refuse.
 * An `effect` that is served with a seal needs a permit of the seal's session before its handler; one without is not fenced.
 */
export type Decision =
  | { readonly verdict: 'serve'; readonly context: undefined; readonly effect: boolean }
  | {
      readonly verdict: 'serve';
      readonly context: PatientContext;
      /** As received; absent when the token alone named the patient. */
      readonly envelope: Envelope | undefined;
      /** Of a sealed envelope: what was verified. */
      readonly seal: SealClaims | undefined;
      readonly contextMethod: 'claim' | 'envelope' | 'header';
      readonly effect: boolean;
    }
  | { readonly verdict: 'verify'; readonly seal: string }
  | { readonly verdict: 'ask'; readonly patient: PatientContext; readonly effect: boolean }
  | { readonly verdict: 'refuse'; readonly refusal: Refusal };

function refuse(code: HmcpErrorCode, check: Check, reason: string): Decision {
  return { verdict: 'refuse', refusal: { kind: 'context', code, check, reason } };
}

/**
 * Decides one request whose token is verified, in the order of protocol section 3: envelope, seal, equality, scope,
 * access policy, epoch, arguments. Pure: the caller answers a `verify` and an `ask` and calls again with `seal` and `policy`.
 * Nothing later is looked at when something earlier fails.
 * @see protocol section 3
 */
export function decide(facts: DecisionFacts): Decision {
  const { token, operation } = facts;
  const kind = methodClass(facts.method);
  if (kind === 'handshake') return { verdict: 'serve', context: undefined, effect: false };
  const controls = controllingManager(token, facts.managers ?? []) !== undefined;
  if (controls !== (kind === 'switch')) {
    const only = controls ? 'the token of a manager reaches the methods of a switch only' : 'only a trusted manager may say this';
    return refuse(40301, 'session', only);
  }
  if (kind !== 'context') return { verdict: 'serve', context: undefined, effect: false };
  if (operation?.patientScope === 'none') return decideWithoutPatient(facts, operation);

  const params = asRecord(facts.params ?? {});
  if (params === undefined) return malformed('argument', 'params is no object');
  const parsed = parseEnvelope(params._meta);
  if ('malformed' in parsed) return malformed('envelope', 'malformed envelope');
  const { envelope } = parsed;
  if (envelope === undefined && facts.mode !== 'token') return refuse(42801, 'envelope', 'this server requires an envelope');
  const proven = proveSeal(facts, envelope);
  if ('verdict' in proven) return proven;

  const context = nameContext(facts, envelope, proven.seal);
  if ('verdict' in context) return context;

  const scope = checkScope(facts);
  if (scope) return { verdict: 'refuse', refusal: scope };
  const effect = operation !== undefined && isEffect(operation);
  if (context.contextMethod === 'header' && effect && facts.transition?.allowWrite !== true) {
    return refuse(42801, 'header', 'the header may not name the patient of an effect');
  }
  if (token.patient === undefined) {
    if (facts.policy === undefined) return { verdict: 'ask', patient: context.patient, effect };
    if (facts.policy === 'deny') return refuse(40302, 'policy', 'the access policy denies this patient');
    if (facts.policy === 'unavailable') return refuse(50301, 'policy', 'the access policy did not answer');
  }
  const { seal, highestEpoch } = proven;
  if (seal !== undefined && seal.epoch < highestEpoch) return refuse(40901, 'epoch', 'the epoch of the seal has passed');
  if (effect && seal === undefined && (facts.managers ?? []).length > 0)
    return refuse(42802, 'seal', 'an effect needs a sealed envelope here');
  if (namesAnotherPatient(argumentsIn(facts.method, params), context.patient, operation))
    return refuse(40903, 'argument', 'an argument names another patient');
  return { verdict: 'serve', context: context.patient, envelope, seal, contextMethod: context.contextMethod, effect };
}

/** `name` is the operation's own at tools and prompts only; at a custom method it is an argument like any other. */
function argumentsIn(method: string, params: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  if (method === 'tools/call' || method === 'prompts/get' || !Object.hasOwn(params, 'name')) return params;
  const { _meta, ...said } = params;
  return { arguments: said };
}

function malformed(check: 'envelope' | 'argument', reason: string): Decision {
  return { verdict: 'refuse', refusal: { kind: 'malformed', check, reason } };
}

interface ProvenSeal {
  /** Absent where the request brought none and needed none. */
  readonly seal: SealClaims | undefined;
  readonly highestEpoch: number;
}

/** The seal a request brought, once verified, and whether it had to bring one. @see protocol sections 2.3 and 2.6 */
function proveSeal({ token, mode, managers = [], seal }: DecisionFacts, envelope: Envelope | undefined): ProvenSeal | Decision {
  if (envelope === undefined || !isSealed(envelope)) {
    if (mode === 'session' || token.sid !== undefined) return refuse(42801, 'seal', 'a sealed envelope is required');
    return { seal: undefined, highestEpoch: 0 };
  }
  if (managers.length === 0) return refuse(42801, 'seal', 'no trusted context manager');
  // The result of detached work answers no live request, and nothing here keeps it anywhere else.
  if (envelope.detach !== undefined) return malformed('envelope', 'detached work is not served here');
  if (seal === undefined) return { verdict: 'verify', seal: envelope.seal };
  if ('code' in seal) return refuse(seal.code, 'seal', seal.reason);
  if (token.sid !== undefined && token.sid !== seal.claims.sid)
    return refuse(42801, 'seal', 'the seal is not of the session of the token');
  return { seal: seal.claims, highestEpoch: seal.highestEpoch };
}

function decideWithoutPatient(facts: DecisionFacts, operation: Operation): Decision {
  const refusal = checkScope({ ...facts, operation });
  return refusal ? { verdict: 'refuse', refusal } : { verdict: 'serve', context: undefined, effect: isEffect(operation) };
}

interface NamedContext {
  readonly patient: PatientContext;
  readonly contextMethod: 'claim' | 'envelope' | 'header';
}

/** Equality of token, seal or envelope, and header; then the one patient they name. */
function nameContext(
  facts: DecisionFacts,
  envelope: Envelope | undefined,
  seal: SealClaims | undefined,
): NamedContext | Decision {
  const { token, header } = facts;
  const named = envelope === undefined ? undefined : isSealed(envelope) ? seal : envelope;
  const unequal = seal === undefined ? envelopeMismatch(facts, envelope) : sealedMismatch(facts, envelope, seal);
  if (unequal) return unequal;
  const patient = token.patient ?? named?.patient;
  if (header !== undefined && header !== (patient ?? header))
    return refuse(40903, 'header', 'header and context name different patients');

  const encounter = token.encounter ?? named?.encounter;
  const who = (id: string): PatientContext => ({
    fhirServer: token.fhirServer,
    patient: id,
    ...(token.tenant === undefined ? {} : { tenant: token.tenant }),
    ...(encounter === undefined ? {} : { encounter }),
  });
  if (patient !== undefined) return { patient: who(patient), contextMethod: token.patient === undefined ? 'envelope' : 'claim' };
  return header === undefined ? refuse(42801, 'envelope', 'nothing names a patient') : fromHeader(facts, who(header));
}

function sealedMismatch({ token }: DecisionFacts, envelope: Envelope | undefined, seal: SealClaims): Decision | undefined {
  const mismatch = sealMismatch(seal, token);
  if (mismatch) return refuse(mismatch.code, mismatch.check, mismatch.reason);
  const isOfEpoch = envelope !== undefined && isSealed(envelope) && envelope.intent.epoch === seal.epoch;
  return isOfEpoch ? undefined : refuse(40901, 'epoch', 'the intent was made at another epoch');
}

function envelopeMismatch({ token }: DecisionFacts, envelope: Envelope | undefined): Decision | undefined {
  const named = envelope !== undefined && !isSealed(envelope) ? envelope : undefined;
  if (named === undefined) return undefined;
  if (token.patient !== undefined && named.patient !== token.patient)
    return refuse(40903, 'equality', 'envelope and token name different patients');
  if (named.tenant !== undefined && named.tenant !== token.tenant)
    return refuse(40903, 'equality', 'envelope and token name different tenants');
  if (named.encounter !== undefined && token.encounter !== undefined && named.encounter !== token.encounter)
    return refuse(40903, 'equality', 'envelope and token name different encounters');
  return undefined;
}

/** In transition, the header may name the patient by itself. @see protocol section 2.5 */
function fromHeader({ token, transition, now }: DecisionFacts, patient: PatientContext): NamedContext | Decision {
  if (!transition) return refuse(42801, 'header', 'the header is no source of the patient here');
  if (!transition.clients.includes(token.clientId)) return refuse(42801, 'header', 'this client may not use the header');
  if (!(now <= transition.until)) return refuse(42801, 'header', 'the transition period has ended');
  return { patient, contextMethod: 'header' };
}

function checkScope({ token, operation, method }: DecisionFacts): Refusal | undefined {
  if (method === 'resources/list') {
    return effectiveScopes(token.scopes, token).some(grantsRead)
      ? undefined
      : { kind: 'scope', scope: 'patient/hmcp:read', check: 'scope', reason: 'no read scope' };
  }
  if (operation === undefined)
    return { kind: 'context', code: 40303, check: 'operation', reason: 'the operation declares no scope' };
  if (isSatisfied(token, operation)) return undefined;
  return { kind: 'scope', scope: operation.scope, check: 'scope', reason: 'the token lacks a scope of this operation' };
}

const satisfied = new WeakMap<VerifiedToken, Map<string, boolean>>();

/** Whether a token has the scopes of an operation: worked out once for a token that can no longer change. */
function isSatisfied(token: VerifiedToken, { scope }: Operation): boolean {
  if (!Object.isFrozen(token) || !Object.isFrozen(token.scopes)) return satisfies(token.scopes, parseScopes(scope), token);
  let ofToken = satisfied.get(token);
  if (ofToken === undefined) {
    ofToken = new Map();
    satisfied.set(token, ofToken);
  }
  let found = ofToken.get(scope);
  if (found === undefined) {
    found = satisfies(token.scopes, parseScopes(scope), token);
    ofToken.set(scope, found); // scopes of declarations: as many as a server has operations
  }
  return found;
}

function grantsRead(scope: Scope): boolean {
  return (
    (scope.kind === 'resource' && (scope.ops.has('r') || scope.ops.has('s'))) || (scope.kind === 'hmcp' && scope.ops.has('read'))
  );
}

/** Reads `X-HMCP-Patient`: absent, one bare id, or malformed (repeated, list, empty, other characters). @see protocol section 2.5 */
export function parsePatientHeader(value: string | null): { header: string | undefined } | { malformed: true } {
  if (value === null) return { header: undefined };
  return FhirId.safeParse(value).success ? { header: value } : { malformed: true };
}

function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}
