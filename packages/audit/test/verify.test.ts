import { createHash } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chainLine, lineHead } from '../src/chain.js';
import { openFileAudit, type StoredRecord, verifyAudit } from '../src/index.js';
import { freshLog, LABS, refused, served } from './log-folder.js';

async function closedLog(): Promise<{ file: string; bytes: Buffer }> {
  const file = await freshLog();
  const sink = await openFileAudit({ file, by: LABS, now: () => 1_700_000_000_000 });
  await Promise.all(['a', 'b', 'c'].map((intent) => sink.append(served(intent))));
  await sink.append(refused());
  await sink.close();
  return { file, bytes: await readFile(file) };
}

describe('a log as it was written', () => {
  test('verifies, and hands out every record', async () => {
    const { file } = await closedLog();
    const records: StoredRecord[] = [];
    const verdict = await verifyAudit(file, { onRecord: (record) => records.push(record) });
    expect(verdict).toMatchObject({
      ok: true,
      records: 6,
      runs: 1,
      interrupted: 0,
      tail: 0,
      live: false,
      warnings: [],
      first: 1_700_000_000_000,
    });
    expect(records.map((record) => record.event).slice(1, -1)).toEqual([
      'request.served',
      'request.served',
      'request.served',
      'request.refused',
    ]);
  });

  test('verifies while it is being written', async () => {
    const file = await freshLog();
    const sink = await openFileAudit({ file, by: LABS });
    await sink.append(served('a'));
    expect(await verifyAudit(file)).toMatchObject({ ok: true, live: true, interrupted: 0, warnings: [] });
    await sink.close();
  });

  test('follows the published rule: SHA-256 over a tag, the hash before and the exact bytes', async () => {
    const { bytes } = await closedLog();
    let previous: Buffer | undefined;
    for (const line of bytes.toString('utf8').trimEnd().split('\n')) {
      const open = Buffer.from(line.slice(0, line.lastIndexOf(',"h":"')), 'utf8');
      const parts = previous === undefined ? [Buffer.of(3), open] : [Buffer.of(2), previous, open];
      previous = createHash('sha256').update(Buffer.concat(parts)).digest();
      expect(line.endsWith(`,"h":"${previous.toString('base64url')}"}`)).toBe(true);
    }
  });

  test('has the hashes of the test vector', () => {
    const headerOpen = '{"v":1,"chain":"AAAAAAAAAAAAAAAAAAAAAA","seq":0,"b":0,"t":0,"log":"hmcp-audit"';
    const recordOpen = '{"v":1,"chain":"AAAAAAAAAAAAAAAAAAAAAA","seq":1,"b":1,"t":1,"event":"audit.start","outcome":0,"by":"ä"';
    const header = chainLine(undefined, headerOpen);
    const record = chainLine(header.hash, recordOpen);
    expect(header.line.toString()).toBe(`${headerOpen},"h":"HBjRSQrGxdA-KwoQkAJd7r1Lt_-qEOzTc_svm-v3yNw"}\n`);
    expect(record.line.toString()).toBe(`${recordOpen},"h":"SJpW2UzIIC5jdfagzHl-YxPpwRUdb1xsmkrAML1J0vs"}\n`);
  });
});

describe('tampering', () => {
  test('one changed byte anywhere is found', async () => {
    const { file, bytes } = await closedLog();
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, by) => {
        const changed = Buffer.from(bytes);
        changed[at] = ((bytes[at] ?? 0) + by) % 256;
        await writeFile(file, changed);
        expect((await verifyAudit(file)).ok).toBe(false);
      }),
      { numRuns: 400 },
    );
  });

  test('every bit of the last line and its line feed counts', async () => {
    const { file, bytes } = await closedLog();
    const lastLine = bytes.lastIndexOf(10, bytes.length - 2) + 1;
    for (let at = lastLine; at < bytes.length; at += 1) {
      for (const value of [0, 10, 13, 32, 125, (bytes[at] ?? 0) ^ 1]) {
        if (value === bytes[at]) continue;
        const changed = Buffer.from(bytes);
        changed[at] = value;
        await writeFile(file, changed);
        expect((await verifyAudit(file)).ok, `byte ${at} to ${value}`).toBe(false);
      }
    }
  });

  test('dropped, repeated, swapped and inserted lines are found, and the place is named', async () => {
    const { file, bytes } = await closedLog();
    const lines = bytes.toString('utf8').trimEnd().split('\n');
    for (let at = 0; at < lines.length - 1; at += 1) {
      const [here, next] = [lines[at] ?? '', lines[at + 1] ?? ''];
      const dropped = lines.toSpliced(at, 1);
      const repeated = lines.toSpliced(at, 0, here);
      const swapped = lines.toSpliced(at, 2, next, here);
      const inserted = lines.toSpliced(at + 1, 0, '');
      for (const [what, harmed, line] of [
        ['dropped', dropped, at + 1],
        ['repeated', repeated, at + 2],
        ['swapped', swapped, at + 1],
        ['inserted', inserted, at + 2],
      ] as const) {
        await writeFile(file, `${harmed.join('\n')}\n`);
        const verdict = await verifyAudit(file);
        expect(verdict, `${what} at ${at}`).toMatchObject({ ok: false, line, seq: line - 1 });
      }
    }
  });

  test('bytes added at either end are found', async () => {
    const { file, bytes } = await closedLog();
    for (const added of ['\n', ' ', '\0', '{}\n', 'x', '{"v":1,"chain":"', '\0'.repeat(4096)]) {
      await writeFile(file, Buffer.concat([Buffer.from(added), bytes]));
      expect((await verifyAudit(file)).ok).toBe(false);
    }
    for (const added of ['\n', ' ', '{}\n', 'x', '{"v":2', `{"v":1,"chain":"another`]) {
      await writeFile(file, Buffer.concat([bytes, Buffer.from(added)]));
      expect((await verifyAudit(file)).ok, JSON.stringify(added)).toBe(false);
    }
  });

  test('a log cut anywhere is evidence or a warning, never clean; what it still holds stays verified', async () => {
    const { file, bytes } = await closedLog();
    const header = bytes.indexOf(10) + 1;
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), async (size) => {
        await writeFile(file, bytes.subarray(0, size));
        const verdict = await verifyAudit(file);
        if (size < header) expect(verdict).toMatchObject({ ok: false, line: 1 });
        else expect(verdict).toMatchObject({ ok: true, warnings: [bytes[size - 1] === 10 ? 'unclosed' : 'torn'] });
      }),
      { numRuns: 200 },
    );
  });

  test('lines of another chain, or out of their sequence, are found although their hashes hold', async () => {
    const { file, bytes } = await closedLog();
    const header = bytes.subarray(0, bytes.indexOf(10) + 1);
    const { chain } = JSON.parse(header.toString()) as StoredRecord;
    const hash = Buffer.from(header.subarray(-46, -3).toString(), 'base64url');
    for (const open of [
      `${lineHead('another', 1, 1)}1`,
      `${lineHead(chain, 2, 1)}1`,
      `${lineHead(chain, 1, 2)}1`,
      `${lineHead(chain, 1, 1)}"now"`,
      `${lineHead(chain, 1, 1)}1,`,
      '{"v":2',
    ]) {
      await writeFile(file, Buffer.concat([header, chainLine(hash, open).line]));
      expect(await verifyAudit(file), open).toMatchObject({
        ok: false,
        seq: 1,
        reason: 'the line is not in its place in the chain',
      });
    }
  });
});

describe('what cannot be read', () => {
  test('throws the system error of a missing log', async () => {
    const { file } = await closedLog();
    await rm(file);
    await expect(verifyAudit(file)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
