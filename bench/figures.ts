import type { InProcessReport, RequestKind } from './in-process.js';
import { type Summary, summarize } from './statistics.js';

/** What one round of load found, of one server. */
export interface Phase {
  readonly requestsPerSecond: number;
  /** Median latency, ms. */
  readonly p50: number;
  /** CPU time of the server's process for one request, all threads, µs. */
  readonly cpuMicros: number;
}

/** Servers under load at once. */
export type LoadedKind = 'bare' | 'guarded, audit in memory' | 'guarded, audit on disk' | 'guarded, audit in memory, cold';

/** One round: every server met by the same load, one right after the other. */
export interface Round {
  /** Under 32 connections. */
  readonly many: Readonly<Record<LoadedKind, Phase>>;
  /** On one connection. */
  readonly one: Readonly<Record<'bare' | 'guarded, audit on disk', Phase>>;
  /** p50 of one `fdatasync`, ms. */
  readonly syncMs: number;
}

/** What a guard is about: a ratio of two things measured side by side, or a time. */
export interface Figure extends Summary {
  readonly id: FigureId;
  /** What was measured, for a table. */
  readonly says: string;
  readonly unit: 'ratio' | 'µs';
  readonly better: 'more' | 'less';
  /** What it must reach; absent where nothing was promised. */
  readonly limit?: number | undefined;
  /** True for what another machine may be compared by. */
  readonly compared: boolean;
}

const FIGURES = {
  throughput: {
    says: 'throughput, audit in memory, of the bare server’s',
    unit: 'ratio',
    better: 'more',
    limit: 0.85,
    compared: true,
  },
  'throughput audited': {
    says: 'throughput, audit on disk, of the bare server’s',
    unit: 'ratio',
    better: 'more',
    limit: 0.6,
    compared: true,
  },
  'throughput cold': { says: 'throughput, every token new, audit in memory', unit: 'ratio', better: 'more', compared: true },
  cpu: { says: 'CPU time a request, audit in memory, of the bare server’s', unit: 'ratio', better: 'less', compared: true },
  'cpu audited': {
    says: 'CPU time a request, audit on disk, of the bare server’s',
    unit: 'ratio',
    better: 'less',
    compared: true,
  },
  'added latency': {
    says: 'added p50 at 1 connection, of 2 × fdatasync + 0.3 ms',
    unit: 'ratio',
    better: 'less',
    limit: 1,
    compared: true,
  },
  decision: { says: 'one warm decision, p50', unit: 'µs', better: 'less', limit: 60, compared: false },
  'decision by yardstick': { says: 'the same, of one JSON.parse of the answer', unit: 'ratio', better: 'less', compared: true },
  hops: {
    says: 'what the guard adds at hop 4, of what it adds at hop 1',
    unit: 'ratio',
    better: 'less',
    limit: 1.2,
    compared: true,
  },
  'hops cold': { says: 'the same, every token new', unit: 'ratio', better: 'less', compared: true },
} as const satisfies Readonly<Record<string, Omit<Figure, keyof Summary | 'id'>>>;

/** Names of the figures. */
export type FigureId = keyof typeof FIGURES;

/** The figures of a run, each from a value of every round. */
export function figuresOf(rounds: readonly Round[], inProcess: InProcessReport): Figure[] {
  const byRound: Readonly<Record<FigureId, readonly number[]>> = {
    throughput: rounds.map(({ many }) => many['guarded, audit in memory'].requestsPerSecond / many.bare.requestsPerSecond),
    'throughput audited': rounds.map(
      ({ many }) => many['guarded, audit on disk'].requestsPerSecond / many.bare.requestsPerSecond,
    ),
    'throughput cold': rounds.map(
      ({ many }) => many['guarded, audit in memory, cold'].requestsPerSecond / many.bare.requestsPerSecond,
    ),
    cpu: rounds.map(({ many }) => many['guarded, audit in memory'].cpuMicros / many.bare.cpuMicros),
    'cpu audited': rounds.map(({ many }) => many['guarded, audit on disk'].cpuMicros / many.bare.cpuMicros),
    'added latency': rounds.map(({ one, syncMs }) => (one['guarded, audit on disk'].p50 - one.bare.p50) / (2 * syncMs + 0.3)),
    decision: inProcess.decision,
    'decision by yardstick': inProcess.decision.map((micros, i) => micros / (inProcess.yardstick[i] ?? Number.NaN)),
    hops: added(inProcess, 'hop 4', 'hop 1'),
    'hops cold': added(inProcess, 'hop 4, cold', 'hop 1, cold'),
  };
  return (Object.keys(FIGURES) as FigureId[]).map((id) => ({ id, ...FIGURES[id], ...summarize(byRound[id]) }));
}

function added({ request }: InProcessReport, later: RequestKind, first: RequestKind): number[] {
  return request.bare.map((bare, i) => ((request[later][i] ?? Number.NaN) - bare) / ((request[first][i] ?? Number.NaN) - bare));
}

/** The figures that do not reach what was promised; one that could not be had reaches nothing. */
export function missed(figures: readonly Figure[]): Figure[] {
  return figures.filter(
    ({ limit, better, median }) => limit !== undefined && !(better === 'more' ? median >= limit : median <= limit),
  );
}
