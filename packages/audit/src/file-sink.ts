import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, mkdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { AuditRecord, AuditSink } from '@hmcp/core';
import { AuditFailure } from './audit-failure.js';
import { chainLine, lineHead } from './chain.js';
import { beginChain } from './chain-writer.js';
import { RefusalFold } from './fold.js';
import { type LogFile, openLogFile, syncFolderOf, writeDurably } from './log-file.js';
import { type SinkFacts, serializeRecord } from './record-line.js';
import type { Logger } from './redaction.js';
import { type ChainEnd, scanAudit } from './verify.js';
import { lockForWriting } from './writer-lock.js';

/** Records that may wait for the disk; the next one is refused. */
export const MAX_WAITING = 10_000;

/** A batch stops growing here, so that one slow write stays bounded. */
const BATCH_BYTES = 1 << 20;

/** Errors of a write after which the log can be cut back and used again. */
const NO_SPACE: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** Options of {@link openFileAudit}. */
export interface FileAuditOptions {
  /** Path of the log; made, with its folder, when there is none. */
  readonly file: string;
  /** Resource identifier of the process, `by` of the sink's own records. */
  readonly by: string;
  /** Wall clock in ms. @default Date.now */
  readonly now?: () => number;
  /** Told about poisoning and recovery. @default silent */
  readonly log?: Pick<Logger, 'warn' | 'error'> | undefined;
  /** How the log is opened, for tests of faults. @default the file system */
  readonly open?: (path: string) => Promise<LogFile>;
}

interface Waiting {
  /** `t` and members of the line; absent for a folded refusal, which waits only for those before it. */
  readonly body: string | undefined;
  readonly resolve: () => void;
  readonly reject: (reason: AuditFailure) => void;
}

/**
 * Opens (or begins) a hash-chained JSONL log and returns the sink that appends to it. One writer a log; the whole chain
 * is verified first, and the torn tail of an interrupted write is cut off, kept beside the log and recorded.
 *
 * `append` resolves after the `fdatasync` that made its record durable. Whatever arrives while one runs shares the next
 * (group commit, no timer). Like refusals fold under a flood ({@link RefusalFold}). No space: that batch is refused and
 * cut off again, later ones may succeed. A failed sync, or a log changed by somebody else, poisons the sink for good.
 * @throws {AuditFailure} `locked`, `broken`; system errors when the file cannot be made or read
 * @throws {TypeError} without a file
 * @see protocol section 8
 */
export async function openFileAudit(options: FileAuditOptions): Promise<AuditSink> {
  const { file, by, now = Date.now, log, open = openLogFile } = options;
  if (typeof file !== 'string' || file === '') throw new TypeError('"file" of an audit log is missing');
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const unlock = await lockForWriting(file);
  try {
    if (!(await exists(file))) await beginLog(file, by, now());
    const scan = await scanAudit(file);
    if (!scan.ok) {
      throw new AuditFailure('broken', `${file}, line ${scan.line} (offset ${scan.offset}, seq ${scan.seq}): ${scan.reason}`);
    }
    const handle = await open(file);
    const sink = new FileAudit({ handle, unlock, end: scan.end, by, now, log });
    try {
      if (scan.tail > 0) {
        await sink.recover(await keepTornTail(file, scan.end.size, now()));
        log?.warn({ event: 'audit.recover', bytes: scan.tail }, 'audit: the torn tail of an interrupted write was cut off');
      }
      await sink.append({ event: 'audit.start', outcome: 0, by });
    } catch (error) {
      await handle.close();
      throw error;
    }
    return sink;
  } catch (error) {
    await unlock();
    throw error;
  }
}

