import type { Records } from '@hmcp/clinic';
import type { TestPerson } from './people.js';

/** Shorter values may stand anywhere by chance. */
export const SHORTEST = 5;
/** Elements whose values tell one person from all others. Codes, units and names of drugs are everybody's. */
export const TELLING: ReadonlySet<string> = new Set(['id', 'value', 'given', 'family', 'line', 'birthDate']);

const DECIMAL = /^-?\d+\.\d+$/;

/** Finds whose values stand in a text. */
export interface Canaries {
  /** Everybody of whom the text holds a value that only they have. */
  whoseIn(text: string): readonly TestPerson[];
}

/**
 * Takes from each chart the values no other chart holds: ids, record and telephone numbers, names, streets, dates of birth,
 * measured values. Found in a text, each is a trace of that one person.
 */
export function canariesOf(records: Records, everybody: readonly TestPerson[]): Canaries {
  const values = new Map(everybody.map((person) => [person, valuesOf(records.ofPatient(person.id))]));
  const patterns = new Map<TestPerson, RegExp>();
  for (const [person, own] of values) {
    const others = new Set([...values].filter(([other]) => other !== person).flatMap(([, theirs]) => [...theirs]));
    const unique = [...own].filter((value) => value.length >= SHORTEST && !others.has(value));
    if (unique.length > 0) patterns.set(person, new RegExp(bounded(unique)));
  }
  return {
    whoseIn: (text) => {
      const forms = [text, unescaped(text)];
      return [...patterns].filter(([, pattern]) => forms.some((form) => pattern.test(form))).map(([person]) => person);
    },
  };
}

/** JSON as its reader has it, however often it was put into a text: an escape ends in a letter, and what follows is no part of that word. */
function unescaped(text: string): string {
  return text
    .replace(/\\+u([0-9A-Fa-f]{4})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    .replace(/\\+[bfnrt]/g, ' ');
}

/** Every value of a chart that can tell one person from others, short ones too. */
export function valuesOf(value: unknown, element = '', into = new Set<string>()): Set<string> {
  if (Array.isArray(value)) for (const item of value) valuesOf(item, element, into);
  else if (typeof value === 'object' && value !== null)
    for (const [name, member] of Object.entries(value)) valuesOf(member, name, into);
  else if ((typeof value === 'string' || typeof value === 'number') && TELLING.has(element)) into.add(String(value));
  return into;
}

/**
 * Source of a pattern that finds any of the texts, and none inside another word; a number inside another number is another number. A
 * decimal number is found next to letters as well: units are written so.
 */
export function bounded(texts: readonly string[]): string {
  const [decimals, words] = [texts.filter((text) => DECIMAL.test(text)), texts.filter((text) => !DECIMAL.test(text))];
  const oneOf = (some: readonly string[]): string => some.map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|');
  return [
    ...(decimals.length === 0 ? [] : [`(?<![0-9]|[0-9]\\.)(?:${oneOf(decimals)})(?![0-9])`]),
    ...(words.length === 0 ? [] : [`(?<![0-9A-Za-z]|[0-9]\\.)(?:${oneOf(words)})(?![0-9A-Za-z])`]),
  ].join('|');
}
