import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Compared, regressions, worsened } from '../../bench/compare.js';
import { type Figure, figuresOf, missed, type Phase, type Round } from '../../bench/figures.js';
import type { InProcessReport } from '../../bench/in-process.js';
import { withMeasured } from '../../bench/report.js';
import type { Results } from '../../bench/results.js';
import { median, quantile, summarize } from '../../bench/statistics.js';
import { readJson, readText } from './workspace.js';

const reference = readJson('bench/results/reference.json') as Results;

const phase = (requestsPerSecond: number, p50 = 1, cpuMicros = 100): Phase => ({ requestsPerSecond, p50, cpuMicros });
const round = (memory: number, disk: number, p50: number, syncMs: number): Round => ({
  many: {
    bare: phase(1000),
    'guarded, audit in memory': phase(memory),
    'guarded, audit on disk': phase(disk),
    'guarded, audit in memory, cold': phase(500),
  },
  one: { bare: phase(900, 1), 'guarded, audit on disk': phase(700, p50) },
  syncMs,
});
const inProcess = (hop4: number, decision = 30): InProcessReport => ({
  decision: [decision],
  yardstick: [60],
  request: { bare: [200], 'hop 1': [300], 'hop 4': [hop4], 'hop 1, cold': [500], 'hop 4, cold': [560] },
});
const figure = (figures: readonly Figure[], id: Figure['id']) => figures.find((one) => one.id === id);

describe('PERFORMANCE.md', () => {
  it('shows the figures of bench/results/reference.json', () => {
    const document = readText('PERFORMANCE.md');
    expect(withMeasured(document, reference)).toBe(document);
    const first = reference.figures[0];
    if (first === undefined) throw new Error('nothing was measured');
    const other = { ...reference, figures: [{ ...first, median: first.median / 2 }, ...reference.figures.slice(1)] };
    expect(withMeasured(document, other)).not.toBe(document);
  });

  it('shows figures that follow from the rounds that are stored', () => {
    expect(reference.rounds.length).toBeGreaterThanOrEqual(5);
    for (const { id, median: value } of figuresOf(reference.rounds, reference.inProcess)) {
      const stored = figure(reference.figures, id)?.median ?? Number.NaN;
      expect(stored / value, id).toBeCloseTo(1, 2);
    }
  });

  it('is refused without a place for them', () => {
    expect(() => withMeasured('# Performance', reference)).toThrow('no place');
  });
});

describe('a promise', () => {
  it('is kept at its limit', () => {
    expect(missed(figuresOf([round(850, 600, 1.7, 0.2)], inProcess(320, 60)))).toEqual([]);
  });

  it.each([
    ['throughput', round(849, 600, 1.7, 0.2), inProcess(320)],
    ['throughput audited', round(850, 599, 1.7, 0.2), inProcess(320)],
    ['added latency', round(850, 600, 1.71, 0.2), inProcess(320)],
    ['hops', round(850, 600, 1.7, 0.2), inProcess(321)],
    ['decision', round(850, 600, 1.7, 0.2), inProcess(320, 60.1)],
  ])('about %s is missed just beyond it, alone', (id, measured, report) => {
    expect(missed(figuresOf([measured], report)).map((one) => one.id)).toEqual([id]);
  });

  it('is missed by what could not be measured', () => {
    const figures = figuresOf([round(Number.NaN, 600, 1.7, 0.2)], inProcess(320));
    expect(missed(figures).map(({ id }) => id)).toEqual(['throughput']);
  });
});

describe('a comparison', () => {
  const of = (more: Partial<Compared> = {}): Compared => ({
    ...{ id: 'cpu', median: 1.2, better: 'less', compared: true },
    ...{ least: more.median ?? 1.2, most: more.median ?? 1.2 },
    ...more,
  });

  it.each([
    ['twice the ratio', of(), of({ median: 2.4 })],
    ['half of what should be more', of({ better: 'more' }), of({ better: 'more', median: 0.6 })],
    ['nothing', of({ better: 'more' }), of({ better: 'more', median: 0 })],
    ['what is no number', of(), of({ median: Number.NaN })],
  ])('finds %s', (_, stored, now) => {
    expect(regressions([stored], [now])).toHaveLength(1);
  });

  it.each([
    ['a little less than twice', of(), of({ median: 2.39 })],
    ['what is twice as bad in some rounds only', of(), of({ median: 2.6, least: 1.3, most: 4 })],
    ['what became better', of({ better: 'more' }), of({ better: 'more', median: 12 })],
    ['a time, which is the machine’s', of({ compared: false }), of({ compared: false, median: 100 })],
  ])('passes %s', (_, stored, now) => {
    expect(regressions([stored], [now])).toEqual([]);
  });

  it('finds a figure that is gone', () => {
    expect(regressions([of()], [])).toHaveLength(1);
  });

  it('finds every ratio of the stored run when all are 2.5 times as bad, and none at 1.5 times', () => {
    const compared = reference.figures.filter((one) => one.compared);
    expect(compared.length).toBeGreaterThan(5);
    expect(regressions(reference.figures, worsened(reference.figures, 2.5))).toHaveLength(compared.length);
    expect(regressions(reference.figures, worsened(reference.figures, 1.5))).toEqual([]);
  });
});

describe('the median and quantiles of a sample', () => {
  it('lie where half, or that share, does not exceed them', () => {
    expect([
      median([3, 1, 2]),
      median([4, 1, 2, 3]),
      quantile([5, 1, 4, 2, 3], 0.5),
      quantile([1, 2], 0),
      quantile([1, 2], 1),
    ]).toEqual([2, 2.5, 3, 1, 2]);
    expect(summarize([0.123456, 0.2])).toEqual({ median: 0.1617, least: 0.1235, most: 0.2, rounds: [0.1235, 0.2] });
    const sample = fc.array(fc.double({ noNaN: true, min: -1e6, max: 1e6 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(sample, (values) => {
        const middle = median(values);
        expect(values.filter((value) => value < middle).length).toBeLessThanOrEqual(values.length / 2);
        expect(values.filter((value) => value > middle).length).toBeLessThanOrEqual(values.length / 2);
      }),
    );
  });

  it('of nothing do not exist', () => {
    expect(() => median([])).toThrow(RangeError);
    expect(() => quantile([], 0.5)).toThrow(RangeError);
  });
});
