import { askAccessPolicy } from '@hmcp/auth';
import {
  type Decision,
  decide,
  HmcpError,
  type Operation,
  type PatientContext,
  type Refusal,
  type VerifiedToken,
} from '@hmcp/core';
import type { AgentEnv } from './define-agent.js';
import type { Json } from './message.js';

/** One inbound request after its token was verified: what every later check and record is made from. */
export interface Inbound {
  readonly token: VerifiedToken;
  /** Exchanged for outgoing calls; never forwarded or logged. */
  readonly accessToken: string;
  readonly method: string;
  readonly params: Json;
  /** Value of `X-HMCP-Patient`. */
  readonly header?: string | undefined;
  readonly traceparent?: string | undefined;
  readonly operation: Operation | undefined;
  /** Variables of a declared resource template, as the URI fills them: arguments like any other. */
  readonly variables?: Json | undefined;
}

/** Asks the pure decision, answers its question from the access policy, and asks again. */
export async function admit(inbound: Inbound, env: AgentEnv): Promise<Exclude<Decision, { verdict: 'ask' }>> {
  const facts = {
    method: inbound.method,
    params: inbound.variables === undefined ? inbound.params : { ...inbound.params, variables: inbound.variables },
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
  const { fhirServer, patient } = who;
  const operation = operationName(inbound);
  const question = { issuer, subject, clientId, fhirUser, tenant, fhirServer, patient, operation, effect };
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
