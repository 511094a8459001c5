import type { VerifiedToken } from './access-token.js';
import { checkCompartment } from './compartment.js';
import { type Envelope, isSealed, parseEnvelope } from './envelope.js';
import type { Check, HmcpErrorCode } from './errors.js';
import { FhirId, type PatientContext } from './patient-context.js';
import { isEffect, type Operation } from './patient-tool.js';
import { effectiveScopes, parseScopes, type Scope, satisfies } from './scopes.js';

/** How a method is treated; anything not listed is `context`. @see protocol section 3 */
export type MethodClass = 'handshake' | 'catalogue' | 'context';

const CLASSES: Readonly<Record<string, MethodClass>> = {
  initialize: 'handshake',
  'server/discover': 'handshake',
  ping: 'handshake',
  'tools/list': 'catalogue',
  'prompts/list': 'catalogue',
  'resources/templates/list': 'catalogue',
  'logging/setLevel': 'catalogue',
};

/** The class of a JSON-RPC method; closed lists, unknown methods need a patient. @see protocol section 3 */
export function methodClass(method: string): MethodClass {
  return Object.hasOwn(CLASSES, method) ? (CLASSES[method] ?? 'context') : 'context';
}

/** Client notifications a server accepts; all others are dropped and audited. @see protocol section 3 */
export const CLIENT_NOTIFICATIONS: readonly string[] = [
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/progress',
  'notifications/roots/list_changed',
];

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

/** Everything one decision is made from. Facts already obtained; no I/O is left but the policy question. */
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

/** The outcome of {@link decide}: serve (with a context when the class has one), ask the access policy, or refuse. */
export type Decision =
  | { readonly verdict: 'serve'; readonly context: undefined; readonly effect: boolean }
  | {
      readonly verdict: 'serve';
      readonly context: PatientContext;
      /** As received; absent when the token alone named the patient. */
      readonly envelope: Envelope | undefined;
      readonly contextMethod: 'claim' | 'envelope' | 'header';
      readonly effect: boolean;
    }
  | { readonly verdict: 'ask'; readonly patient: PatientContext; readonly effect: boolean }
  | { readonly verdict: 'refuse'; readonly refusal: Refusal };

function refuse(code: HmcpErrorCode, check: Check, reason: string): Decision {
  return { verdict: 'refuse', refusal: { kind: 'context', code, check, reason } };
}

/**
 * Decides one request whose token is verified, in the order of protocol section 3: envelope, seal, equality, scope,
 * access policy, epoch, arguments. Pure: the caller answers an `ask` and calls again with `policy`.
 * Nothing later is looked at when something earlier fails.
 * @see protocol section 3
 */
export function decide(facts: DecisionFacts): Decision {
  const { token, operation } = facts;
  const kind = methodClass(facts.method);
  if (kind !== 'context') return { verdict: 'serve', context: undefined, effect: false };
  if (operation?.patientScope === 'none') return decideWithoutPatient(facts, operation);

  const params = asRecord(facts.params ?? {});
  if (params === undefined)
    return { verdict: 'refuse', refusal: { kind: 'malformed', check: 'argument', reason: 'params is no object' } };
  const parsed = parseEnvelope(params._meta);
  if ('malformed' in parsed)
    return { verdict: 'refuse', refusal: { kind: 'malformed', check: 'envelope', reason: 'malformed envelope' } };
  const { envelope } = parsed;
  if (envelope === undefined && facts.mode !== 'token') return refuse(42801, 'envelope', 'this server requires an envelope');
  // Seals are proof only where a manager is trusted; this server trusts none, so a sealed envelope proves nothing.
  if (envelope !== undefined && isSealed(envelope)) return refuse(42801, 'seal', 'no trusted context manager');
  if (facts.mode === 'session' || token.sid !== undefined) return refuse(42801, 'seal', 'a sealed envelope is required');

  const context = nameContext(facts, envelope);
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
  if (namesAnotherPatient(params, context.patient, operation))
    return refuse(40903, 'argument', 'an argument names another patient');
  return { verdict: 'serve', context: context.patient, envelope, contextMethod: context.contextMethod, effect };
}

function decideWithoutPatient(facts: DecisionFacts, operation: Operation): Decision {
  const refusal = checkScope({ ...facts, operation });
  return refusal ? { verdict: 'refuse', refusal } : { verdict: 'serve', context: undefined, effect: isEffect(operation) };
}

interface NamedContext {
  readonly patient: PatientContext;
  readonly contextMethod: 'claim' | 'envelope' | 'header';
}

