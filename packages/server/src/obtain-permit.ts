import {
  type Check,
  HmcpError,
  type HmcpErrorCode,
  keyedHash,
  MAX_PERMIT_MS,
  type PermitResult,
  type SealedEnvelope,
} from '@hmcp/core';
import type { Inbound } from './admission.js';
import type { Bound } from './admitted.js';
import type { AgentEnv } from './define-agent.js';
import { fenceOf } from './fence.js';
import { isJsonObject } from './message.js';
import { PermitHold } from './permit-hold.js';

/** A permit is not used in the last moments of its life: the process may be stopped between the check and the write. */
const MARGIN_MS = 2000;

/**
 * The permit of an effect, before its handler: redeemed when the request brought one, else asked of the session's manager.
 * @throws {HmcpError} the manager's refusal as it came, with the intent; 42802 `check: "peer"` no authority, `"permit"` not the
 * permit asked for; 50301 no answer
 * @see protocol section 6, "effects"
 */
export async function obtainPermit(inbound: Inbound, envelope: SealedEnvelope, bound: Bound, env: AgentEnv): Promise<PermitHold> {
  const { permits } = env;
  const { seal: claims } = bound;
  const refuse = (code: HmcpErrorCode, reason: string, check: Check = 'permit'): HmcpError =>
    new HmcpError(code, { by: env.resource, hop: inbound.token.hop, check, intent: envelope.intent.id }, { reason });
  if (claims === undefined) throw refuse(42802, 'an effect needs a sealed envelope here', 'seal');
  if (permits === undefined) throw refuse(42802, 'no authority for permits is configured', 'peer');
  const { monotonic, held, managers, managerSilent } = fenceOf(env);
  const bearer = { accessToken: inbound.accessToken, seal: envelope.seal, intent: envelope.intent };
  const { permit: sent } = envelope;
  // A permit that came from a caller is the caller's to give back.
  const giveBack = async ({ permit }: Pick<PermitResult, 'permit'>): Promise<void> => {
    if (sent === undefined) await permits.release(permit, bearer).catch(() => undefined);
  };
  const effect = { operation: permitOperation(inbound), effectKey: await defaultEffectKey(inbound, envelope.intent.id) };
  const startedAt = monotonic();
  const ask = async () => (sent === undefined ? permits.permit(effect, bearer) : permits.redeem(sent, bearer));
  const asked = ask();
  const granted = await inTime(asked).catch((error: unknown) => {
    // One that comes too late is nobody's.
    void asked.then(giveBack, () => undefined);
    const refusal = HmcpError.from(error)?.withIntent(envelope.intent.id) ?? refuse(50301, 'the manager did not answer');
    // What a manager itself said is an answer, also 50301.
    if (refusal.code === 50301 && !managers.some(({ resource }) => resource === refusal.data.by)) managerSilent();
    throw refusal;
  });
  const isAsked =
    sent === undefined
      ? granted.operation === effect.operation && granted.effectKey === effect.effectKey
      : granted.permit === sent;
  if (!isAsked || granted.sid !== claims.sid || granted.epoch !== claims.epoch)
    throw refuse(42802, 'the permit is not of this effect and session');
  const until = startedAt + Math.min(granted.ttlMs, MAX_PERMIT_MS) - MARGIN_MS;
  return new PermitHold({
    permit: granted.permit,
    redeemed: sent !== undefined,
    held,
    isLive: () => monotonic() < until,
    giveBack: () => giveBack(granted),
  });
}

/** What a permit is for: the method, and which of this server's own operations. */
export function permitOperation({ method, params }: Pick<Inbound, 'method' | 'params'>): string {
  const name = (method === 'tools/call' || method === 'prompts/get') && typeof params.name === 'string' ? `/${params.name}` : '';
  return encodeURI(`${method}${name}`).slice(0, 256);
}

/** The same for the same arguments of the same intent; says nothing of them to anybody else. */
async function defaultEffectKey({ params, operation }: Inbound, intent: string): Promise<string> {
  const { _meta, arguments: given, ...said } = params;
  const { [operation?.patientArgument ?? '']: _, ...own } = isJsonObject(given) ? given : {};
  return keyedHash(intent, JSON.stringify(sorted({ ...said, arguments: own })));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isJsonObject(value)) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return { object: entries.map(([key, inner]) => [key, sorted(inner)]) };
}

async function inTime<T>(asked: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('late')), MAX_PERMIT_MS);
    timer.unref();
  });
  try {
    return await Promise.race([asked, late]);
  } finally {
    clearTimeout(timer);
  }
}
