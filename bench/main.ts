// `npm run bench`: measures, prints, and exits 1 when something that was promised is missed.
//   --quick    under a minute, for CI
//   --compare  exits 1 only when a ratio is twice as bad as in bench/results/reference.json
//   --record   stores the run there, and its table in PERFORMANCE.md
import { readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { atEveryRound, regressions, worsened } from './compare.js';
import { missed } from './figures.js';
import { FULL, type Measured, measure, QUICK } from './measure.js';
import { table, withMeasured } from './report.js';
import { type Results, readReference, writeReference } from './results.js';

const PERFORMANCE = new URL('../../PERFORMANCE.md', import.meta.url);

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    compare: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
  },
});
const reference = values.compare ? await readReference() : undefined;
const measured = await measure(values.quick ? QUICK : FULL, (line) => process.stderr.write(`${line}\n`));
const { figures, machine } = measured.results;
say(
  `${machine.cpu}, ${machine.cores} cores, Node ${machine.node.slice(1)}, ${machine.fileSystem}, load before ${machine.loadBefore}`,
);
for (const line of table(figures)) say(line);

const notSeen = plantedButNotSeen(measured);
for (const fault of notSeen) say(`NOT SEEN: ${fault}`);
if (notSeen.length === 0)
  say('planted regressions (a server that computes 3 ms for each record; every ratio 2.5 times as bad): seen');
const failed = reference === undefined ? promises() : comparison(reference);
if (values.record && notSeen.length === 0) {
  await writeReference(measured.results);
  await writeFile(PERFORMANCE, withMeasured(await readFile(PERFORMANCE, 'utf8'), await readReference()));
  say('stored in bench/results/reference.json and PERFORMANCE.md');
}
process.exitCode = failed || notSeen.length > 0 ? 1 : 0;

function promises(): boolean {
  const late = missed(figures);
  say(late.length === 0 ? 'everything that was promised held' : `missed: ${late.map(({ says }) => says).join('; ')}`);
  return late.length > 0;
}

function comparison(stored: Results): boolean {
  const found = regressions(stored.figures, figures);
  for (const { id, stored: before, now, worse } of found)
    say(`REGRESSION: "${id}" was ${before} and is ${now}: ${worse.toFixed(1)} times as bad`);
  if (found.length === 0) say(`no figure is twice as bad as on ${stored.measuredAt.slice(0, 10)} (${stored.machine.cpu})`);
  return found.length > 0;
}

/** Faults put there on purpose that this very run should have noticed, and did not. */
function plantedButNotSeen({ results, burdened }: Measured): string[] {
  const faults: string[] = [];
  const slow = results.figures.map((figure) => (figure.id === 'throughput' ? atEveryRound(figure, burdened) : figure));
  if (regressions(results.figures, slow).length !== 1)
    faults.push('a server that computes 3 ms for each record is no regression');
  if (!missed(slow).some(({ id }) => id === 'throughput')) faults.push('the same server keeps what was promised');
  const compared = results.figures.filter((figure) => figure.compared).length;
  if (regressions(results.figures, worsened(results.figures, 2.5)).length !== compared) faults.push('a ratio 2.5 times as bad');
  if (regressions(results.figures, worsened(results.figures, 1.5)).length !== 0)
    faults.push('1.5 times as bad counts as 2 times');
  return faults;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
