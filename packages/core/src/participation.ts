import type { SealClaims } from './seal.js';
import type { DecidedParams, Drained, DrainParams, PrepareParams, Vote } from './session.js';

/**
 * A process's part in the sessions it joined. A server hands it what a manager sends, after admitting it, and what verified
 * seals say; `@hmcp/agent` implements it. `manager` is the issuer of the manager that sent the message, as configured: where
 * several are trusted, only its own sessions are its to speak of.
 * @see protocol section 6
 */
export interface Participation {
  /** Answers a survey. Rejects with an `HmcpError` for a session not joined (40301), or a message of the past (40901). */
  prepare(message: PrepareParams, manager?: string): Promise<Vote>;
  /**
   * Saves what can be saved; errors as {@link prepare}. The server ends the requests it is serving itself, and adds them to what
   * this counts.
   */
  drain(message: DrainParams, manager?: string): Promise<Drained>;
  /** Learns how it ended. A message of the past changes nothing. */
  decided(message: DecidedParams, manager?: string): Promise<void>;
  /** A request came with this seal, verified: joins its session when that is new here; a higher epoch purges what is below it. */
  learned(seal: Pick<SealClaims, 'iss' | 'sid' | 'epoch'>): void;
}