/** Equality of token, envelope and header; then the one patient they name. */
function nameContext({ token, header, transition, now }: DecisionFacts, envelope: Envelope | undefined): NamedContext | Decision {
  const named = envelope !== undefined && !isSealed(envelope) ? envelope : undefined;
  const { patient } = token;
  if (named && patient !== undefined && named.patient !== patient)
    return refuse(40903, 'equality', 'envelope and token name different patients');
  if (named?.tenant !== undefined && named.tenant !== token.tenant)
    return refuse(40903, 'equality', 'envelope and token name different tenants');
  if (named?.encounter !== undefined && token.encounter !== undefined && named.encounter !== token.encounter) {
    return refuse(40903, 'equality', 'envelope and token name different encounters');
  }
  if (header !== undefined && header !== (patient ?? named?.patient ?? header))
    return refuse(40903, 'header', 'header and context name different patients');

  const encounter = token.encounter ?? named?.encounter;
  const who = (id: string): PatientContext => ({
    fhirServer: token.fhirServer,
    patient: id,
    ...(token.tenant === undefined ? {} : { tenant: token.tenant }),
    ...(encounter === undefined ? {} : { encounter }),
  });
  if (patient !== undefined) return { patient: who(patient), contextMethod: 'claim' };
  if (named) return { patient: who(named.patient), contextMethod: 'envelope' };
  if (header === undefined) return refuse(42801, 'envelope', 'nothing names a patient');
  if (!transition) return refuse(42801, 'header', 'the header is no source of the patient here');
  if (!transition.clients.includes(token.clientId)) return refuse(42801, 'header', 'this client may not use the header');
  if (!(now <= transition.until)) return refuse(42801, 'header', 'the transition period has ended');
  return { patient: who(header), contextMethod: 'header' };
}

function checkScope({ token, operation, method }: DecisionFacts): Refusal | undefined {
  if (method === 'resources/list') {
    return effectiveScopes(token.scopes, token).some(grantsRead)
      ? undefined
      : { kind: 'scope', scope: 'patient/hmcp:read', check: 'scope', reason: 'no read scope' };
  }
  if (operation === undefined)
    return { kind: 'context', code: 40303, check: 'operation', reason: 'the operation declares no scope' };
  const required = parseScopes(operation.scope);
  if (satisfies(token.scopes, required, token)) return undefined;
  return { kind: 'scope', scope: operation.scope, check: 'scope', reason: 'the token lacks a scope of this operation' };
}

function grantsRead(scope: Scope): boolean {
  return (
    (scope.kind === 'resource' && (scope.ops.has('r') || scope.ops.has('s'))) || (scope.kind === 'hmcp' && scope.ops.has('read'))
  );
}

/** Argument names that say whose record is meant, whatever a tool's author called them. */
const PATIENT_KEY =
  /^(?:for[-_]?)?(?:patients?|subjects?|beneficiary)(?:[-_.]?(?:fhir)?[-_.]?(?:ids?|refs?|references?|uuid))?$/i;

/**
 * True when a request's arguments or URI name a patient other than the one in context: the declared patient argument,
 * an argument with a patient's name for a key, or a FHIR resource, reference or mention of another patient anywhere in them.
 * What cannot be told (a reference of unknown target, a resource of unknown type) counts as another patient.
 * @see protocol section 7
 */
export function namesAnotherPatient(params: unknown, context: PatientContext, operation: Operation | undefined): boolean {
  const record = asRecord(params);
  if (!record) return params !== undefined;
  const { _meta, name, ...said } = record;
  if (!checkCompartment(said, { patient: context, sourceBase: context.fhirServer }).inside) return true;
  const declared = operation?.patientArgument;
  const base = context.fhirServer.replace(/\/+$/, '');
  const own = new Set([context.patient, `Patient/${context.patient}`, `${base}/Patient/${context.patient}`]);

  const isOther = (key: string, value: unknown): boolean => {
    const names = key === declared || PATIENT_KEY.test(key);
    if (typeof value === 'string') return names && (value !== '' || key === declared) && !own.has(value);
    if (typeof value === 'number') return names;
    if (typeof value === 'boolean' || value === null) return key === declared;
    if (Array.isArray(value)) return value.some((item) => isOther(key, item));
    const inner = asRecord(value);
    if (!inner) return false;
    const named = inner.id ?? inner.reference;
    if (names && named !== undefined && !(typeof named === 'string' && own.has(named))) return true;
    // `completion/complete` names its argument beside the value.
    if (typeof inner.name === 'string' && isOther(inner.name, inner.value)) return true;
    return Object.entries(inner).some(([innerKey, item]) => isOther(innerKey, item));
  };
  return Object.entries(said).some(([key, value]) => isOther(key, value));
}

/** Reads `X-HMCP-Patient`: absent, one bare id, or malformed (repeated, list, empty, other characters). @see protocol section 2.5 */
export function parsePatientHeader(value: string | null): { header: string | undefined } | { malformed: true } {
  if (value === null) return { header: undefined };
  return FhirId.safeParse(value).success ? { header: value } : { malformed: true };
}

function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}
