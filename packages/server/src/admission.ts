import { askAccessPolicy } from '@hmcp/auth';
import {
  type AuditRecord,
  type Decision,
  decide,
  HmcpError,
  keyedHash,
  methodClass,
  type Operation,
  type PatientContext,
  patientKey,
  type Refusal,
  type VerifiedToken,
} from '@hmcp/core';
import type { AgentEnv } from './define-agent.js';

/** One inbound request after its token was verified: what every later check and record is made from. */
export interface Inbound {
  readonly token: VerifiedToken;
  /** Exchanged for outgoing calls; never forwarded or logged. */
  readonly accessToken: string;
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Value of `X-HMCP-Patient`. */
  readonly header?: string | undefined;
  readonly traceparent?: string | undefined;
  readonly operation: Operation | undefined;
}

/** Asks the pure decision, answers its question from the access policy, and asks again. */
export async function admit(inbound: Inbound, env: AgentEnv): Promise<Exclude<Decision, { verdict: 'ask' }>> {
  const facts = {
    method: inbound.method,
    params: inbound.params,
    token: inbound.token,
    header: inbound.header,
    operation: inbound.operation,
    mode: env.context ?? 'token',
    transition: env.transition,
    now: (env.now ?? Date.now)(),
  } as const;
  const first = decide(facts);
  if (first.verdict !== 'ask') return first;
  const policy = await askPolicy(first.patient, first.effect, inbound, env);
  const second = decide({ ...facts, policy });
  if (second.verdict === 'ask') throw new TypeError('the decision asked twice');
  return second;
}

async function askPolicy(
  who: PatientContext,
  effect: boolean,
  inbound: Inbound,
  env: AgentEnv,
): Promise<'allow' | 'deny' | 'unavailable'> {
  const { issuer, subject, clientId, fhirUser, tenant } = inbound.token;
  const operation = operationName(inbound);
  const question = {
    issuer,
    subject,
    clientId,
    fhirUser,
    tenant,
    fhirServer: who.fhirServer,
    patient: who.patient,
    operation,
    effect,
  };
  try {
    return await askAccessPolicy(env.policy, question, { timeoutMs: env.policyTimeoutMs });
  } catch {
    return 'unavailable';
  }
}

/** A refusal as the error that crosses the wire, naming this server and its place in the chain. */
export function refusalError(
  refusal: Extract<Refusal, { kind: 'context' }>,
  inbound: Pick<Inbound, 'token'>,
  env: AgentEnv,
  intent?: string,
): HmcpError {
  const data = { by: env.resource, hop: inbound.token.hop, check: refusal.check, ...(intent === undefined ? {} : { intent }) };
  return new HmcpError(refusal.code, data, { reason: refusal.reason });
}

function operationName({ method, params }: Pick<Inbound, 'method' | 'params'>): string {
  return method === 'tools/call' || method === 'prompts/get' ? `${method} ${String(params.name).slice(0, 128)}` : method;
}

/** The fields of an audit record that say who asked for what about whom; the outcome is the caller's to add. */
export async function describe(
  inbound: Inbound,
  env: AgentEnv,
  context: PatientContext | undefined,
): Promise<Omit<AuditRecord, 'event' | 'outcome'>> {
  const { token, method, params } = inbound;
  const practitioner = token.fhirUser !== undefined && /\/(Practitioner|PractitionerRole)\//.test(token.fhirUser);
  const tool =
    method === 'tools/call' && inbound.operation !== undefined && typeof params.name === 'string' ? params.name : undefined;
  return {
    by: env.resource,
    hop: token.hop,
    issuer: token.issuer,
    subject: await keyedHash(env.pseudonymKey, token.subject),
    clientId: token.clientId,
    actors: token.actors,
    jti: token.jti,
    txn: token.txn,
    sid: token.sid,
    traceparent: inbound.traceparent,
    // A method nobody declared is the caller's text; only names of ours are written down.
    method: methodClass(method) !== 'context' || inbound.operation !== undefined || STANDARD.has(method) ? method : 'undeclared',
    tool,
    fhirUser:
      token.fhirUser === undefined
        ? undefined
        : practitioner
          ? token.fhirUser
          : await keyedHash(env.pseudonymKey, token.fhirUser),
    ...(context === undefined ? {} : { pk: await patientKey(env.pseudonymKey, context), pkScope: 'local' as const }),
  };
}

const STANDARD = new Set([
  'tools/call',
  'prompts/get',
  'resources/read',
  'resources/list',
  'completion/complete',
  'subscriptions/listen',
]);
