import { describe, it } from 'vitest';

/** One thing an implementation must do; the claim is the name of its test. */
export interface Rule<Bench> {
  readonly claim: string;
  /** @throws when the claim does not hold */
  readonly check: (bench: Bench) => Promise<void>;
}

/** Declares one test for each rule, each on a bench of its own, which is closed whatever happens. */
export function declareRules<Bench extends { close(): Promise<void> }>(
  name: string,
  rules: readonly Rule<Bench>[],
  open: () => Promise<Bench>,
): void {
  describe(name, () => {
    for (const { claim, check } of rules)
      it(claim, async () => {
        const bench = await open();
        try {
          await check(bench);
        } finally {
          await bench.close();
        }
      });
  });
}
