import {
  buildRecords,
  type NamedBundle,
  type PatientSummary,
  patientSummaries,
  type Records,
  shippedBundles,
} from '@hmcp/clinic';

/** A synthetic person whose chart comes with this package. */
export interface TestPerson {
  /** FHIR id of the Patient. */
  readonly id: string;
  readonly name: string;
  /** `YYYY-MM-DD`. */
  readonly birthDate: string;
  readonly recordNumberLast4: string;
}

const ALL = patientSummaries(recordsOf(shippedBundles()));

function recordsOf(bundles: Iterable<NamedBundle>): Records {
  return buildRecords(bundles, { kind: 'shipped' });
}

function named(given: string): TestPerson {
  const found = ALL.filter(({ name }) => name.split(' ')[0] === given);
  const [one] = found;
  if (one === undefined || found.length > 1) throw new TypeError('no one shipped person has this name');
  return personOf(one);
}

function personOf({ id, name, birthDate, identifierLast4 }: PatientSummary): TestPerson {
  return { id, name, birthDate, recordNumberLast4: identifierLast4 };
}

/**
 * The people this package ships, by given name. All are invented, and no name, number or value is like another's. Adalinde and
 * Beatrisa share a family name and a birth month; Corvindo takes no medication; Dorothix has an empty chart.
 */
export const people = {
  adalinde: named('Adalinde'),
  beatrisa: named('Beatrisa'),
  corvindo: named('Corvindo'),
  dorothix: named('Dorothix'),
} as const satisfies Record<string, TestPerson>;

/** The charts of some people, with the staff they refer to. @throws {TypeError} for somebody who is not shipped */
export function chartsOf(wanted: readonly TestPerson[]): Records {
  const ids = new Set(wanted.map(({ id }) => id));
  for (const { id } of wanted)
    if (!ALL.some((one) => one.id === id)) throw new TypeError('"people" must be people that this package ships');
  return recordsOf(
    shippedBundles().filter((bundle) => {
      const patient = patientIn(bundle.bundle);
      return patient === undefined || ids.has(patient);
    }),
  );
}

/** Id of the Patient in a shipped Bundle; the staff's holds none. */
function patientIn(bundle: unknown): string | undefined {
  const { entry = [] } = bundle as { entry?: readonly { resource?: { resourceType?: string; id?: string } }[] };
  return entry.find(({ resource }) => resource?.resourceType === 'Patient')?.resource?.id;
}
