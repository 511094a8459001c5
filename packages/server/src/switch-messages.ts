import {
  controllingManager,
  DecidedParams,
  Drained,
  DrainParams,
  HmcpError,
  PARTICIPANT_METHODS,
  type Participation,
  PrepareParams,
  type Refusal,
  Vote,
} from '@hmcp/core';
import type { Inbound } from './admission.js';
import type { RecordBase } from './audit.js';
import type { AgentEnv } from './define-agent.js';
import { fenceOf } from './fence.js';
import type { Json } from './message.js';

/** How a manager is answered, and what of its message is recorded. */
export type SwitchAnswer =
  | { readonly result: Json; readonly said: Partial<RecordBase> }
  | { readonly refusal: Refusal; readonly said: Partial<RecordBase> };

/** A manager waits 5 s for what was drained; effects that go on longer are reported as not known. */
const DRAIN_MS = 4000;

/**
 * Answers what a trusted manager says to this process as a participant, never by way of the factory's server. What the requests
 * being served add is added here: how many there are, which were ended, which effects nobody can tell yet.
 * @throws {HmcpError} the participation's own refusal; 50301 when it failed
 * @see protocol section 6
 */
export async function answerManager({ method, token, params }: Inbound, env: AgentEnv): Promise<SwitchAnswer> {
  const { participation } = env;
  const manager = controllingManager(token, fenceOf(env).managers);
  if (participation === undefined || manager === undefined) {
    const reason = 'this process takes part in no session';
    return { refusal: { kind: 'context', code: 40303, check: 'operation', reason }, said: {} };
  }
  const { _meta, ...message } = params;
  try {
    return await answer(method, message, { manager: manager.issuer, participation, env });
  } catch (error) {
    if (error instanceof HmcpError) throw error;
    throw new HmcpError(50301, { by: env.resource, hop: token.hop, check: 'session' }, { reason: 'the participation failed' });
  }
}

interface Told {
  readonly manager: string;
  readonly participation: Participation;
  readonly env: AgentEnv;
}

async function answer(method: string, message: Json, { manager, participation, env }: Told): Promise<SwitchAnswer> {
  switch (method) {
    case PARTICIPANT_METHODS.prepare: {
      const asked = PrepareParams.safeParse(message);
      return asked.success ? prepare(asked.data, manager, participation, env) : unreadable();
    }
    case PARTICIPANT_METHODS.drain: {
      const asked = DrainParams.safeParse(message);
      return asked.success ? drain(asked.data, manager, participation, env) : unreadable();
    }
    default: {
      const told = DecidedParams.safeParse(message);
      return told.success ? decided(told.data, manager, participation, env) : unreadable();
    }
  }
}

function unreadable(): SwitchAnswer {
  const reason = 'the message is not as the protocol says';
  return { refusal: { kind: 'malformed', check: 'argument', reason }, said: {} };
}

async function prepare(asked: PrepareParams, iss: string, participation: Participation, env: AgentEnv): Promise<SwitchAnswer> {
  const { sid, epoch, switchId } = asked;
  const vote = Vote.parse(await participation.prepare(asked, iss));
  const inflight = vote.inflight + fenceOf(env).work.inflight({ iss, sid }, epoch);
  return { result: { ...vote, inflight }, said: { sid, epoch, switchId, vote: vote.vote } };
}

async function drain(asked: DrainParams, iss: string, participation: Participation, env: AgentEnv): Promise<SwitchAnswer> {
  const { sid, epoch, switchId, deadline } = asked;
  const { monotonic, work } = fenceOf(env);
  const begun = monotonic();
  const patience = Math.min(deadline - (env.now ?? Date.now)(), DRAIN_MS);
  const saved = Drained.parse(await participation.drain(asked, iss));
  const left = Math.max(patience - (monotonic() - begun), 0);
  const own = await work.drain({ iss, sid }, epoch, left);
  const result = {
    saved: saved.saved,
    cancelled: saved.cancelled + own.cancelled,
    completed: saved.completed + own.completed,
    indeterminate: [...new Set([...saved.indeterminate, ...own.indeterminate])].slice(0, 32),
  };
  return { result, said: { sid, epoch, switchId } };
}

async function decided(told: DecidedParams, iss: string, participation: Participation, env: AgentEnv): Promise<SwitchAnswer> {
  const { sid, epoch, switchId } = told;
  // A manager that can be believed about seals can be believed about its epoch: what is below it ends now, whatever follows.
  fenceOf(env).work.learned({ iss, sid }, epoch);
  await participation.decided(told, iss);
  return { result: {}, said: { sid, epoch, switchId } };
}
