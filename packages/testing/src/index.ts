export type { TestClient } from './exchange-rules.js';
export type { Fault } from './fault.js';
export type { Held, HoldAt } from './held.js';
export { people, personFrom, type TestPerson } from './people.js';
export type { TestClock } from './test-clock.js';
export { type TestIssuer, testIssuer } from './test-issuer.js';
export {
  createTestbed,
  type Population,
  type ServedAgent,
  type Testbed,
  type TestbedAgent,
  type TestbedOptions,
} from './testbed.js';
export type { Trace, TraceHop } from './trace.js';
export type { AuditedRecord, RefusalExpectation } from './verdicts.js';
