import type { Figure } from './figures.js';
import { missed } from './figures.js';
import type { Results } from './results.js';
import { median } from './statistics.js';

const BEGIN = '<!-- measured: written by `npm run bench -- --record` -->';
const END = '<!-- /measured -->';

/** The document with what was measured in its place. @throws when it has no such place */
export function withMeasured(document: string, results: Results): string {
  const [from, to] = [document.indexOf(BEGIN), document.indexOf(END)];
  if (from === -1 || to < from) throw new Error('PERFORMANCE.md has no place for what was measured');
  return `${document.slice(0, from)}${BEGIN}\n${measuredSection(results)}\n${document.slice(to)}`;
}

/** Machine, figures and what they are made of, as Markdown. */
function measuredSection({ machine, measuredAt, settings, figures, rounds, inProcess }: Results): string {
  const { cpu, cores, memoryGiB, system, node, fileSystem, loadBefore } = machine;
  const late = missed(figures);
  const phase = (
    name: string,
    of: (round: Results['rounds'][number]) => { requestsPerSecond: number; p50: number; cpuMicros: number },
  ) =>
    `| ${name} | ${[whole(median(rounds.map((r) => of(r).requestsPerSecond))), three(median(rounds.map((r) => of(r).p50))), whole(median(rounds.map((r) => of(r).cpuMicros)))].join(' | ')} |`;
  const kinds = Object.keys(rounds[0]?.many ?? {}) as (keyof Results['rounds'][number]['many'])[];
  const requestKinds = Object.keys(inProcess.request) as (keyof typeof inProcess.request)[];
  return [
    `Measured ${measuredAt.slice(0, 10)} on ${cpu}, ${cores} cores, ${memoryGiB} GiB, ${system}, Node ${node.slice(1)}, audit on ${fileSystem}; load average before the`,
    `run ${loadBefore}. ${settings.rounds} rounds of up to ${settings.seconds} s a server; the answer of the tool is ${settings.answerBytes} bytes.`,
    '',
    ...table(figures),
    '',
    late.length === 0
      ? 'Everything that was promised held.'
      : `**Missed: ${late.map(({ says, median: value, limit }) => `${says} (${three(value)}, promised ${limit})`).join('; ')}.**`,
    '',
    `One \`fdatasync\` took ${three(median(rounds.map(({ syncMs }) => syncMs)))} ms (median of the rounds’ p50).`,
    '',
    '| server | requests/s | p50, ms | CPU a request, µs |',
    '|---|---|---|---|',
    ...kinds.map((kind) => phase(`${kind}; ${settings.connections} connections`, ({ many }) => many[kind])),
    ...(['bare', 'guarded, audit on disk'] as const).map((kind) => phase(`${kind}; 1 connection`, ({ one }) => one[kind])),
    '',
    '| in process, no socket | p50, µs |',
    '|---|---|',
    ...requestKinds.map(
      (kind) => `| ${kind === 'bare' ? 'bare' : `guarded, ${kind}`} | ${whole(median(inProcess.request[kind]))} |`,
    ),
  ].join('\n');
}

/** The figures as a table, in Markdown that reads well in a terminal too. */
export function table(figures: readonly Figure[]): string[] {
  const late = new Set(missed(figures).map(({ id }) => id));
  const rows = figures.map(({ id, says, unit, better, limit, median: value, least, most }) => [
    says,
    `${three(value)}${unit === 'ratio' ? '' : ` ${unit}`}`,
    `${three(least)} to ${three(most)}`,
    limit === undefined ? '' : `${better === 'more' ? '≥' : '≤'} ${limit}`,
    limit === undefined ? '' : late.has(id) ? 'MISSED' : 'held',
  ]);
  const head = ['figure', 'median', 'rounds', 'promised', ''];
  const widths = head.map((title, column) => Math.max(3, title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)];
}

function three(value: number): string {
  return Number.isFinite(value) ? `${Number(value.toPrecision(3))}` : 'not measured';
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
