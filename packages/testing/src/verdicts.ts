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

/** What is known of a pipeline that must stay on its patient. */
export interface StayExpectation {
  /**
   * Tools whose answers hold no value of a patient, such as a count or `{ signed: true }`, or were about somebody who has no rows there,
   * as the trace has them: `agent tool`. Values of others are still found in their answers; nothing else is. @default none
   */
  readonly without?: readonly string[] | undefined;
}

/**
 * Judges a trace: whatever strayed is named, with everything that happened. A trace in which nothing could have been seen to stray
 * proves neither that it stayed nor (`isNot`) that it strayed.
 */
export function staysOnPatient(received: unknown, { without = [] }: StayExpectation = {}, isNot = false): Verdict {
  const trace = traceOf(received);
  const strays = trace.strays();
  if (strays.length > 0) {
    const named = strays.map((stray) => `- ${stray}`).join('\n');
    return { pass: false, message: () => `expected to stay on the patient, but\n${named}\n\n${trace}` };
  }
  if (trace.hops.length === 0)
    return { pass: isNot, message: () => 'expected to stay on the patient, but nothing was asked at all' };
  const doubt = trace.unproven() ?? unasked(trace, without) ?? vacuous(trace, without);
  if (doubt !== undefined) return { pass: isNot, message: () => `expected to stay on the patient, but ${doubt}\n\n${trace}` };
  return { pass: true, message: () => `expected something to stray, but nothing did\n\n${trace}` };
}

/** A tool named as one without values that nobody asked: most likely it has another name. */
function unasked(trace: Trace, without: readonly string[]): string | undefined {
  const asked = new Set(trace.hops.map(({ to, operation }) => `${to} ${operation}`));
  const [one] = without.filter((tool) => !asked.has(tool));
  return one === undefined ? undefined : `"${one}", said to be without values, was not called: tools are named \`agent tool\``;
}

function vacuous(trace: Trace, without: readonly string[]): string | undefined {
  const all = trace.vacuities().filter(({ tool }) => !without.includes(tool));
  if (all.length === 0) return undefined;
  const told = all.map(({ tool, person }) => `- ${tool} about ${person.name}`).join('\n');
  return [
    'this test is vacuous: nobody could have noticed. No answer held a value that only its patient has:',
    told,
    'Values are ids, names, numbers and measured values of the charts, and what `withValues` declares of rows of your own. What the call itself held may be an echo, and does not count.',
    'First declare the values of your own rows; then give rows to the doubles (`create(env, { people })`), or test with `interleave: false`: a double without rows is answered with nothing, and what remembers that answers everybody so.',
    "Only of a tool whose answers say nothing of anybody, a count or `{ signed: true }`, or about somebody who has no such rows, say so: toStayOnPatient({ without: ['agent tool'] }). Values of others are still found in its answers; nothing else is.",
  ].join('\n');
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
  if (typeof trace?.strays !== 'function' || typeof trace.vacuities !== 'function' || trace.audit === undefined)
    throw new TypeError('this matcher takes the trace of a testbed: expect(bed.trace)');
  return trace as Trace;
}
