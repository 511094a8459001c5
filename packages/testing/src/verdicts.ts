import { isDeepStrictEqual } from 'node:util';
import { type AuditRecord, type Check, explain, HmcpError, isHmcpErrorCode, meaningOf } from '@hmcp/core';
import type { Trace } from './trace.js';

/** What a matcher says of what it was given. */
export interface Verdict {
  readonly pass: boolean;
  readonly message: () => string;
}

/** What else a refusal must be. */
export interface RefusalExpectation {
  readonly check?: Check | undefined;
}

/** Members that one audit record must have; `by` may be the name of a party. */
export type AuditedRecord = Partial<AuditRecord>;

/** Judges how work ended: only a refusal of ours with this code (and check) will do. */
export async function hasRefused(received: unknown, code: number, { check }: RefusalExpectation = {}): Promise<Verdict> {
  const wanted = `a refusal ${named(code, check)}`;
  let error: unknown = received;
  if (received instanceof Promise) {
    try {
      await received;
      return { pass: false, message: () => `expected ${wanted}, but the work was done` };
    } catch (thrown) {
      error = thrown;
    }
  }
  const refusal = HmcpError.from(error);
  const pass = refusal?.code === code && (check === undefined || refusal.check === check);
  return { pass, message: () => `expected ${pass ? 'no' : ''} ${wanted}, got: ${explain(error)}`.replace('  ', ' ') };
}

/** Judges a trace: whatever strayed is named, with everything that happened. */
export function staysOnPatient(received: unknown): Verdict {
  const trace = traceOf(received);
  const strays = trace.strays();
  const unproven = trace.unproven();
  const pass = trace.hops.length > 0 && strays.length === 0 && unproven === undefined;
  return {
    pass,
    message: () => {
      if (pass) return `expected something to stray, but nothing did\n\n${trace}`;
      if (trace.hops.length === 0) return 'expected to stay on the patient, but nothing was asked at all';
      if (strays.length === 0 && unproven !== undefined) return `expected to stay on the patient, but ${unproven}\n\n${trace}`;
      return `expected to stay on the patient, but\n${strays.map((stray) => `- ${stray}`).join('\n')}\n\n${trace}`;
    },
  };
}

/** Judges the audit of a trace: one record has every member given. */
export function hasAudited(received: unknown, wanted: AuditedRecord): Verdict {
  const trace = traceOf(received);
  const members = Object.entries(wanted);
  if (members.length === 0) throw new TypeError('toHaveAudited must be given at least one member of a record');
  const holds = (record: AuditRecord): boolean =>
    members.every(([name, value]) => {
      const found = record[name as keyof AuditRecord];
      return isDeepStrictEqual(found, value) || (name === 'by' && trace.nameOf(record.by) === value);
    });
  const pass = trace.audit.some(holds);
  const written = trace.audit.map(
    ({ by, event, code, check }) =>
      `- ${trace.nameOf(by)} ${event}${code === undefined ? '' : ` ${isHmcpErrorCode(code) ? named(code, check) : code}`}`,
  );
  return {
    pass,
    message: () =>
      `expected ${pass ? 'no' : 'an'} audit record with ${JSON.stringify(wanted)}; there are\n${written.join('\n') || '(none)'}`,
  };
}

/** A code with its check and its meaning, in the words of `explain`. */
function named(code: number, check?: Check): string {
  const of = check === undefined ? '' : ` of check "${check}"`;
  if (!isHmcpErrorCode(code)) return `${code}${of}, which is no code of a refusal`;
  const { name, says } = meaningOf(code, check);
  return `${code} ${name}${of} (${says})`;
}

function traceOf(received: unknown): Trace {
  const trace = received as Partial<Trace> | null | undefined;
  if (typeof trace?.strays !== 'function' || typeof trace.unproven !== 'function' || trace.audit === undefined)
    throw new TypeError('this matcher takes the trace of a testbed: expect(bed.trace)');
  return trace as Trace;
}
