import { createReadStream } from 'node:fs';
import { checkLine, FORMAT_VERSION, isTornTail, lineHead } from './chain.js';
import type { StoredRecord } from './record-line.js';
import { hasWriter } from './writer-lock.js';

/** More than a line or an interrupted batch can be: a sink's batches end near 1 MiB of text. */
const MAX_REST_BYTES = 8 << 20;

/**
 * Something an operator should know that is no sign of tampering.
 * - `torn`: the last write was interrupted; its records were never acknowledged, and the next start cuts them off
 * - `unclosed`: the log does not end with `audit.stop` and nobody writes it: its process was killed, or whole records
 *   were removed from the end, which a chain without a witness cannot tell apart
 */
export type AuditWarning = 'torn' | 'unclosed';

/** The log is, up to `size`, exactly what its writer wrote. */
export interface IntactAudit {
  readonly ok: true;
  readonly file: string;
  readonly chain: string;
  /** Records after the header. */
  readonly records: number;
  /** Times the log was opened, and how many of those runs ended without `audit.stop` (not counting a live one). */
  readonly runs: number;
  readonly interrupted: number;
  /** Wall time in ms of the first and last record. */
  readonly first?: number | undefined;
  readonly last?: number | undefined;
  /** Bytes verified, bytes after them (a record being written, or a torn one), and the last hash. */
  readonly size: number;
  readonly tail: number;
  readonly head: string;
  /** A live process holds the log. */
  readonly live: boolean;
  readonly warnings: readonly AuditWarning[];
}

/** Evidence of tampering: from this line on, the log is not what its writer wrote. */
export interface BrokenAudit {
  readonly ok: false;
  readonly file: string;
  /** Line counted from 1, its offset in bytes, and the sequence number that was expected there. */
  readonly line: number;
  readonly offset: number;
  readonly seq: number;
  /** A fixed sentence. */
  readonly reason: string;
  /** Records before it that are intact. */
  readonly records: number;
}

/** Verdict of {@link verifyAudit}. */
export type AuditVerification = IntactAudit | BrokenAudit;

/** Where the chain of an intact log goes on. */
export interface ChainEnd {
  readonly chain: string;
  readonly seq: number;
  readonly batch: number;
  readonly hash: Buffer;
  readonly size: number;
}

/** What {@link scanAudit} found; an intact log also says where its chain goes on and how it was used. */
export type AuditScan =
  | BrokenAudit
  | {
      readonly ok: true;
      readonly end: ChainEnd;
      readonly tail: number;
      readonly records: number;
      readonly runs: number;
      readonly stops: number;
      readonly first?: number | undefined;
      readonly last?: number | undefined;
      readonly lastEvent?: string | undefined;
    };

/**
 * Verifies a log from its first byte to its last, as a stream: every line's hash over its exact bytes, then its place in
 * the chain. Reads only. A log that is being written may be verified; the record just being written is left out.
 * The chain alone cannot show the removal of whole records from the end; see {@link AuditWarning}.
 * @param onRecord is given each record once it is verified.
 * @throws system errors (`ENOENT`, `EACCES`, `EISDIR`) when the log cannot be read
 * @see protocol section 8
 */
export async function verifyAudit(
  file: string,
  { onRecord }: { readonly onRecord?: (record: StoredRecord) => void } = {},
): Promise<AuditVerification> {
  // Asked before and after: a writer that came or went in between makes the end of the log its own affair.
  const liveBefore = await hasWriter(file);
  const scan = await scanAudit(file, onRecord);
  const live = (await hasWriter(file)) || liveBefore;
  return verdictOf(file, scan, live);
}

/**
 * {@link verifyAudit} for a chain that is kept elsewhere than in a file of its own: `lines` gives its lines, from the header on,
 * each with its line feed. There is no torn tail.
 * @param file what the verdict calls it; the writer's lock `<file>.lock` tells whether it is in use
 * @see protocol section 8
 */
export async function verifyAuditLines(
  file: string,
  lines: Iterable<Buffer> | AsyncIterable<Buffer>,
  { onRecord }: { readonly onRecord?: (record: StoredRecord) => void } = {},
): Promise<AuditVerification> {
  const liveBefore = await hasWriter(file);
  const walk = new ChainWalk(file, onRecord);
  for await (const line of lines) {
    const broken = walk.read(line);
    if (broken !== undefined) return broken;
  }
  const live = (await hasWriter(file)) || liveBefore;
  return verdictOf(file, walk.finish(0), live);
}

