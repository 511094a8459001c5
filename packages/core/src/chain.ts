import * as z from 'zod';

/** Longest chain of exchanges a token may carry. @see protocol section 5 */
export const MAX_CHAIN = 4;

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
