import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { openSqliteStore } from '../src/index.js';
import { verifyStoreAudit } from '../src/store-audit.js';

const SWITCHER = fileURLToPath(new URL('./switcher.mjs', import.meta.url));

/** Lets a child switch until it has acknowledged `enough` commits, kills it in the middle of its work, returns the last epoch it said. */
async function switchUntilKilled(file: string, enough: number): Promise<number> {
  const child = spawn(process.execPath, [SWITCHER, file], { stdio: ['ignore', 'pipe', 'pipe'] });
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
  return Number(output.split('\n').slice(0, -1).at(-1));
}

test('of a process killed while it commits, every acknowledged commit stands, and each commit has exactly one record', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'hmcp-kill-'));
  const file = join(folder, 'sessions.sqlite');
  try {
    for (const enough of [7, 40, 101]) {
      const acknowledged = await switchUntilKilled(file, enough);
      const commits: (number | undefined)[] = [];
      const moves: number[] = [];
      const verdict = await verifyStoreAudit(file, {
        onRecord: ({ event, epoch, seq }) => {
          if (event === 'switch.committed') commits.push(epoch);
          if (event.startsWith('switch.') || event === 'session.opened') moves.push(seq);
        },
      });
      expect(verdict).toMatchObject({ ok: true, warnings: ['unclosed'] });
      const store = await openSqliteStore({ file, by: 'https://manager.example/mcp' });
      const row = await store.read('ctx_1');
      await store.close();
      expect(row?.epoch).toBeGreaterThanOrEqual(acknowledged);
      // Epochs 2, 3, … each once, the last being the row's: no commit without its record, no record without its commit.
      expect(commits).toEqual(Array.from({ length: (row?.epoch ?? 0) - 1 }, (_, i) => i + 2));
      // Every write of the row is one record.
      expect(moves).toHaveLength(row?.version ?? 0);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});
