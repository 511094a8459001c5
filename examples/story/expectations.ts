import type { Teller } from './teller.js';
import type { Hop } from './trail.js';

/** Counts what held and what did not; a failed expectation is printed with what was expected, what came, and where to look. */
export class Expectations {
  readonly #teller: Teller;
  readonly #state: string;
  count = 0;
  failed = 0;
  hops = 0;
  refusals = 0;

  constructor(teller: Teller, state: string) {
    this.#teller = teller;
    this.#state = state;
  }

  /** Exact equality. */
  equal(what: string, got: unknown, expected: unknown, hop?: Hop): boolean {
    if (this.#teller.ended) return false;
    this.count += 1;
    if (JSON.stringify(got) === JSON.stringify(expected)) return true;
    this.failed += 1;
    const about = hop?.intent ?? hop?.txn;
    const look =
      about === undefined
        ? `npm run -s hmcp -- audit verify ${this.#state}/audit`
        : `npm run -s hmcp -- explain ${about} --state ${this.#state}`;
    process.stderr.write(
      `   FAILED: ${what}\n     expected ${JSON.stringify(expected)}\n     got      ${JSON.stringify(got)}\n     look     ${look}\n`,
    );
    return false;
  }

  /** True. */
  truthy(what: string, got: boolean): boolean {
    return this.equal(what, got, true);
  }

  /** Tells the hops of one call, indented, with the verdict of each. */
  tell(hops: readonly Hop[]): void {
    for (const hop of hops) {
      this.hops += 1;
      const served = hop.event === 'request.served';
      if (!served) this.refusals += 1;
      const types = Object.entries(hop.types ?? {}).map(([type, count]) => `${count} ${type}`);
      const dropped = hop.event === 'hop.dropped';
      const what = [
        dropped ? `${hop.party} drops the answer of ${hop.other ?? 'a peer'}` : hop.party,
        hop.tool ?? hop.method ?? '',
        types.length > 0 ? `(${types.join(', ')})` : '',
      ];
      this.#teller.verdict(hop.depth, what.filter(Boolean).join('  '), verdictOf(hop), served ? 'served' : 'refused');
      this.#teller.event({
        type: served ? 'hop' : 'refused',
        agent: hop.party,
        method: hop.method,
        tool: hop.tool,
        hop: hop.hop,
        code: hop.code,
        check: hop.check,
        types: hop.types,
        pk: hop.pk,
      });
    }
  }
}

function verdictOf({ event, code, check, party, other }: Hop): string {
  if (event === 'request.served') return 'served';
  if (event === 'result.withheld') return 'withheld';
  return `refused ${code} at ${event === 'request.refused' ? (other ?? party) : party}: ${check ?? 'handler'}`;
}
