import { expect } from 'vitest';
import {
  type AuditedRecord,
  hasAudited,
  hasRefused,
  type RefusalExpectation,
  type StayExpectation,
  staysOnPatient,
} from './verdicts.js';

/** What the matchers of this package are called. Importing this module registers them. */
export interface HmcpMatchers<R = unknown> {
  /** The promise rejects with (or the value is) this refusal: its JSON-RPC code, and its check where given. Await it. */
  toHaveRefused(code: number, expected?: RefusalExpectation): Promise<R>;
  /**
   * The trace of a testbed: nothing of one person got into work for another, on any hop, up to the screen. Fails as vacuous where an
   * agent answered about somebody and never with a value of theirs.
   */
  toStayOnPatient(expected?: StayExpectation): R;
  /** The trace of a testbed: somebody wrote an audit record with these members. `by` may be a party's name. */
  toHaveAudited(record: AuditedRecord): R;
}

declare module 'vitest' {
  interface Matchers<T> extends HmcpMatchers<T> {}
}

expect.extend({
  toHaveRefused: (received: unknown, code: number, expected?: RefusalExpectation) => hasRefused(received, code, expected),
  toStayOnPatient(received: unknown, expected?: StayExpectation) {
    return staysOnPatient(received, expected, this.isNot);
  },
  toHaveAudited: (received: unknown, record: AuditedRecord) => hasAudited(received, record),
});
