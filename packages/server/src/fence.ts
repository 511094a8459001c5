import { AuthorityUnavailable, createSealVerifier, SealError, type SealVerifier } from '@hmcp/auth';
import type { SealFact, SessionWork } from '@hmcp/core';
import type { AgentEnv } from './define-agent.js';
import { EffectLedger } from './effect-ledger.js';
import { EpochMemory } from './epoch-memory.js';
import type { HeldHere } from './permit-hold.js';
import { sessionWork } from './session-work.js';

/** What one deployment knows of sessions: its managers, the epochs it verified, the effects it caused. */
export interface Fence {
  readonly managers: SealVerifier['managers'];
  readonly epochs: EpochMemory;
  readonly effects: EffectLedger;
  readonly work: SessionWork;
  /** The permits held for requests being served. */
  readonly held: Map<string, HeldHere>;
  /** Milliseconds of a clock that is never set back. */
  readonly monotonic: () => number;
  /** Tells operators that a manager could not be asked: at most once a minute, however many requests are refused for it. */
  managerSilent(): void;
  /** Verifies a seal and learns its epoch. */
  verify(seal: string): Promise<SealFact>;
}

/** A manager that is away is told of once in this time, milliseconds. */
const SILENCE_MS = 60_000;

const fences = new WeakMap<AgentEnv, Fence>();

/**
 * The fence of a deployment, one for its life.
 * @throws {TypeError} naming the member of `managers` that cannot be used
 */
export function fenceOf(env: AgentEnv): Fence {
  let fence = fences.get(env);
  if (fence === undefined) {
    fence = makeFence(env);
    fences.set(env, fence);
    env.participation?.serving?.(fence.work);
  }
  return fence;
}

function makeFence(env: AgentEnv): Fence {
  const { managers = [], fetch, now, monotonic = now ?? (() => performance.now()) } = env;
  const seals = createSealVerifier({ managers, fetch, now });
  const epochs = new EpochMemory(monotonic);
  let toldAt = Number.NEGATIVE_INFINITY;
  const managerSilent = (): void => {
    const at = monotonic();
    if (at - toldAt < SILENCE_MS) return;
    toldAt = at;
    env.log?.warn({}, 'a context manager did not answer');
  };
  return {
    managers,
    epochs,
    effects: new EffectLedger(monotonic),
    work: sessionWork(epochs),
    held: new Map(),
    monotonic,
    managerSilent,
    async verify(seal) {
      try {
        const { claims } = await seals.verify(seal);
        const highestEpoch = epochs.learn(claims, claims.epoch);
        if (highestEpoch === undefined) return { code: 50301, reason: 'no more sessions can be remembered' };
        return { claims, highestEpoch };
      } catch (error) {
        if (error instanceof SealError) return { code: error.code, reason: error.reason };
        if (!(error instanceof AuthorityUnavailable)) throw error;
        managerSilent();
        return { code: 50301, reason: 'the keys of the manager cannot be had' };
      }
    },
  };
}
