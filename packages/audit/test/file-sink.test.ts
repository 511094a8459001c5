import { appendFile, copyFile, readdir, readFile, rename, stat, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { AuditRecord, AuditSink } from '@hmcp/core';
import { describe, expect, onTestFinished, test } from 'vitest';
import { MAX_WAITING, openFileAudit, verifyAudit } from '../src/index.js';
import { FaultyDisk, freshLog, LABS, linesOf, refused, served } from './log-folder.js';

async function openAt(file: string, more: Partial<Parameters<typeof openFileAudit>[0]> = {}): Promise<AuditSink> {
  const sink = await openFileAudit({ file, by: LABS, ...more });
  onTestFinished(() => sink.close().catch(() => undefined));
  return sink;
}

describe('the log', () => {
  test('is a header, a start, the records as given and a stop, numbered without a gap', async () => {
    const file = await freshLog();
    const sink = await openAt(file, { now: () => 1_700_000_000_123 });
    await sink.append(served('i1'));
    await sink.append(refused({ reason: 'the argument names another patient' }));
    await sink.close();

    const lines = await linesOf(file);
    expect(lines.map((line) => line.seq)).toEqual([0, 1, 2, 3, 4]);
    expect(lines.slice(1).map((line) => line.event)).toEqual(['audit.start', 'request.served', 'request.refused', 'audit.stop']);
    expect(lines[0]).toMatchObject({ v: 1, b: 0, log: 'hmcp-audit', hash: 'SHA-256', by: LABS });
    expect(new Set(lines.map((line) => line.chain)).size).toBe(1);
    expect(lines.every((line) => line.t === 1_700_000_000_123)).toBe(true);
    const text = (await readFile(file, 'utf8')).split('\n')[2] ?? '';
    expect(text.replace(/"chain":"[^"]+"|"h":"[^"]+"/g, '~')).toBe(
      `{"v":1,~,"seq":2,"b":2,"t":1700000000123,"event":"request.served","outcome":0,"by":"${LABS}","intent":"i1","tool":"list-results","types":{"Observation":3},~}`,
    );
  });

  test.each([[undefined], ['']])('needs a file, and %j is none', async (file) => {
    await expect(openFileAudit({ file: file as string, by: LABS })).rejects.toThrow('"file" of an audit log is missing');
  });

  test('can be read by its owner only', async () => {
    const file = await freshLog();
    await openAt(file);
    expect((await stat(file)).mode & 0o077).toBe(0);
  });

  test('is continued by the next run, on the same chain', async () => {
    const file = await freshLog();
    await (await openAt(file)).close();
    const again = await openAt(file);
    await again.append(served('i2'));
    await again.close();
    expect(await verifyAudit(file)).toMatchObject({ ok: true, records: 5, runs: 2, interrupted: 0, warnings: [] });
  });

  test('holds only members of the record, and those as plain text of bounded length', async () => {
    const file = await freshLog();
    const sink = await openAt(file);
    const stray = {
      ...served('i'),
      arguments: { patientId: 'CANARY' },
      tool: `a\u202E\n${'x'.repeat(9000)}`,
      types: { 'Ann CANARY': 1 },
    };
    await sink.append(stray);
    await sink.close();
    const text = await readFile(file, 'utf8');
    expect(text).not.toContain('CANARY');
    expect((await linesOf(file))[2]).toMatchObject({ tool: `a${'x'.repeat(125)}`, types: { other: 1 } });
  });

  test.each([
    ['no event', { outcome: 0, by: LABS }],
    ['an unknown event', { event: 'request.liked', outcome: 0, by: LABS }],
    ['an outcome of its own', { event: 'request.served', outcome: 1, by: LABS }],
    ['an object as tool', { ...served('i'), tool: { name: 'x' } }],
    ['text as code', { ...served('i'), code: '40903' }],
    ['NaN as hop', { ...served('i'), hop: Number.NaN }],
    ['null as types', { ...served('i'), types: null }],
    ['a word as actors', { ...served('i'), actors: 'triage' }],
  ])('refuses a record with %s, and goes on', async (_what, record) => {
    const sink = await openAt(await freshLog());
    await expect(sink.append(record as AuditRecord)).rejects.toThrow(TypeError);
    await sink.append(served('after'));
  });
});

describe('group commit', () => {
  test('makes many concurrent records durable with few syncs, in the order of their appends', async () => {
    const file = await freshLog();
    const disk = new FaultyDisk();
    const sink = await openAt(file, { open: disk.open });
    const before = disk.count('datasync');
    await Promise.all(Array.from({ length: 200 }, (_, n) => sink.append(served(`i${n}`))));
    expect(disk.count('datasync') - before).toBeLessThan(10);
    const intents = (await linesOf(file)).map((line) => line.intent).filter((intent) => intent !== undefined);
    expect(intents).toEqual(Array.from({ length: 200 }, (_, n) => `i${n}`));
  });

  test('never resolves an append before the sync of its record has ended', async () => {
    const disk = new FaultyDisk();
    const sink = await openAt(await freshLog(), { open: disk.open });
    const sync = disk.holdNext('datasync');
    let released = false;
    const append = sink.append(served('i')).then(() => {
      released = true;
    });
    await sync.reached;
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(released).toBe(false);
    sync.release();
    await append;
  });

  test('what arrives during a sync shares the next one', async () => {
    const disk = new FaultyDisk();
    const sink = await openAt(await freshLog(), { open: disk.open });
    const sync = disk.holdNext('datasync');
    const first = sink.append(served('first'));
    await sync.reached;
    const before = disk.count('datasync');
    const rest = Array.from({ length: 30 }, (_, n) => sink.append(served(`r${n}`)));
    sync.release();
    await Promise.all([first, ...rest]);
    expect(disk.count('datasync') - before).toBe(1);
  });

  test(`refuses the record after ${MAX_WAITING} that wait for a slow disk, and recovers`, async () => {
    const disk = new FaultyDisk();
    const sink = await openAt(await freshLog(), { open: disk.open });
    const sync = disk.holdNext('datasync');
    const held = sink.append(served('held'));
    await sync.reached;
    const waiting = Array.from({ length: MAX_WAITING }, () => sink.append(served('w')));
    await expect(sink.append(served('too many'))).rejects.toMatchObject({ kind: 'full' });
    sync.release();
    await Promise.all([held, ...waiting]);
    await sink.append(served('fine again'));
  });
});

describe('a failing disk', () => {
  test.each([
    ['a short write', (disk: FaultyDisk) => disk.shortenNextWrite(100)],
    ['a short write that ends in ENOSPC', (disk: FaultyDisk) => disk.shortenNextWrite(886, 'ENOSPC')],
    ['a write of nothing', (disk: FaultyDisk) => disk.shortenNextWrite(0)],
    ['ENOSPC', (disk: FaultyDisk) => disk.failNext('write', 'ENOSPC')],
    ['EDQUOT', (disk: FaultyDisk) => disk.failNext('write', 'EDQUOT')],
  ])('%s refuses its batch, leaves no byte of it, and the next record succeeds', async (_what, plan) => {
    const file = await freshLog();
    const disk = new FaultyDisk();
    const sink = await openAt(file, { open: disk.open });
    const { size } = await stat(file);
    plan(disk);
    const batch = ['a', 'b', 'c', 'd', 'e'].map((intent) => sink.append(served(intent)));
    for (const append of batch) await expect(append).rejects.toMatchObject({ kind: 'full' });
    expect((await stat(file)).size).toBe(size);
    await sink.append(served('space again'));
    await sink.close();
    const records = await linesOf(file);
    expect(records.map((record) => record.intent).filter(Boolean)).toEqual(['space again']);
    expect(await verifyAudit(file)).toMatchObject({ ok: true, warnings: [] });
  });

  test.each([
    ['a failed sync', (disk: FaultyDisk) => disk.failNext('datasync', 'EIO')],
    ['ENOSPC at the sync', (disk: FaultyDisk) => disk.failNext('datasync', 'ENOSPC')],
    ['EIO at the write', (disk: FaultyDisk) => disk.failNext('write', 'EIO')],
    [
      'a short write that cannot be cut back',
      (disk: FaultyDisk) => {
        disk.shortenNextWrite(10);
        disk.failNext('truncate', 'EIO');
      },
    ],
  ])('%s poisons the sink: that batch, everything waiting and every later record is refused, and no sync is repeated', async (_what, plan) => {
    const file = await freshLog();
    const disk = new FaultyDisk();
    const lines: string[] = [];
    const log = { warn: () => undefined, error: (...line: unknown[]) => lines.push(JSON.stringify(line)) };
    const sink = await openAt(file, { open: disk.open, log });
    plan(disk);
    const append = sink.append(served('a'));
    await expect(append).rejects.toMatchObject({ kind: 'poisoned' });
    const asked = disk.calls.length;
    await expect(sink.append(served('b'))).rejects.toMatchObject({ kind: 'poisoned' });
    await expect(sink.append(refused())).rejects.toMatchObject({ kind: 'poisoned' });
    await sink.close();
    expect(disk.calls.length).toBe(asked);
    expect(lines).toHaveLength(1);
    await (await openAt(file)).append(served('a new start helps'));
  });

  test('a failed sync refuses what waits behind it', async () => {
    const disk = new FaultyDisk();
    const sink = await openAt(await freshLog(), { open: disk.open });
    const write = disk.holdNext('write');
    disk.failNext('datasync', 'EIO');
    const first = sink.append(served('first'));
    await write.reached;
    const behind = sink.append(served('behind'));
    write.release();
    await expect(first).rejects.toMatchObject({ kind: 'poisoned' });
    await expect(behind).rejects.toMatchObject({ kind: 'poisoned' });
  });

  test.each([
    ['appended to', (file: string) => appendFile(file, '{}\n')],
    ['cut', (file: string) => truncate(file, 100)],
    ['removed', (file: string) => rename(file, `${file}.away`).then(() => copyFile(`${file}.away`, file))],
  ])('a log %s by somebody else is noticed at the next record', async (what, harm) => {
    const file = await freshLog();
    const sink = await openAt(file);
    await harm(file);
    if (what === 'removed') await import('node:fs/promises').then(({ unlink }) => unlink(`${file}.away`));
    await expect(sink.append(served('i'))).rejects.toMatchObject({ kind: 'poisoned' });
  });
});

describe('one writer', () => {
  test('a second writer is refused while the first lives, and admitted after it closed', async () => {
    const file = await freshLog();
    const first = await openAt(file);
    await expect(openFileAudit({ file, by: LABS })).rejects.toMatchObject({ kind: 'locked' });
    await first.append(served('undisturbed'));
    await first.close();
    await openAt(file);
  });

  test('of many that open at once exactly one gets the log', async () => {
    const file = await freshLog();
    const tries = await Promise.allSettled(Array.from({ length: 8 }, () => openFileAudit({ file, by: LABS })));
    const won = tries.filter((attempt) => attempt.status === 'fulfilled');
    expect(won).toHaveLength(1);
    for (const attempt of won) await attempt.value.close();
    expect((await readdir(dirname(file))).sort()).toEqual(['labs.jsonl']);
  });

  test.runIf(process.platform === 'linux')('of many that find the lock of a dead process exactly one takes it over', async () => {
    const file = await freshLog();
    const first = await openAt(file);
    const holder = JSON.parse(await readFile(`${file}.lock`, 'utf8')) as Record<string, unknown>;
    await first.close();
    // This process lives, but it did not start at that tick: its number was somebody else's before.
    await writeFile(`${file}.lock`, JSON.stringify({ ...holder, started: '1' }));
    const tries = await Promise.allSettled(Array.from({ length: 8 }, () => openFileAudit({ file, by: LABS })));
    const won = tries.filter((attempt) => attempt.status === 'fulfilled');
    expect(won).toHaveLength(1);
    for (const attempt of won) await attempt.value.close();
    expect(await readdir(dirname(file))).toEqual(['labs.jsonl']);
    expect(await verifyAudit(file)).toMatchObject({ ok: true, runs: 2, interrupted: 0 });
  });

  test.each([
    '',
    '{',
    'null',
    '[]',
    '{"pid":"1"}',
    '{"pid":-1}',
  ])('an unreadable lock %j is nobody known to be gone: refused', async (text) => {
    const file = await freshLog();
    await (await openAt(file)).close();
    await writeFile(`${file}.lock`, text);
    await expect(openFileAudit({ file, by: LABS })).rejects.toMatchObject({ kind: 'locked' });
  });

  test('the lock of another machine is respected, that of an earlier boot of this one is not', async () => {
    const file = await freshLog();
    const first = await openAt(file);
    const holder = JSON.parse(await readFile(`${file}.lock`, 'utf8')) as Record<string, unknown>;
    await first.close();
    await writeFile(`${file}.lock`, JSON.stringify({ ...holder, host: 'elsewhere' }));
    await expect(openFileAudit({ file, by: LABS })).rejects.toMatchObject({ kind: 'locked' });
    await writeFile(`${file}.lock`, JSON.stringify({ ...holder, boot: 'earlier' }));
    await openAt(file);
  });
});

describe('recovery at open', () => {
  async function crashedLog(): Promise<string> {
    const file = await freshLog();
    const sink = await openAt(file);
    for (const intent of ['a', 'b', 'c']) await sink.append(served(intent));
    await sink.close();
    return file;
  }

  test.each([
    ['one byte', 1],
    ['its line feed', -1],
    ['half a line', 120],
  ])('cuts a torn tail that kept or lost %s, keeps it beside the log and records it', async (_what, cut) => {
    const file = await crashedLog();
    const lines = (await readFile(file, 'latin1')).split('\n');
    const last = `${lines[5]}\n`;
    const whole = (await stat(file)).size;
    await truncate(file, whole - last.length + (cut < 0 ? last.length + cut : cut));
    expect(await verifyAudit(file)).toMatchObject({ ok: true, warnings: ['torn'] });

    const sink = await openAt(file, { now: () => 42 });
    await sink.append(served('d'));
    await sink.close();
    expect(await verifyAudit(file)).toMatchObject({ ok: true, warnings: [], runs: 2, interrupted: 1 });
    const records = await linesOf(file);
    expect(records.map((record) => record.intent).filter(Boolean)).toEqual(['a', 'b', 'c', 'd']);
    const torn = await readFile(join(dirname(file), 'labs.jsonl.torn-42'));
    expect(records.find((record) => record.event === 'audit.recover')).toMatchObject({ bytes: torn.length });
    expect(last.startsWith(torn.toString('latin1'))).toBe(true);
  });

  test('cuts a tail whose blocks were never written', async () => {
    const file = await crashedLog();
    const whole = (await stat(file)).size;
    await truncate(file, whole - 80);
    await truncate(file, whole + 4096);
    await (await openAt(file)).close();
    expect(await verifyAudit(file)).toMatchObject({ ok: true, warnings: [] });
  });

  test.each([
    ['an empty file', ''],
    ['a file that is no audit log', 'hello\n'],
    ['a torn header', '{"v":1,"chain":"abc'],
  ])('refuses to start on %s and does not touch it', async (_what, text) => {
    const file = await freshLog();
    await writeFile(file, text);
    await expect(openFileAudit({ file, by: LABS })).rejects.toMatchObject({ kind: 'broken' });
    expect(await readFile(file, 'utf8')).toBe(text);
    await expect(readFile(`${file}.lock`)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('refuses to start on a log with a changed record, naming line, offset and seq', async () => {
    const file = await crashedLog();
    const text = await readFile(file, 'latin1');
    await writeFile(file, text.replace('"intent":"b"', '"intent":"x"'), 'latin1');
    const offset = text.split('\n').slice(0, 3).join('\n').length + 1;
    const refusal = openFileAudit({ file, by: LABS });
    await expect(refusal).rejects.toMatchObject({ kind: 'broken' });
    await expect(refusal).rejects.toThrow(`line 4 (offset ${offset}, seq 3)`);
  });
});

describe('closing', () => {
  test('waits for what was appended, refuses what comes after, and may be repeated', async () => {
    const file = await freshLog();
    const sink = await openAt(file);
    const last = sink.append(served('last'));
    const closing = sink.close();
    await expect(sink.append(served('late'))).rejects.toMatchObject({ kind: 'closed' });
    await Promise.all([last, closing, sink.close()]);
    expect((await linesOf(file)).at(-1)).toMatchObject({ event: 'audit.stop' });
  });
});

describe('a flood of refusals', () => {
  test('writes twenty of a kind, then one record with the number of the others', async () => {
    const file = await freshLog();
    let t = 0;
    const sink = await openAt(file, { now: () => t });
    await Promise.all(Array.from({ length: 500 }, () => sink.append(refused())));
    await sink.append(refused({ tool: 'another tool' }));
    expect((await linesOf(file)).filter((record) => record.event === 'request.refused')).toHaveLength(21);
    t = 61_000;
    await sink.append(served('i'));
    const folded = (await linesOf(file)).filter((record) => record.folded !== undefined);
    expect(folded).toMatchObject([
      { event: 'request.refused', code: 40903, check: 'argument', clientId: 'triage', folded: 480, since: 0, until: 0 },
    ]);
  });

  test('closing writes what is still counted', async () => {
    const file = await freshLog();
    const sink = await openAt(file);
    await Promise.all(Array.from({ length: 25 }, () => sink.append(refused())));
    await sink.close();
    expect((await linesOf(file)).filter((record) => record.folded === 5)).toHaveLength(1);
  });

  test('a folded refusal is not released before those written for it are durable', async () => {
    const disk = new FaultyDisk();
    const sink = await openAt(await freshLog(), { open: disk.open });
    const sync = disk.holdNext('datasync');
    let released = 0;
    const appends = Array.from({ length: 25 }, () => sink.append(refused()).then(() => (released += 1)));
    await sync.reached;
    expect(released).toBe(0);
    sync.release();
    await Promise.all(appends);
  });

  test('refusals that could not be written do not count as written, and summaries are not lost', async () => {
    const file = await freshLog();
    const disk = new FaultyDisk();
    let t = 0;
    const sink = await openAt(file, { open: disk.open, now: () => t });
    disk.failNext('write', 'ENOSPC');
    const lost = await Promise.allSettled(Array.from({ length: 30 }, () => sink.append(refused())));
    expect(lost.every((append) => append.status === 'rejected')).toBe(true);
    await sink.append(refused());
    t = 60_000;
    disk.failNext('write', 'ENOSPC');
    await expect(sink.append(served('i'))).rejects.toMatchObject({ kind: 'full' });
    await sink.append(served('j'));
    const records = await linesOf(file);
    expect(records.filter((record) => record.event === 'request.refused').map((record) => record.folded)).toEqual([
      undefined,
      10,
    ]);
  });
});
