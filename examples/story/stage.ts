import type { World, WorldFacts } from '@hmcp/cli/world';
import type { PatientSummary, Records } from '@hmcp/clinic';
import type { ByteCounter } from './byte-counter.js';
import type { Expectations } from './expectations.js';
import type { ManagerTrail } from './manager-trail.js';
import type { Teller } from './teller.js';
import type { Trail } from './trail.js';
import type { Wire } from './wire.js';

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
  readonly managerTrail: ManagerTrail;
  readonly wire: Wire;
  readonly world: World;
  /** Lets another counter see what passes from now on. */
  watch(counter: ByteCounter): void;
}

/** Where a party of the world is reached. */
export function urlOf({ facts }: Pick<Stage, 'facts'>, name: string): string {
  const party = facts.parties.find((one) => one.name === name);
  if (party === undefined) throw new TypeError(`the world has no party "${name}"`);
  return party.url;
}
