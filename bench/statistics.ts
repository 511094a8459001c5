/** The value that a share of the sample does not exceed, by the nearest rank. @throws {RangeError} for an empty sample */
export function quantile(sample: readonly number[], share: number): number {
  const sorted = [...sample].sort((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
  if (value === undefined) throw new RangeError('nothing was measured');
  return value;
}

/** The median; of an even number of values the mean of the middle two. @throws {RangeError} for an empty sample */
export function median(sample: readonly number[]): number {
  const sorted = [...sample].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  if (low === undefined || high === undefined) throw new RangeError('nothing was measured');
  return (low + high) / 2;
}

/** One value of every round, summed up. */
export interface Summary {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  readonly rounds: readonly number[];
}

/** Sums up the values of rounds, to four significant digits: the noise is larger. */
export function summarize(rounds: readonly number[]): Summary {
  const short = rounds.map(shortened);
  return { median: shortened(median(rounds)), least: Math.min(...short), most: Math.max(...short), rounds: short };
}

function shortened(value: number): number {
  return Number(value.toPrecision(4));
}