class FileAudit implements AuditSink {
  readonly #handle: LogFile;
  readonly #unlock: () => Promise<void>;
  readonly #by: string;
  readonly #now: () => number;
  readonly #log: FileAuditOptions['log'];
  readonly #fold = new RefusalFold();
  #end: ChainEnd;
  #waiting: Waiting[] = [];
  #draining: Promise<void> | undefined;
  #poison: AuditFailure | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: {
    handle: LogFile;
    unlock: () => Promise<void>;
    end: ChainEnd;
    by: string;
    now: () => number;
    log: FileAuditOptions['log'];
  }) {
    this.#handle = parts.handle;
    this.#unlock = parts.unlock;
    this.#end = parts.end;
    this.#by = parts.by;
    this.#now = parts.now;
    this.#log = parts.log;
  }

  async append(record: AuditRecord): Promise<void> {
    if (this.#closing !== undefined) throw new AuditFailure('closed', 'the audit log is closed');
    if (this.#poison !== undefined) throw this.#poison;
    if (this.#waiting.length >= MAX_WAITING) throw new AuditFailure('full', `${MAX_WAITING} audit records wait for the disk`);
    const t = this.#now();
    const body = bodyOf(record, t);
    for (const summary of this.#fold.due(t)) this.#enqueueSummary(summary, t);
    return this.#enqueue(this.#fold.admit(record, t) ? body : undefined);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Cuts everything after the verified end and records that. */
  async recover(cut: { bytes: number; sha256: string }): Promise<void> {
    await this.#cutBack();
    const recovered = {
      event: 'audit.recover',
      outcome: 0,
      reason: 'torn tail of an interrupted write',
      by: this.#by,
      ...cut,
    } as const;
    await this.#enqueue(bodyOf(recovered, this.#now()));
  }

  async #close(): Promise<void> {
    try {
      if (this.#poison !== undefined) return;
      const t = this.#now();
      for (const summary of this.#fold.drain()) this.#enqueueSummary(summary, t);
      await this.#enqueue(bodyOf({ event: 'audit.stop', outcome: 0, by: this.#by }, t));
    } finally {
      await this.#draining;
      await this.#handle.close();
      await this.#unlock();
    }
  }

  #enqueue(body: string | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ body, resolve, reject });
      this.#draining ??= this.#drain();
    });
  }

  #enqueueSummary(summary: AuditRecord & SinkFacts, t: number): void {
    this.#enqueue(bodyOf(summary, t)).catch(() => this.#fold.restore(summary));
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      // One turn of the event loop gathers what arrived together, or because of the batch just released.
      await new Promise((resolve) => setImmediate(resolve));
      const batch = this.#takeBatch();
      try {
        await this.#commit(batch);
        for (const { resolve } of batch) resolve();
      } catch (error) {
        const failure = error instanceof AuditFailure ? error : this.#poisonWith('the audit log failed', error);
        this.#fold.distrust();
        for (const { reject } of batch) reject(failure);
      }
    }
    this.#draining = undefined;
  }

  #takeBatch(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { body } of this.#waiting) {
      bytes += body?.length ?? 0;
      if (count > 0 && bytes > BATCH_BYTES) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  /** One write, one `fdatasync`. The chain moves on only when both succeeded. */
  async #commit(batch: readonly Waiting[]): Promise<void> {
    if (this.#poison !== undefined) throw this.#poison;
    const { chain } = this.#end;
    let { seq, hash } = this.#end;
    const number = this.#end.batch + 1;
    const lines: Buffer[] = [];
    for (const { body } of batch) {
      if (body === undefined) continue;
      const next = chainLine(hash, lineHead(chain, seq + 1, number) + body);
      lines.push(next.line);
      hash = next.hash;
      seq += 1;
    }
    if (lines.length === 0) return;
    const bytes = Buffer.concat(lines);
    const { size, named } = await this.#handle.inspect();
    if (size !== this.#end.size || !named) throw this.#poisonWith('the audit log was changed or removed by somebody else');
    await this.#write(bytes, size);
    try {
      await this.#handle.datasync();
    } catch (error) {
      // After a failed sync the kernel may have dropped the pages and a second sync may lie: never repeated.
      throw this.#poisonWith('an fdatasync of the audit log failed', error);
    }
    this.#end = { chain, seq, batch: number, hash, size: size + bytes.length };
  }

  async #write(bytes: Buffer, position: number): Promise<void> {
    let written: number;
    try {
      written = await this.#handle.write(bytes, position);
    } catch (error) {
      if (!NO_SPACE.has((error as { code?: unknown } | null)?.code))
        throw this.#poisonWith('a write to the audit log failed', error);
      written = -1;
    }
    if (written === bytes.length) return;
    await this.#cutBack();
    throw new AuditFailure('full', 'there is no space for the audit log');
  }

  async #cutBack(): Promise<void> {
    try {
      await this.#handle.truncate(this.#end.size);
      await this.#handle.datasync();
    } catch (error) {
      throw this.#poisonWith('the audit log could not be cut back to its last durable record', error);
    }
  }

  #poisonWith(message: string, cause?: unknown): AuditFailure {
    if (this.#poison === undefined) {
      this.#poison = new AuditFailure('poisoned', message, { cause });
      this.#log?.error({ event: 'audit.poisoned', err: cause }, 'audit: the log failed; nothing is released until a restart');
    }
    return this.#poison;
  }
}

function bodyOf(record: AuditRecord & SinkFacts, t: number): string {
  return `${t},${serializeRecord(record)}`;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The header is durable under another name before the log has its own, so no crash leaves a log without one. */
async function beginLog(file: string, by: string, t: number): Promise<void> {
  const { line } = beginChain(by, t);
  await rm(`${file}.new`, { force: true });
  await writeDurably(`${file}.new`, line);
  await rename(`${file}.new`, file);
  await syncFolderOf(file);
}

/** Keeps the bytes about to be cut in `<file>.torn-<t>`. */
async function keepTornTail(file: string, start: number, t: number): Promise<{ bytes: number; sha256: string }> {
  const torn = Buffer.concat(await createReadStream(file, { start }).toArray());
  await writeDurably(`${file}.torn-${t}`, torn);
  await syncFolderOf(file);
  return { bytes: torn.length, sha256: createHash('sha256').update(torn).digest('base64url') };
}
