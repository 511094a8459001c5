import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openSqliteStore } from '@hmcp/context-manager';
import { describe, expect, test } from 'vitest';
import { freshFolder, NOW, type, writeLog } from './terminal.js';

async function state(): Promise<{ folder: string; labs: string; triage: string }> {
  const folder = await freshFolder();
  const labs = await writeLog(folder, 'labs', [[5, { intent: 'intent-1', tool: 'list-results' }]]);
  const triage = await writeLog(folder, 'triage', [[9, { intent: 'intent-1', tool: 'assess' }]]);
  return { folder, labs, triage };
}

async function change(file: string, from: string, to: string): Promise<void> {
  await writeFile(file, (await readFile(file, 'utf8')).replace(from, to));
}

describe('hmcp audit verify', () => {
  test('accepts the logs of a state folder, of a folder and by name', async () => {
    const { folder, labs, triage } = await state();
    for (const paths of [[folder], [join(folder, 'audit')], [labs, triage]]) {
      const { code, stdout, stderr } = await type(['audit', 'verify', ...paths]);
      expect([code, stderr]).toEqual([0, '']);
      expect(stdout.split('\n').filter((line) => /^ok .*: 3 records, 1 run, 2026-/.test(line))).toHaveLength(2);
    }
  });

  test('accepts the session store of a context manager beside them, and tells when it was changed', async () => {
    const { folder } = await state();
    const store = join(folder, 'manager.sqlite');
    await (await openSqliteStore({ file: store, by: 'http://manager.test' })).close();
    const { code, stdout } = await type(['audit', 'verify', folder]);
    expect([code, stdout.match(/^ok .*$/gm)?.length]).toEqual([0, 3]);
    expect(await type(['audit', 'verify', store])).toMatchObject({ code: 0, stdout: expect.stringMatching(/2 records, 1 run/) });
    const bytes = await readFile(store);
    bytes.write('audit.stoq', bytes.lastIndexOf('audit.stop'));
    await writeFile(store, bytes);
    expect(await type(['audit', 'verify', folder])).toMatchObject({
      code: 2,
      stdout: expect.stringMatching(/^TAMPERED .*manager/m),
    });
    const other = join(await freshFolder(), 'other.sqlite');
    await writeFile(other, 'SQLite format 3\0 and nothing else');
    expect((await type(['audit', 'verify', other])).code).toBe(3);
  });

  test('finds one changed byte, names its place, and still judges the other logs', async () => {
    const { folder, labs } = await state();
    await change(labs, '"intent":"intent-1"', '"intent":"intent-2"');
    const { code, stdout } = await type(['audit', 'verify', folder]);
    expect(code).toBe(2);
    expect(stdout).toMatch(/^TAMPERED .*labs\.jsonl: line 3 \(offset \d+, seq 2\): .*; 1 record before it hold\nok .*triage/);
  });

  test('warns of a torn and of an unclosed end', async () => {
    const { labs, triage } = await state();
    const whole = await readFile(labs, 'utf8');
    await writeFile(labs, whole.slice(0, -20));
    expect(await type(['audit', 'verify', labs])).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^WARNING .*\n +its last write/),
    });
    await writeFile(labs, whole.split('\n').slice(0, 3).join('\n').concat('\n'));
    expect(await type(['audit', 'verify', labs, triage])).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/it was not closed.*\nok /s),
    });
  });

  test('--json prints a line for each log', async () => {
    const { folder, labs } = await state();
    await change(labs, 'list-results', 'list-resultz');
    const { stdout } = await type(['audit', 'verify', '--json', folder, 'nowhere']);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    expect(lines).toMatchObject([
      { ok: false, file: labs, line: 3, seq: 2 },
      { ok: true, records: 3, first: NOW, warnings: [] },
      { ok: false, file: 'nowhere', unreadable: 'there is no such file' },
    ]);
  });

  test('a folder without logs, a missing file and a folder as file cannot be read', async () => {
    const empty = await freshFolder();
    await mkdir(join(empty, 'x.jsonl'));
    for (const path of [empty, join(empty, 'none.jsonl')]) {
      const { code, stdout } = await type(['audit', 'verify', path]);
      expect(code).toBe(3);
      expect(stdout).toMatch(/^UNREADABLE /);
    }
  });

  test('tampering outweighs what cannot be read, and that outweighs warnings', async () => {
    const { labs, triage } = await state();
    await writeFile(triage, (await readFile(triage, 'utf8')).slice(0, -20));
    expect((await type(['audit', 'verify', triage, 'nowhere'])).code).toBe(3);
    await change(labs, 'list-results', 'list-resultz');
    expect((await type(['audit', 'verify', triage, 'nowhere', labs])).code).toBe(2);
  });
});
