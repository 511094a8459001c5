const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Random bytes; a parameter so that a test can fix them. */
export type RandomBytes = (length: number) => Uint8Array;

/** Cryptographically strong random bytes of this runtime. */
export const randomBytes: RandomBytes = (length) => crypto.getRandomValues(new Uint8Array(length));

/**
 * W3C `traceparent` of one outgoing call: the trace of `parent` with a new span, or a new trace when there is none or it
 * is malformed. Never a `tracestate` or `baggage`: they carry whatever an ancestor put in.
 * @see https://www.w3.org/TR/trace-context/
 */
export function nextTraceparent(parent: string | undefined, random: RandomBytes = randomBytes): string {
  const known = parent !== undefined && TRACEPARENT.test(parent);
  const trace = known ? parent.slice(3, 35) : hex(random(16));
  const flags = known ? parent.slice(53) : '01';
  return `00-${trace}-${hex(random(8))}-${flags}`;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
