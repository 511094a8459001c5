import type { NamedBundle, Records, Resource } from '@hmcp/clinic';
import { bounded, TELLING, valuesOf } from './canaries.js';
import { SHORTEST, type TestPerson } from './people.js';

/**
 * Somebody made up beside a person: a chart of the same resources, codes and dates, in which every value that tells people apart
 * is another. What is asked about the person can be asked about the double, and whatever of the double turns up is a canary.
 */
export interface Double {
  readonly person: TestPerson;
  readonly chart: NamedBundle;
  /** The same JSON value with the double's ids, names and numbers in place of the person's. */
  rewrite(value: unknown): unknown;
}

/** The double of each person, in their order. */
export function doublesOf(people: readonly TestPerson[], records: Records): Double[] {
  const taken = new Set(people.flatMap(({ id, values }) => [...valuesOf(records.ofPatient(id)), ...values]));
  return people.map((person) => doubleOf(person, records.ofPatient(person.id), taken));
}

/**
 * Makes the double of a person.
 * @param chart the person's resources, their references relative
 * @param taken telling values that are somebody's already; the double's are added
 */
export function doubleOf(person: TestPerson, chart: readonly Resource[], taken: Set<string>): Double {
  const texts = new Map<string, string>();
  const numbers = new Map<number, number>();
  for (const value of person.values)
    texts.set(
      value,
      free(taken, (turn) => otherText(value, turn)),
    );
  visit(chart, (element, value) => {
    if (typeof value === 'number') {
      if (!numbers.has(value))
        numbers.set(
          value,
          free(taken, (turn) => otherNumber(value, turn)),
        );
    } else if (!texts.has(value)) {
      const other = element === 'birthDate' ? otherDate : otherText;
      texts.set(
        value,
        free(taken, (turn) => other(value, turn)),
      );
    }
  });

  const inside = new Map([...texts, ...[...numbers].map(([from, to]) => [`${from}`, `${to}`] as const)]);
  const long = [...inside.keys()].filter((text) => text.length >= SHORTEST).sort((a, b) => b.length - a.length);
  const pattern = long.length === 0 ? undefined : new RegExp(bounded(long), 'g');
  const text = (value: string): string => {
    const reference = /^([A-Z][A-Za-z]+)\/([^/]+)$/.exec(value);
    const id = texts.get(reference?.[2] ?? '');
    if (reference !== null && id !== undefined) return `${reference[1]}/${id}`;
    return pattern === undefined ? value : value.replace(pattern, (found) => inside.get(found) ?? found);
  };
  const rewrite = (value: unknown, element = ''): unknown => {
    if (Array.isArray(value)) return value.map((item) => rewrite(item, element));
    if (typeof value === 'object' && value !== null)
      return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, rewrite(member, name)]));
    if (typeof value === 'string') return (TELLING.has(element) ? texts.get(value) : undefined) ?? text(value);
    if (typeof value === 'number' && TELLING.has(element)) return numbers.get(value) ?? value;
    return value;
  };

  const name = `${person.name}’s double`;
  const entry = chart.map((resource) => ({ resource: rewrite(resource) }));
  return {
    person: {
      id: texts.get(person.id) ?? person.id,
      name,
      birthDate: texts.get(person.birthDate) ?? person.birthDate,
      recordNumberLast4: '',
      values: person.values.map((value) => texts.get(value) ?? value),
    },
    chart: { name, bundle: { resourceType: 'Bundle', type: 'collection', entry } },
    rewrite: (value) => rewrite(value),
  };
}

/** Visits every text and number that tells its person from others. */
function visit(value: unknown, each: (element: string, value: string | number) => void, element = ''): void {
  if (Array.isArray(value)) for (const item of value) visit(item, each, element);
  else if (typeof value === 'object' && value !== null)
    for (const [name, member] of Object.entries(value)) visit(member, each, name);
  else if (TELLING.has(element) && (typeof value === 'string' || typeof value === 'number')) each(element, value);
}

/** The first proposal that is nobody's. */
function free<T extends string | number>(taken: Set<string>, propose: (turn: number) => T): T {
  for (let turn = 1; turn <= 10_000; turn += 1) {
    const proposal = propose(turn);
    if (taken.has(`${proposal}`)) continue;
    taken.add(`${proposal}`);
    return proposal;
  }
  throw new TypeError('this chart has too many values that are nearly one');
}

/** Near the value, with four digits behind the point, so that it is long enough to be nobody else's by chance. */
function otherNumber(value: number, turn: number): number {
  if (Math.abs(value) > 1e9) return Math.round(value * 1.05) + turn;
  return Number((Math.round(value * 105) / 100 + (turn * 10 + 7) / 10_000).toFixed(4));
}

/** Every letter and digit another of its kind: an id stays an id, a name a name. What has too few of them grows. */
function otherText(value: string, turn: number): string {
  const turned = (char: string, first: string, size: number, at: number): string => {
    const from = first.charCodeAt(0);
    return String.fromCharCode(from + ((char.charCodeAt(0) - from + 1 + ((turn * 7 + at * 3) % (size - 1))) % size));
  };
  const other = value.replace(/[A-Za-z0-9]/g, (char, at: number) =>
    char <= '9' ? turned(char, '0', 10, at) : char <= 'Z' ? turned(char, 'A', 26, at) : turned(char, 'a', 26, at),
  );
  return other === value || turn > 9 ? `${other}${turn}` : other;
}

/** Another day, or another year where the date says no more. */
function otherDate(value: string, turn: number): string {
  const at = /^\d{4}-\d{2}-\d{2}$/.test(value) ? Date.parse(value) : Number.NaN;
  if (!Number.isNaN(at)) return new Date(at + turn * 86_400_000).toISOString().slice(0, 10);
  return value.replace(/^\d{4}/, (year) => `${Number(year) + turn}`);
}
