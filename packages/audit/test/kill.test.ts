import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { verifyAudit } from '../src/index.js';
import { freshLog } from './log-folder.js';

const APPENDER = fileURLToPath(new URL('./appender.mjs', import.meta.url));

/** Lets a child append until it has acknowledged `enough`, kills it in the middle of its work, returns what it acknowledged. */
async function appendUntilKilled(file: string, run: number, enough: number): Promise<string[]> {
  const child = spawn(process.execPath, [APPENDER, file, String(run)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [output, errors] = ['', ''];
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    if (output.split('\n').length > enough) child.kill('SIGKILL');
  });
  const signal = await new Promise((resolve) => child.on('close', (_code, by) => resolve(by)));
  expect(signal, errors).toBe('SIGKILL');
  return output.split('\n').slice(0, -1);
}

test('of a process killed while it appends, every acknowledged record is in the log and the chain goes on', async () => {
  const file = await freshLog();
  const acknowledged: string[] = [];
  for (const [run, enough] of [40, 333, 1000].entries()) acknowledged.push(...(await appendUntilKilled(file, run, enough)));
  const stored = new Set<string | undefined>();
  const verdict = await verifyAudit(file, { onRecord: (record) => stored.add(record.intent) });
  expect(verdict).toMatchObject({ ok: true, runs: 3, interrupted: 3, live: false });
  expect(acknowledged.length).toBeGreaterThan(1300);
  expect(acknowledged.filter((intent) => !stored.has(intent))).toEqual([]);
});
