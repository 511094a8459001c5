import * as z from 'zod';
import { coversAll, parseScopes } from './scopes.js';

/** Longest chain of exchanges a token may carry. @see protocol section 5 */
export const MAX_CHAIN = 4;

/** RFC 8693 `act`: the current actor outermost, earlier ones nested inside. */
export interface Actor {
  readonly sub: string;
  readonly act?: Actor | undefined;
}

/** The `act` claim. @see protocol section 2.1 */
export const ActorClaim: z.ZodType<Actor> = z.lazy(() => z.looseObject({ sub: z.string().min(1), act: ActorClaim.optional() }));

/** One exchanged-away token of the chain, oldest first. `pth` = base64url(SHA-256(token)). @see protocol section 5 */
export const ChainRecord = z.strictObject({
  jti: z.string().min(1),
  client_id: z.string().min(1),
  aud: z.string().min(1),
  scope: z.string(),
  pth: z.string().optional(),
});
export type ChainRecord = z.infer<typeof ChainRecord>;

/** The `__hmcp` claim: version, session (when minted for one) and the chain of exchanges. @see protocol section 2.1 */
export const HmcpClaim = z.strictObject({
  v: z.literal(1),
  sid: z.string().min(1).max(128).optional(),
  chain: z.array(ChainRecord).max(MAX_CHAIN),
});
export type HmcpClaim = z.infer<typeof HmcpClaim>;

/** The claims a chain is read from; {@link AccessTokenClaims} fits. */
export interface ChainClaims {
  readonly client_id: string;
  readonly scope?: string | undefined;
  readonly act?: Actor | undefined;
  readonly __hmcp?: HmcpClaim | undefined;
}

/** What a chain says of a token, or the fixed words why it cannot be true (for the local audit only). */
export type ChainVerdict =
  | {
      readonly ok: true;
      /** Outermost (newest) first; empty for a token no agent exchanged. */
      readonly actors: readonly string[];
      /** 1 + chain length: the place of the server this token is for. */
      readonly hop: number;
      /** The client that began the chain. */
      readonly firstClient: string;
    }
  | { readonly ok: false; readonly reason: ChainFault };

/** Every way a chain can contradict itself. */
export type ChainFault =
  | 'chain too long'
  | 'act without chain'
  | 'chain without act'
  | 'act and chain differ in length'
  | 'outermost actor is not the client'
  | 'chain record is not of the actor before it'
  | 'scope widened along the chain';

/**
 * Checks that actors, chain of exchanges and scopes of a token fit together: `act` absent iff the chain is empty; flattened
 * from the inside it has as many members as the chain (at most {@link MAX_CHAIN}), the outermost being `client_id`;
 * `chain[i].client_id` is member `i-1` for i >= 1; no scope is wider than the one before it.
 * A refusal is a 401 of the server (RS-19).
 * @see protocol section 5
 */
export function checkChain(claims: ChainClaims): ChainVerdict {
  const chain = claims.__hmcp?.chain ?? [];
  if (chain.length > MAX_CHAIN) return { ok: false, reason: 'chain too long' };
  const actors = flatten(claims.act);
  if (actors.length > 0 && chain.length === 0) return { ok: false, reason: 'act without chain' };
  if (actors.length === 0 && chain.length > 0) return { ok: false, reason: 'chain without act' };
  if (actors.length !== chain.length) return { ok: false, reason: 'act and chain differ in length' };
  if (actors.length > 0 && actors[0] !== claims.client_id) return { ok: false, reason: 'outermost actor is not the client' };

  const members = actors.toReversed();
  for (const [i, record] of chain.entries()) {
    if (i >= 1 && record.client_id !== members[i - 1]) return { ok: false, reason: 'chain record is not of the actor before it' };
  }
  const scopes = [...chain.map((record) => record.scope), claims.scope ?? ''];
  for (const [i, scope] of scopes.entries()) {
    const before = scopes[i - 1];
    if (before !== undefined && !narrows(before, scope)) return { ok: false, reason: 'scope widened along the chain' };
  }
  return { ok: true, actors, hop: 1 + chain.length, firstClient: chain[0]?.client_id ?? claims.client_id };
}

/** Outermost first; stops one past the limit, which no chain can match. */
function flatten(act: Actor | undefined): string[] {
  const actors: string[] = [];
  for (let next = act; next !== undefined && actors.length <= MAX_CHAIN; next = next.act) actors.push(next.sub);
  return actors;
}

/**
 * Every member of `later` is covered by `earlier`, or stands there word for word (an extension this revision cannot read is
 * no wider for being repeated). Launch members grant nothing anywhere and records may leave them out, so they are not compared.
 */
function narrows(earlier: string, later: string): boolean {
  const granted = parseScopes(earlier);
  const verbatim = new Set(granted.map((scope) => scope.raw));
  return coversAll(
    granted,
    parseScopes(later).filter((scope) => scope.kind !== 'launch' && !verbatim.has(scope.raw)),
  );
}
