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
export type Compared = Pick<Figure, 'id' | 'median' | 'least' | 'most' | 'better' | 'compared'>;

/**
 * The figures whose best round is {@link WORSE} times as bad as the stored median, or that are gone: what became slower is slower in every
 * round, what else a machine does is not. What machines differ in (times, numbers of requests) is
 * left out: a slower machine is no regression.
 */
export function regressions(stored: readonly Compared[], now: readonly Compared[]): Regression[] {
  return stored
    .filter(({ compared }) => compared)
    .map(({ id, median, better }): Regression => {
      const figure = now.find((one) => one.id === id);
      const found = (better === 'more' ? figure?.most : figure?.least) ?? Number.NaN;
      return { id, stored: median, now: found, worse: better === 'more' ? median / found : found / median };
    })
    .filter(({ worse }) => !(worse < WORSE));
}

/** The same run, each figure `times` as bad in every round: what {@link regressions} must find, or must not. */
export function worsened(figures: readonly Compared[], times: number): Compared[] {
  return figures.map((figure) => atEveryRound(figure, figure.better === 'more' ? figure.median / times : figure.median * times));
}

/** The figure with this value in every round. */
export function atEveryRound<F extends Compared>(figure: F, value: number): F {
  return { ...figure, median: value, least: value, most: value };
}