function verdictOf(file: string, scan: AuditScan, live: boolean): AuditVerification {
  if (!scan.ok) return scan;
  const { end, tail, records, runs, stops, first, last, lastEvent } = scan;
  const closed = lastEvent === 'audit.stop' && tail === 0;
  const warnings: AuditWarning[] = [];
  if (!live && tail > 0) warnings.push('torn');
  else if (!live && !closed) warnings.push('unclosed');
  const interrupted = Math.max(0, runs - stops - (live && !closed ? 1 : 0));
  const { chain, size } = end;
  const head = end.hash.toString('base64url');
  return { ok: true, file, chain, records, runs, interrupted, first, last, size, tail, head, live, warnings };
}

/** The walk behind {@link verifyAudit} and behind the recovery of {@link openFileAudit}. */
export async function scanAudit(file: string, onRecord?: (record: StoredRecord) => void): Promise<AuditScan> {
  const walk = new ChainWalk(file, onRecord);
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    const bytes: Buffer = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let feed = bytes.indexOf(10); feed >= 0; feed = bytes.indexOf(10, start)) {
      const broken = walk.read(bytes.subarray(start, feed + 1));
      if (broken !== undefined) return broken;
      start = feed + 1;
    }
    rest = bytes.subarray(start);
    if (rest.length > MAX_REST_BYTES) return walk.broken('the line is too long');
  }
  if (rest.length > 0 && walk.end !== undefined && !isTornTail(rest, nextHead(walk.end)))
    return walk.broken('the last line is neither whole nor the beginning of one');
  return walk.finish(rest.length);
}

/** Follows a chain line by line. */
class ChainWalk {
  readonly #file: string;
  readonly #onRecord: ((record: StoredRecord) => void) | undefined;
  #end: ChainEnd | undefined;
  #lines = 0;
  #runs = 0;
  #stops = 0;
  #first: number | undefined;
  #last: number | undefined;
  #lastEvent: string | undefined;

  constructor(file: string, onRecord: ((record: StoredRecord) => void) | undefined) {
    this.#file = file;
    this.#onRecord = onRecord;
  }

  get end(): ChainEnd | undefined {
    return this.#end;
  }

  /** Takes the next line, with its line feed; a verdict only when it is not what was written here. */
  read(line: Buffer): BrokenAudit | undefined {
    const hash = checkLine(this.#end?.hash, line);
    if (hash === undefined) {
      return this.broken(
        this.#lines === 0 ? 'this is not the header of an audit log, or it was changed' : 'the line is not the one written here',
      );
    }
    const record = readPlace(line, this.#end);
    if (record === undefined) return this.broken('the line is not in its place in the chain');
    const size = (this.#end?.size ?? 0) + line.length;
    this.#end = { chain: record.chain, seq: record.seq, batch: record.b, hash, size };
    this.#lines += 1;
    if (record.seq === 0) return undefined;
    this.#first ??= record.t;
    this.#last = record.t;
    this.#lastEvent = record.event;
    if (record.event === 'audit.start') this.#runs += 1;
    if (record.event === 'audit.stop') this.#stops += 1;
    this.#onRecord?.(record);
    return undefined;
  }

  /** The verdict at the end. @param tail bytes after the last line */
  finish(tail: number): AuditScan {
    const end = this.#end;
    if (end === undefined) return this.broken('the log has no header; a new log is never left without one');
    const [first, last, lastEvent] = [this.#first, this.#last, this.#lastEvent];
    return { ok: true, end, tail, records: this.#lines - 1, runs: this.#runs, stops: this.#stops, first, last, lastEvent };
  }

  broken(reason: string): BrokenAudit {
    const at = { line: this.#lines + 1, offset: this.#end?.size ?? 0, seq: this.#lines };
    return { ok: false, file: this.#file, ...at, reason, records: Math.max(0, this.#lines - 1) };
  }
}

function nextHead({ chain, seq, batch }: ChainEnd): string {
  return lineHead(chain, seq + 1, batch);
}

/** Parses a line whose hash holds and checks version, chain, sequence and batch against the line before. */
function readPlace(line: Buffer, previous: ChainEnd | undefined): StoredRecord | undefined {
  let record: StoredRecord;
  try {
    record = JSON.parse(line.toString('utf8')) as StoredRecord;
  } catch {
    return undefined;
  }
  const { v, chain, seq, b, t } = record;
  if (v !== FORMAT_VERSION || typeof chain !== 'string' || !Number.isSafeInteger(t)) return undefined;
  if (previous === undefined) return seq === 0 && b === 0 ? record : undefined;
  const next = b === previous.batch || b === previous.batch + 1;
  return chain === previous.chain && seq === previous.seq + 1 && next ? record : undefined;
}
