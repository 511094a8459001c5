import { createHash } from 'node:crypto';

/** Version of the line format, `v` of every record. */
export const FORMAT_VERSION = 1;

// Tags keep a header from being taken for a record; 0x00 and 0x01 are left to RFC 9162 Merkle hashing.
const HEADER_TAG = Uint8Array.of(3);
const RECORD_TAG = Uint8Array.of(2);

// `,"h":"` + 43 characters of base64url + `"}\n`: of fixed size, so a verifier slices and never has to parse first.
const SUFFIX_BYTES = 52;

/** A line of the log (with its line feed) and the hash it ends with. */
export interface ChainedLine {
  readonly line: Buffer;
  readonly hash: Buffer;
}

/**
 * What a line of this place in the chain begins with; `t` and the record's members follow.
 * @param seq counts lines from 0, the header. @param batch numbers the `fdatasync` that made it durable.
 */
export function lineHead(chain: string, seq: number, batch: number): string {
  return `{"v":${FORMAT_VERSION},"chain":"${chain}","seq":${seq},"b":${batch},"t":`;
}

/**
 * Closes a line over its exact bytes: `h = SHA-256(0x02 || previous h || bytes)`, and `SHA-256(0x03 || bytes)` for the
 * header, which has no predecessor. `open` is the JSON object without its closing brace.
 */
export function chainLine(previous: Uint8Array | undefined, open: string): ChainedLine {
  const bytes = Buffer.from(open, 'utf8');
  const hash = chainHash(previous, bytes);
  return { line: Buffer.concat([bytes, suffix(hash)]), hash };
}

/**
 * Checks a line (with its line feed) against its predecessor's hash, byte by byte, before anything parses it.
 * @returns the hash of the line, or `undefined` when it is not the line that was written here
 */
export function checkLine(previous: Uint8Array | undefined, line: Buffer): Buffer | undefined {
  if (line.length <= SUFFIX_BYTES) return undefined;
  const split = line.length - SUFFIX_BYTES;
  const hash = chainHash(previous, line.subarray(0, split));
  return line.subarray(split).equals(suffix(hash)) ? hash : undefined;
}

/**
 * True when `rest`, which follows the last good line and holds no line feed, can be what an interrupted write left: a
 * beginning of the next line of this chain, then at most zero bytes (blocks that were allocated and never written).
 * A whole line with something else in the place of its line feed is no such thing.
 */
export function isTornTail(rest: Buffer, head: string): boolean {
  let end = rest.length;
  while (end > 0 && rest[end - 1] === 0) end -= 1;
  const text = rest.subarray(0, end).toString('latin1');
  if (text.includes('\0') || text.includes('\n')) return false;
  if (end < rest.length && /,"h":"[A-Za-z0-9_-]{43}"\}$/.test(text)) return false;
  if (/,"h":"[A-Za-z0-9_-]{43}"\}./s.test(text)) return false;
  // The batch number is the one part of the head that a reader cannot know.
  const known = head.slice(0, head.indexOf('"b":') + 4);
  return text.length <= known.length ? known.startsWith(text) : text.startsWith(known);
}

function chainHash(previous: Uint8Array | undefined, bytes: Uint8Array): Buffer {
  const hash = createHash('sha256');
  if (previous === undefined) hash.update(HEADER_TAG);
  else hash.update(RECORD_TAG).update(previous);
  return hash.update(bytes).digest();
}

function suffix(hash: Buffer): Buffer {
  return Buffer.from(`,"h":"${hash.toString('base64url')}"}\n`, 'latin1');
}
