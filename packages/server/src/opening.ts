import { type Decision, HmcpError, isSealed } from '@hmcp/core';
import { type Inbound, refusalError } from './admission.js';
import { atExpiry, type Bound, bind } from './admitted.js';
import type { RecordBase } from './audit.js';
import type { AgentEnv } from './define-agent.js';
import { allowEffects } from './effects.js';
import { obtainPermit, permitOperation } from './obtain-permit.js';

/** A request whose handler may run, or why it may not after all. */
export interface Opened {
  readonly bound: Bound | undefined;
  readonly record: RecordBase;
  readonly refused: HmcpError | undefined;
  /** Ends what belongs to the request; a permit is given back once no effect is running. */
  end(): void;
}

/**
 * Opens what a decision let through: its scope, in a session its place among the live work of the epoch and, for an effect, its
 * permit. All of that takes time, in which the epoch may pass.
 * @see protocol sections 3 and 6
 */
export async function open(
  inbound: Inbound,
  decision: Extract<Decision, { verdict: 'serve' }>,
  described: RecordBase,
  env: AgentEnv,
  signal: AbortSignal | undefined,
): Promise<Opened> {
  const bound = bind(inbound, decision, env, signal);
  if (bound === undefined || decision.context === undefined) {
    const record = decision.effect ? { ...described, fence: 'none' as const } : described;
    return { bound, record, refused: undefined, end: () => {} };
  }
  const forget = atExpiry(inbound.token.expiresAt, env, () => bound.scope.close());
  const end = (): void => {
    forget();
    bound.scope.close();
    void bound.permit?.close();
  };
  const record = {
    ...described,
    intent: bound.scope.facts.envelope.intent.id,
    contextMethod: decision.contextMethod,
  };
  const refused = await permitOf(inbound, decision, bound, env);
  if (refused !== undefined || bound.isOver()) {
    end();
    const reason = 'the epoch passed before the handler';
    const over = refusalError({ kind: 'context', code: 40901, check: 'epoch', reason }, inbound, env, record.intent);
    return { bound, record, refused: bound.isOver() ? over : refused, end };
  }
  const { permit } = bound;
  const fenced = permit === undefined ? { fence: 'none' as const } : { permit: permit.permit };
  const allowed = decision.effect ? { ...record, ...fenced } : record;
  allowEffects({ bound, operation: permitOperation(inbound), declared: decision.effect, record: allowed, env });
  return { bound, record: allowed, refused: undefined, end };
}

async function permitOf(
  inbound: Inbound,
  { effect, envelope }: Extract<Decision, { verdict: 'serve'; envelope: unknown }>,
  bound: Bound,
  env: AgentEnv,
): Promise<HmcpError | undefined> {
  if (!effect || bound.seal === undefined || envelope === undefined || !isSealed(envelope)) return undefined;
  try {
    bound.permit = await obtainPermit(inbound, envelope, bound, env);
    return undefined;
  } catch (error) {
    if (error instanceof HmcpError) return error;
    throw error;
  }
}
