import { controllingManager, type PatientContext, type Refusal, type SealClaims } from '@hmcp/core';
import { admit, type Inbound } from './admission.js';
import type { AgentEnv } from './define-agent.js';
import { fenceOf } from './fence.js';
import { isJsonObject, type Json } from './message.js';
import type { Declarations } from './operations.js';

/** More than any honest client watches at once; each is decided like a request. */
const MOST_URIS = 64;

/** Who listens, and to what: the first refusal settles the whole request. */
export type ListenDecision =
  | {
      readonly verdict: 'serve';
      readonly uris: ReadonlySet<string>;
      readonly context: PatientContext | undefined;
      readonly seal: SealClaims | undefined;
    }
  | {
      readonly verdict: 'refuse';
      readonly refusal: Refusal;
      readonly seal: SealClaims | undefined;
      /** The read it was refused as. */
      readonly asked?: Inbound | undefined;
    };

/**
 * Decides `subscriptions/listen`, which SDKs answer before any handler: each resource URI is a request in context, as if it
 * were read; change notices of catalogues need no more than the token.
 * @see protocol section 3
 */
export async function decideListen(asked: Inbound, env: AgentEnv, declarations: Declarations): Promise<ListenDecision> {
  if (controllingManager(asked.token, fenceOf(env).managers) !== undefined) {
    const reason = 'the token of a manager reaches the methods of a switch only';
    return { verdict: 'refuse', refusal: { kind: 'context', code: 40301, check: 'session', reason }, seal: undefined };
  }
  const uris = urisOf(asked.params);
  if (uris === undefined) {
    const reason = 'the filter of subscriptions/listen cannot be read';
    return { verdict: 'refuse', refusal: { kind: 'malformed', check: 'argument', reason }, seal: undefined };
  }
  let context: PatientContext | undefined;
  let seal: SealClaims | undefined;
  for (const uri of uris) {
    const params = { ...(asked.params._meta === undefined ? {} : { _meta: asked.params._meta }), uri };
    const inbound = { ...asked, method: 'resources/read', params, ...declarations.forRequest('resources/read', params) };
    const { decision, seal: verified } = await admit(inbound, env);
    seal ??= verified;
    if (decision.verdict === 'refuse') return { ...decision, seal, asked: inbound };
    context ??= decision.context;
  }
  return { verdict: 'serve', uris: new Set(uris), context, seal };
}

function urisOf(params: Json): readonly string[] | undefined {
  const filter = params.notifications ?? {};
  if (!isJsonObject(filter)) return undefined;
  const uris = filter.resourceSubscriptions ?? [];
  if (!Array.isArray(uris) || uris.length > MOST_URIS) return undefined;
  return uris.every((uri) => typeof uri === 'string') ? uris : undefined;
}
