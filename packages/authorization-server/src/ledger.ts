/** Where a token came from: which kind of grant, and which root grant must still stand. */
export interface Issuance {
  readonly origin: 'grant' | 'exchange' | 'client';
  readonly grantId?: string | undefined;
  /** Seconds since the epoch. */
  readonly exp: number;
}

/** What this server remembers of the tokens it signed, until each expires: enough to know whose they are and if they still stand. */
export interface Ledger {
  record(jti: string, issuance: Issuance): void;
  find(jti: string): Issuance | undefined;
}

/** A {@link Ledger} in memory. @param now milliseconds */
export function createLedger(now: () => number): Ledger {
  const issued = new Map<string, Issuance>();
  let sweepAt = 1024;
  const sweep = () => {
    for (const [jti, { exp }] of issued) if (exp * 1000 <= now()) issued.delete(jti);
    sweepAt = Math.max(1024, issued.size * 2);
  };
  return {
    record(jti, issuance) {
      if (issued.size >= sweepAt) sweep();
      issued.set(jti, issuance);
    },
    find: (jti) => issued.get(jti),
  };
}
