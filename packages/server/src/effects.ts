import { AsyncLocalStorage } from 'node:async_hooks';
import { HmcpError, isEffect, type Operation } from '@hmcp/core';
import type { RequestScope } from '@hmcp/core/request-scope';
import type { Bound } from './admitted.js';
import { makeDurable, type RecordBase } from './audit.js';
import type { AgentEnv } from './define-agent.js';
import { fenceOf } from './fence.js';
import type { PermitHold } from './permit-hold.js';

const requests = new WeakMap<RequestScope, Effects>();
const causing = new AsyncLocalStorage<PermitHold | undefined>();

/** The effects of the request a scope belongs to. @throws {TypeError} outside a guarded request */
export function effectsOf(scope: RequestScope): Pick<Effects, 'run'> {
  const found = requests.get(scope);
  if (!found) throw new TypeError('effects are caused only behind the guard');
  return found;
}

/** The permit for the call that causes an effect; `undefined` for any other call, and after it was given once. */
export function permitForCall(contract: Operation): string | undefined {
  return isEffect(contract) ? causing.getStore()?.take() : undefined;
}

/** What an effect is caused by. */
export interface EffectFacts {
  readonly bound: Bound;
  readonly operation: string;
  /** Whether the operation is declared an effect: another one may cause none. */
  readonly declared: boolean;
  readonly record: RecordBase;
  readonly env: AgentEnv;
}

/** Lets the handler of a request cause effects, as its facts allow. */
export function allowEffects(facts: EffectFacts): void {
  requests.set(facts.bound.scope, new Effects(facts));
}

/** How the handler of one request causes side effects. @see protocol section 6, "effects" */
class Effects {
  readonly #facts: EffectFacts;

  constructor(facts: EffectFacts) {
    this.#facts = facts;
  }

  /** Runs `fn`, once for its key and the intent, between two durable records. @throws {HmcpError} 42802, 50301 or 50302: it did not run */
  async run<T>(key: string, fn: () => Promise<T>): Promise<T> {
    if (typeof key !== 'string' || key === '') throw new TypeError('"key" of an effect must be a text');
    this.#assertPermitted();
    const { bound, operation, env } = this.#facts;
    const { token, envelope } = bound.scope.facts;
    const { effects } = fenceOf(env);
    const session = bound.seal === undefined ? null : [bound.seal.iss, bound.seal.sid];
    const effect = JSON.stringify([token?.issuer, token?.subject, session, envelope.intent.id, operation, key]);
    const claim = effects.claim(effect);
    // Whoever caused it may be at it still.
    if (claim === 'known') bound.permit?.leave();
    if (claim === 'known') throw this.#refuse(42802, 'the effect was caused, or tried, with this intent before');
    if (claim === 'full') throw this.#refuse(50301, 'no more effects can be remembered');
    const ended = bound.permit?.begin();
    let unknown = false;
    try {
      await this.#intend(() => effects.forget(effect));
      unknown = true;
      const value = await this.#cause(fn);
      unknown = false;
      return value;
    } finally {
      ended?.(unknown);
    }
  }

  async #intend(forget: () => void): Promise<void> {
    try {
      await this.#record({ event: 'effect.intent', outcome: 0 });
    } catch (error) {
      forget();
      throw error;
    }
    // Time has passed.
    try {
      this.#assertPermitted();
    } catch (error) {
      forget();
      await this.#record({ event: 'effect.outcome', outcome: 4, code: 42802, check: 'permit', reason: 'it was not begun' });
      throw error;
    }
  }

  async #cause<T>(fn: () => Promise<T>): Promise<T> {
    const { scope, permit } = this.#facts.bound;
    let value: T;
    try {
      value = await scope.run(() => causing.run(permit, fn));
    } catch (error) {
      await this.#record({ event: 'effect.outcome', outcome: 8, reason: 'it failed, or its outcome is unknown' });
      throw error;
    }
    await this.#record({ event: 'effect.outcome', outcome: 0 });
    return value;
  }

  async #record(said: Pick<Parameters<typeof makeDurable>[1], 'event' | 'outcome' | 'code' | 'check' | 'reason'>): Promise<void> {
    const { bound, env, record } = this.#facts;
    const permit = bound.permit === undefined ? {} : { permit: bound.permit.permit };
    try {
      await makeDurable(env, { ...record, ...permit, ...said });
    } catch (error) {
      if (error instanceof HmcpError) bound.scope.refusals.push(error);
      throw error;
    }
  }

  #assertPermitted(): void {
    const { bound, declared, env } = this.#facts;
    if (bound.scope.closed || bound.isOver()) throw this.#refuse(42802, 'the request is over');
    if (!declared) throw this.#refuse(42802, 'the operation declares no effect', 'operation');
    if (fenceOf(env).managers.length === 0) return;
    if (bound.permit === undefined) throw this.#refuse(42802, 'there is no permit');
    if (!bound.permit.usable) throw this.#refuse(42802, 'the permit has run out');
  }

  #refuse(code: 42802 | 50301, reason: string, check: 'permit' | 'operation' = 'permit'): HmcpError {
    const { scope } = this.#facts.bound;
    const { by, hop, envelope } = scope.facts;
    const error = new HmcpError(code, { by, hop, check, intent: envelope.intent.id }, { reason });
    scope.refusals.push(error);
    return error;
  }
}
