import type { WorldFacts } from '@hmcp/cli/world';
import type { PatientSummary, Records } from '@hmcp/clinic';
import type { ByteCounter } from './byte-counter.js';
import type { Expectations } from './expectations.js';
import type { Teller } from './teller.js';
import type { Trail } from './trail.js';

/** What every scene works with. `a` is the patient the person is on; `b` the other one. */
export interface Stage {
  readonly teller: Teller;
  readonly expectations: Expectations;
  readonly facts: WorldFacts;
  readonly records: Records;
  readonly a: PatientSummary;
  readonly b: PatientSummary;
  readonly counter: ByteCounter;
  readonly trail: Trail;
}

/** Where a party of the world is reached. */
export function urlOf({ facts }: Pick<Stage, 'facts'>, name: string): string {
  const party = facts.parties.find((one) => one.name === name);
  if (party === undefined) throw new TypeError(`the world has no party "${name}"`);
  return party.url;
}
