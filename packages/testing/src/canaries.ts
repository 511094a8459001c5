import type { Records } from '@hmcp/clinic';
import type { TestPerson } from './people.js';

/** Shorter values may stand anywhere by chance. */
const SHORTEST = 5;
/** Elements whose values tell one person from all others. Codes, units and names of drugs are everybody's. */
const TELLING: ReadonlySet<string> = new Set(['id', 'value', 'given', 'line', 'birthDate']);

/** Finds whose values stand in a text. */
export interface Canaries {
  /** Everybody of whom the text holds a value that only they have. */
  whoseIn(text: string): readonly TestPerson[];
}

/**
 * Takes from each chart the values no other chart holds: ids, record and telephone numbers, given names, streets, dates of birth,
 * measured values. Found in a text, each is a trace of that one person.
 */
export function canariesOf(records: Records, everybody: readonly TestPerson[]): Canaries {
  const values = new Map(everybody.map((person) => [person, valuesOf(records.ofPatient(person.id))]));
  const patterns = new Map<TestPerson, RegExp>();
  for (const [person, own] of values) {
    const others = new Set([...values].filter(([other]) => other !== person).flatMap(([, theirs]) => [...theirs]));
    const unique = [...own].filter((value) => !others.has(value)).map((value) => value.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    // A number inside another number is another number.
    if (unique.length > 0) patterns.set(person, new RegExp(`(?<![0-9A-Za-z]|[0-9]\\.)(?:${unique.join('|')})(?![0-9A-Za-z])`));
  }
  return { whoseIn: (text) => [...patterns].filter(([, pattern]) => pattern.test(text)).map(([person]) => person) };
}

function valuesOf(value: unknown, element = '', into = new Set<string>()): Set<string> {
  if (Array.isArray(value)) for (const item of value) valuesOf(item, element, into);
  else if (typeof value === 'object' && value !== null)
    for (const [name, member] of Object.entries(value)) valuesOf(member, name, into);
  else if ((typeof value === 'string' || typeof value === 'number') && TELLING.has(element) && String(value).length >= SHORTEST)
    into.add(String(value));
  return into;
}
