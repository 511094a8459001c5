import { readFile, writeFile } from 'node:fs/promises';
import type { Figure, Round } from './figures.js';
import type { InProcessReport } from './in-process.js';
import type { Machine } from './machine.js';

/** One run, as it is stored. */
export interface Results {
  readonly version: 1;
  /** ISO 8601, UTC. */
  readonly measuredAt: string;
  readonly machine: Machine;
  readonly settings: {
    readonly rounds: number;
    readonly seconds: number;
    readonly connections: number;
    readonly answerBytes: number;
  };
  readonly figures: readonly Figure[];
  readonly rounds: readonly Round[];
  readonly inProcess: InProcessReport;
}

/** The run that PERFORMANCE.md quotes and later ones are compared with. */
const REFERENCE = new URL('../results/reference.json', import.meta.url);

/** Reads the stored run. @throws when there is none, or it is of another version */
export async function readReference(): Promise<Results> {
  const results = JSON.parse(await readFile(REFERENCE, 'utf8')) as Results;
  if (results.version !== 1) throw new Error('bench/results/reference.json is of another version: measure again with --record');
  return results;
}

/** Stores a run as the one to be quoted and compared with. */
export async function writeReference(results: Results): Promise<void> {
  await writeFile(REFERENCE, `${JSON.stringify(results, shortNumbers, 2)}\n`);
}

function shortNumbers(_: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;
}
