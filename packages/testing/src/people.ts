import {
  buildRecords,
  isPickable,
  type NamedBundle,
  type PatientSummary,
  patientSummaries,
  type Records,
  RecordsError,
  shippedBundles,
  staffBundle,
} from '@hmcp/clinic';

/** Shorter values may stand anywhere by chance. */
export const SHORTEST = 5;

/** A person with a chart: one that comes with this package, or one made by {@link personFrom}. Synthetic, always. */
export interface TestPerson {
  /** FHIR id of the Patient. */
  readonly id: string;
  readonly name: string;
  /** `YYYY-MM-DD`. */
  readonly birthDate: string;
  readonly recordNumberLast4: string;
  /** What tells them from others beside their chart, of rows an agent has of its own; empty unless declared. @see {@link withValues} */
  readonly values: readonly string[];
}

/** Whose chart is whose. Never handed out as it is: what builds records takes a Bundle over and changes it. */
const charts = new WeakMap<TestPerson, NamedBundle>();

/** Remembers the chart of the one person a Bundle is about. */
function personIn(chart: NamedBundle): TestPerson {
  const records = recordsOf([chart]);
  const [one, another] = patientSummaries(records);
  if (one === undefined || another !== undefined) throw new TypeError('the Bundle must hold exactly one Patient');
  if (records.patientOf({ resourceType: 'Patient', id: one.id }) === undefined)
    throw new TypeError('the Patient of the Bundle must speak of nobody else: it is linked to another');
  const person = personOf(one);
  charts.set(person, chart);
  return person;
}

const SHIPPED = shippedBundles()
  .filter(({ name }) => name !== staffBundle().name)
  .map(personIn);

function named(given: string): TestPerson {
  const found = SHIPPED.filter(({ name }) => name.split(' ')[0] === given);
  const [one] = found;
  if (one === undefined || found.length > 1) throw new TypeError('no one shipped person has this name');
  return one;
}

function personOf({ id, name, birthDate, identifierLast4 }: PatientSummary): TestPerson {
  return { id, name, birthDate, recordNumberLast4: identifierLast4, values: [] };
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

/**
 * Makes a person of a testbed from a chart of your own: a FHIR R4 Bundle (transaction, batch, collection or searchset) as parsed
 * JSON, with one Patient who has a name, a whole date of birth and a record number. The Bundle is copied. For synthetic people
 * only: traces print names and values.
 * @throws {TypeError} for anything else; the message names entries by number, and nothing they hold
 */
export function personFrom(bundle: unknown): TestPerson {
  let copy: unknown;
  try {
    copy = structuredClone(bundle);
  } catch {
    throw new TypeError('the Bundle must be plain JSON');
  }
  const person = personIn({ name: 'the Bundle', bundle: copy });
  const { birthDate, recordNumberLast4 } = person;
  if (!isPickable({ ...person, gender: '', identifierLast4: recordNumberLast4 }))
    throw new TypeError('the Patient of the Bundle must have a name and a date of birth');
  if (!/^\d{4}-\d{2}-\d{2}$/.test(birthDate))
    throw new TypeError('the Patient of the Bundle must have a whole date of birth, YYYY-MM-DD: a switch asks for it');
  if (recordNumberLast4.length !== 4)
    throw new TypeError('the Patient of the Bundle must have an identifier of at least four characters: a switch asks for it');
  return person;
}

/**
 * The same person, with values that stand in no chart and tell them from others: words and codes of rows that an agent of yours has
 * of its own. They are looked for as the chart's are. The double of the person has other ones, at the same places.
 * @param values each of at least five characters, as it stands in answers; a testbed refuses one that is somebody else's, too
 * @throws {TypeError} for somebody without a chart, and for anything that is not such a list; the message names values by number
 */
export function withValues(person: TestPerson, values: readonly string[]): TestPerson {
  const chart = charts.get(person);
  if (chart === undefined) throw new TypeError('values are declared of people that this package ships, or made by personFrom');
  if (!Array.isArray(values) || values.length === 0) throw new TypeError('"values" must be a list of at least one text');
  for (const [at, value] of values.entries()) {
    const usable = typeof value === 'string' && value.length >= SHORTEST && value.trim() === value;
    if (!usable)
      throw new TypeError(`value ${at + 1} must be a text of at least ${SHORTEST} characters, without space around it`);
  }
  const declared = { ...person, values: [...values] };
  charts.set(declared, chart);
  return declared;
}

/**
 * The charts of some people, with the staff the shipped ones refer to, and of whoever is added.
 * @throws {TypeError} for somebody without a chart, or two charts that contradict each other
 */
export function chartsOf(wanted: readonly TestPerson[], added: readonly NamedBundle[] = []): Records {
  const own = wanted.map((person, at) => {
    const chart = charts.get(person);
    if (chart === undefined) throw new TypeError('"people" must be people that this package ships, or made by personFrom');
    return { name: `chart ${at + 1}`, bundle: chart.bundle };
  });
  if (new Set(wanted.map(({ id }) => id)).size < wanted.length) throw new TypeError('two of the "people" have one id');
  return recordsOf([staffBundle(), ...own, ...added]);
}

function recordsOf(bundles: readonly NamedBundle[]): Records {
  try {
    return buildRecords(structuredClone(bundles), { kind: 'shipped' });
  } catch (error) {
    if (error instanceof RecordsError) throw new TypeError(error.message);
    throw error;
  }
}
