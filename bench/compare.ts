import type { Figure, FigureId } from './figures.js';

/** How much worse a figure must be than the stored one to count. */
const WORSE = 2;

/** A figure that became at least twice as bad. */
export interface Regression {
  readonly id: FigureId;
  readonly stored: number;
  readonly now: number;
  readonly worse: number;
}

/** What two runs, of whatever machines, are compared by. */
export type Compared = Pick<Figure, 'id' | 'median' | 'better' | 'compared'>;

/**
 * The figures that are {@link WORSE} times as bad as they were, or are gone. What machines differ in (times, numbers of requests) is
 * left out: a slower machine is no regression.
 */
export function regressions(stored: readonly Compared[], now: readonly Compared[]): Regression[] {
  return stored
    .filter(({ compared }) => compared)
    .map(({ id, median, better }): Regression => {
      const found = now.find((figure) => figure.id === id)?.median ?? Number.NaN;
      return { id, stored: median, now: found, worse: better === 'more' ? median / found : found / median };
    })
    .filter(({ worse }) => !(worse < WORSE));
}

/** The same run, each figure `times` as bad: what {@link regressions} must find, or must not. */
export function worsened(figures: readonly Compared[], times: number): Compared[] {
  return figures.map((figure) => ({
    ...figure,
    median: figure.better === 'more' ? figure.median / times : figure.median * times,
  }));
}
