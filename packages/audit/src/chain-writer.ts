import { randomBytes } from 'node:crypto';
import type { AuditRecord } from '@hmcp/core';
import { chainLine, lineHead } from './chain.js';
import { type SinkFacts, serializeRecord } from './record-line.js';

/** Where a chain goes on: the place and hash of its last line. */
export interface ChainPosition {
  readonly chain: string;
  readonly seq: number;
  readonly batch: number;
  readonly hash: Buffer;
}

/** A record and when it was decided, wall time in ms. */
export interface TimedRecord {
  readonly record: AuditRecord & SinkFacts;
  readonly t: number;
}

/** The header line (with its line feed) of a new chain, and the position after it. @param by resource identifier of the writer */
export function beginChain(by: string, t: number): { readonly line: Buffer; readonly position: ChainPosition } {
  const chain = randomBytes(16).toString('base64url');
  const members = `"log":"hmcp-audit","hash":"SHA-256","by":${JSON.stringify(by)}`;
  const { line, hash } = chainLine(undefined, `${lineHead(chain, 0, 0)}${t},${members}`);
  return { line, position: { chain, seq: 0, batch: 0, hash } };
}

/**
 * The lines (each with its line feed) that records made durable together add to a chain: the very bytes a JSONL log has, for
 * stores that keep them elsewhere, such as in the transaction of the change they record. The caller moves on to `position` only
 * when the lines are durable.
 * @throws {TypeError} when a record is ill-typed
 * @see protocol section 8
 */
export function continueChain(
  from: ChainPosition,
  records: readonly TimedRecord[],
): { readonly lines: readonly Buffer[]; readonly position: ChainPosition } {
  let { seq, hash } = from;
  const batch = from.batch + 1;
  const lines = records.map(({ record, t }) => {
    seq += 1;
    const next = chainLine(hash, `${lineHead(from.chain, seq, batch)}${t},${serializeRecord(record)}`);
    hash = next.hash;
    return next.line;
  });
  return lines.length === 0 ? { lines, position: from } : { lines, position: { chain: from.chain, seq, batch, hash } };
}
