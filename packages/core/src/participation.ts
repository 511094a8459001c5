import type { SealClaims } from './seal.js';
import type { DecidedParams, Drained, DrainParams, PrepareParams, Vote } from './session.js';

/**
 * A process's part in the sessions it joined. A server hands it what its manager sends, after admitting it, and what verified
 * seals say; `@hmcp/agent` implements it.
 * @see protocol section 6
 */
export interface Participation {
  /** Answers a survey. Rejects with an `HmcpError` for a session not joined (40301), or a message of the past (40901). */
  prepare(message: PrepareParams): Promise<Vote>;
  /** Ends live work of the epoch; errors as {@link prepare}. */
  drain(message: DrainParams): Promise<Drained>;
  /** Learns how it ended. A message of the past changes nothing. */
  decided(message: DecidedParams): Promise<void>;
  /** A request came with this seal, verified: joins its session when that is new here; a higher epoch purges what is below it. */
  learned(seal: Pick<SealClaims, 'iss' | 'sid' | 'epoch'>): void;
}
