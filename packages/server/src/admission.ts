import { askAccessPolicy } from '@hmcp/auth';
import {
  type Decision,
  type DecisionFacts,
  decide,
  HmcpError,
  type Operation,
  type PatientContext,
  type Refusal,
  type SealClaims,
  type SealFact,
  type VerifiedToken,
} from '@hmcp/core';
import type { AgentEnv } from './define-agent.js';
import { fenceOf } from './fence.js';
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

/** How a request was decided, with the seal that was verified for it: also of a refusal. */
export interface Admission {
  readonly decision: Exclude<Decision, { verdict: 'ask' | 'verify' }>;
  readonly seal: SealClaims | undefined;
}

/** Asks the pure decision, answers its questions (the seal, then the access policy), and asks again. */
export async function admit(inbound: Inbound, env: AgentEnv): Promise<Admission> {
  const fence = fenceOf(env);
  let seal: SealFact | undefined;
  let policy: DecisionFacts['policy'];
  for (let question = 0; question < 3; question += 1) {
    const decision = decide({
      method: inbound.method,
      params: inbound.variables === undefined ? inbound.params : { ...inbound.params, variables: inbound.variables },
      token: inbound.token,
      header: inbound.header,
      operation: inbound.operation,
      mode: env.context ?? 'token',
      transition: env.transition,
      managers: fence.managers,
      // The epoch may have passed while the policy was asked.
      seal: seal && 'claims' in seal ? { ...seal, highestEpoch: fence.epochs.highest(seal.claims) } : seal,
      policy,
      now: (env.now ?? Date.now)(),
    });
    if (decision.verdict === 'verify') seal = await fence.verify(decision.seal);
    else if (decision.verdict === 'ask') policy = await askPolicy(decision.patient, decision.effect, inbound, env);
    else {
      const claims = seal && 'claims' in seal ? seal.claims : undefined;
      if (decision.verdict === 'serve' && claims !== undefined) env.participation?.learned(claims);
      return { decision, seal: claims };
    }
  }
  throw new TypeError('the decision asked twice');
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
