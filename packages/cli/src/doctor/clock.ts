import { type Finding, failure, ok, warning } from './finding.js';

/** When an authority answered, by its clock and by ours. */
export interface ClockReading {
  /** Header `Date` of its answer. */
  readonly date: string | null;
  /** Header `Age`: how long ago that was, when a cache answered. */
  readonly age?: string | null | undefined;
  /** Middle of the exchange in ms, by this machine. */
  readonly at: number;
}

const REMARKABLE_MS = 5000;

/** What the clock of an authority is compared for, and seconds it may be ahead or behind before that is refused. */
export interface Tolerated {
  readonly what: 'tokens' | 'seals';
  readonly ahead: number;
  readonly behind: number;
}

/** How far two clocks are apart, against what tokens or seals tolerate. A `Date` header has whole seconds, so half of one is allowed for. */
export function judgeClock(about: string, { date, age, at }: ClockReading, { what, ahead, behind }: Tolerated): Finding {
  const theirs = date === null ? Number.NaN : Date.parse(date) + Number(age ?? 0) * 1000 + 500;
  if (!Number.isFinite(theirs)) {
    return warning('clock', about, 'it sends no usable Date header: its clock is not known', 'compare its clock by other means');
  }
  const apart = theirs - at;
  const seconds = Math.round(Math.abs(apart) / 1000);
  const said = `its clock is ${seconds} s ${apart > 0 ? 'ahead of' : 'behind'} this machine's`;
  const change = 'synchronize both machines (NTP)';
  const tolerated = apart > 0 ? ahead : behind;
  if (Math.abs(apart) > tolerated * 1000)
    return failure('clock', about, `${said}; ${what} are refused beyond ${tolerated} s`, change);
  if (Math.abs(apart) > REMARKABLE_MS) return warning('clock', about, said, change);
  return ok('clock', about, 'its clock agrees with this machine');
}
