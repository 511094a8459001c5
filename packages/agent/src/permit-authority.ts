import type { TrustedManager } from '@hmcp/auth';
import {
  type HeldPermit,
  HmcpError,
  type HmcpErrorCode,
  MANAGER_METHODS,
  MANAGER_SCOPES,
  MAX_PERMIT_MS,
  type PermitAuthority,
  type PermitBearer,
  PermitResult,
  type SealClaims,
} from '@hmcp/core';
import type { Agent } from './agent.js';
import { partsOf } from './agent-parts.js';
import type { SessionParticipation } from './participation.js';
import { readSeal } from './sealed-scope.js';

/** Milliseconds a permit may be waited for: its effect has ten seconds in all. */
const TIMEOUT_MS = 5000;

/** The request a permit is asked for, as its manager knows it. */
interface Asked {
  readonly manager: TrustedManager;
  readonly claims: SealClaims;
}

/**
 * Asks the managers of requests for permits, each with the request's own token, exchanged.
 * @param options.participation joins when the manager says that this agent is no effector of the session, and asks once more
 * @see protocol section 6, "effects"
 */
export function permitAuthority(options: {
  readonly agent: Agent;
  readonly participation?: SessionParticipation | undefined;
}): PermitAuthority {
  const { agent, participation } = options;
  const { managers, now } = partsOf(agent);

  function asked(bearer: PermitBearer): Asked {
    const claims = readSeal(bearer.seal);
    if (claims === undefined) throw refusal(40903, 'seal', 'the seal cannot be read', bearer);
    const manager = managers.seals?.managers.find(({ issuer }) => issuer === claims.iss);
    if (manager === undefined) throw refusal(42801, 'seal', 'the manager is not listed', bearer);
    return { manager, claims };
  }

  function refusal(code: HmcpErrorCode, check: 'seal' | 'permit', reason: string, { intent }: PermitBearer): HmcpError {
    return new HmcpError(code, { by: agent.by, check, intent: intent.id }, { reason });
  }

  /** Asks with the seal in hand, and once more with its renewal when it expired on the way. */
  async function ask(method: string, { manager }: Asked, bearer: PermitBearer, more: object): Promise<PermitResult> {
    const client = managers.client(manager);
    const token = () => managers.token(manager, bearer.accessToken, MANAGER_SCOPES.participate);
    const send = async (seal: string) =>
      client.method(method, { seal, intent: bearer.intent, ...more }, { token, timeoutMs: TIMEOUT_MS });
    try {
      return client.read(PermitResult, await send(bearer.seal));
    } catch (error) {
      if (!(error instanceof HmcpError) || error.code !== 40101) throw error;
      return client.read(PermitResult, await send(await managers.renewed(manager, bearer.seal, token)));
    }
  }

  function held(result: PermitResult, { claims }: Asked, askedAt: number, bearer: PermitBearer): HeldPermit {
    if (result.sid !== claims.sid || result.epoch !== claims.epoch) {
      throw refusal(42802, 'permit', 'the permit is of another session or epoch', bearer);
    }
    return { ...result, usableUntil: askedAt + Math.min(result.ttlMs, MAX_PERMIT_MS) };
  }

  return {
    async permit({ operation, effectKey, ttlMs = MAX_PERMIT_MS }, bearer) {
      const request = asked(bearer);
      const effect = { operation, effectKey, ttlMs };
      let askedAt = now();
      const result = await ask(MANAGER_METHODS.permit, request, bearer, effect).catch(async (error: unknown) => {
        if (participation === undefined || !(error instanceof HmcpError) || error.code !== 40301) throw error;
        // The manager's word about this request stays its word, also where joining is refused as well.
        await participation.join(request.claims.sid).catch((failure: unknown) => {
          throw failure instanceof HmcpError && failure.code === 40301 ? error : failure;
        });
        askedAt = now();
        return ask(MANAGER_METHODS.permit, request, bearer, effect);
      });
      if (result.operation !== operation || result.effectKey !== effectKey) {
        throw refusal(42802, 'permit', 'the permit is for another effect', bearer);
      }
      return held(result, request, askedAt, bearer);
    },
    async redeem(permit, bearer) {
      const request = asked(bearer);
      const askedAt = now();
      const result = await ask(MANAGER_METHODS.redeem, request, bearer, { permit });
      if (result.permit !== permit) throw refusal(42802, 'permit', 'another permit was redeemed', bearer);
      return held(result, request, askedAt, bearer);
    },
    async release(permit, bearer) {
      const { manager, claims } = asked(bearer);
      const token = () => managers.token(manager, bearer.accessToken, MANAGER_SCOPES.participate);
      await managers
        .client(manager)
        .method(MANAGER_METHODS.release, { sid: claims.sid, permit }, { token, timeoutMs: TIMEOUT_MS });
    },
  };
}
