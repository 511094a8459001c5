import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFileAudit } from '@hmcp/audit';
import type { AuditRecord } from '@hmcp/core';
import { onTestFinished } from 'vitest';
import { hmcp } from '../src/index.js';

/** 2026-02-03T04:05:06Z */
export const NOW = 1_770_091_506_000;

/** Runs `hmcp` as a person would and returns what they would see. */
export async function type(argv: string[], { stdin = '', env = {} }: { stdin?: string; env?: Record<string, string> } = {}) {
  let [stdout, stderr] = ['', ''];
  const code = await hmcp(argv, {
    stdin: (async function* () {
      yield stdin;
    })(),
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
    env,
    now: () => NOW,
  });
  return { code, stdout, stderr };
}

export async function freshFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hmcp-cli-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes the log of one party into a state folder: records with the ms after {@link NOW} at which they were decided. */
export async function writeLog(
  state: string,
  party: string,
  records: readonly [number, Partial<AuditRecord>][],
): Promise<string> {
  const file = join(state, 'audit', `${party}.jsonl`);
  const by = `http://127.0.0.1:7000/${party}`;
  let t = NOW;
  const sink = await openFileAudit({ file, by, now: () => t });
  for (const [after, record] of records) {
    t = NOW + after;
    await sink.append({ event: 'request.served', outcome: 0, by, ...record });
  }
  await sink.close();
  return file;
}
