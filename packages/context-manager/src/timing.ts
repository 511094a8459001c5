import { MAX_PERMIT_MS } from '@hmcp/core';

/** Bounds of a switch, milliseconds. @see protocol section 6 */
export interface Timing {
  /** Participants may vote for this long; silence is eviction. @default 5000 */
  readonly voteMs: number;
  /** The person may think for this long. @default 120000 */
  readonly userMs: number;
  /** Participants may drain for this long. @default 5000 */
  readonly drainMs: number;
  /** Undecided after this, a switch is aborted. @default 180000 */
  readonly switchMs: number;
  /** Longest life of a permit; at most 10000. @default 10000 */
  readonly permitMs: number;
  /** Clock difference and pauses allowed for before an unreleased permit counts as dead. @default 2000 */
  readonly skewMs: number;
  /** Outcomes are kept this long for a repeated request. @default 86400000 */
  readonly retentionMs: number;
}

/** The defaults of {@link Timing}. */
export const TIMING: Timing = {
  voteMs: 5_000,
  userMs: 120_000,
  drainMs: 5_000,
  switchMs: 180_000,
  permitMs: MAX_PERMIT_MS,
  skewMs: 2_000,
  retentionMs: 86_400_000,
};

/** @throws {TypeError} naming a bound that is no positive number of milliseconds, or a permit's life above 10 s */
export function timingOf(options: Partial<Timing> = {}): Timing {
  const timing = { ...TIMING, ...options };
  for (const [name, value] of Object.entries(timing)) {
    if (!Number.isFinite(value) || value < 0) throw new TypeError(`"timing.${name}" must be milliseconds`);
  }
  if (timing.permitMs > MAX_PERMIT_MS) throw new TypeError(`"timing.permitMs" must be at most ${MAX_PERMIT_MS}`);
  return timing;
}

/** Wrong answers of the person before a switch is given up. */
export const MAX_TRIES = 3;
/** Permits one session may have at a time. */
export const MAX_PERMITS = 64;
/** Outcomes kept at most. */
export const MAX_DECIDED = 64;
