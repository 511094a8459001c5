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
  /**
   * Told once, by a server that was handed this participation. What a manager pushes, the server answers with its own work counted
   * in; a participation that pulls asks for it here.
   */
  serving?(work: SessionWork): void;
}

/** What a server is serving inside sessions. @see protocol section 6 */
export interface SessionWork {
  /** Requests being served at this epoch or below. */
  inflight(session: Pick<SealClaims, 'iss' | 'sid'>, epoch: number): number;
  /**
   * Ends them, lets effects under way finish for at most `patienceMs` (longer ones are `indeterminate`), gives permits back.
   */
  drain(
    session: Pick<SealClaims, 'iss' | 'sid'>,
    epoch: number,
    patienceMs: number,
  ): Promise<Pick<Drained, 'cancelled' | 'completed' | 'indeterminate'>>;
  /** The session is at this epoch, its manager says: what is below ends, and is refused (40901) from now on. */
  learned(session: Pick<SealClaims, 'iss' | 'sid'>, epoch: number): void;
}
