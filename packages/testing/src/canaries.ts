import type { Records } from '@hmcp/clinic';
import { SHORTEST, type TestPerson } from './people.js';

/** Elements whose values tell one person from all others. Codes, units and names of drugs are everybody's. */
export const TELLING: ReadonlySet<string> = new Set(['id', 'value', 'given', 'family', 'line', 'birthDate']);

const DECIMAL = /^-?\d+\.\d+$/;

/** Finds whose values stand in a text. */
export interface Canaries {
  /** Everybody of whom the text holds a value that only they have. */
  whoseIn(text: string): readonly TestPerson[];
  /** The values in the text that only this person has. */
  valuesIn(text: string, person: TestPerson): readonly string[];
}

/**
 * Takes from each chart the values no other chart holds: ids, record and telephone numbers, names, streets, dates of birth,
 * measured values; and what is declared of a person beside the chart. Found in a text, each is a trace of that one person.
 */
export function canariesOf(records: Records, everybody: readonly TestPerson[]): Canaries {
  const values = new Map(everybody.map((person) => [person, valuesOf(records.ofPatient(person.id), '', new Set(person.values))]));
  const patterns = new Map<TestPerson, RegExp>();
  for (const [person, own] of values) {
    const others = new Set([...values].filter(([other]) => other !== person).flatMap(([, theirs]) => [...theirs]));
    const unique = [...own].filter((value) => value.length >= SHORTEST && !others.has(value));
    if (unique.length > 0) patterns.set(person, new RegExp(bounded(unique.map(unescaped)), 'g'));
  }
  return {
    whoseIn(text) {
      const forms = [text, unescaped(text)];
      return [...patterns].filter(([, pattern]) => forms.some((form) => form.search(pattern) >= 0)).map(([person]) => person);
    },
    valuesIn(text, person) {
      const pattern = patterns.get(person);
      if (pattern === undefined) return [];
      return [...new Set([text, unescaped(text)].flatMap((form) => [...(form.match(pattern) ?? [])]))];
    },
  };
}

/**
 * Holds declared values to what they are for.
 * @throws {TypeError} for one that also stands in what is somebody else's or everybody's: it tells nobody apart. The message names it
 *   by its number
 */
export function checkDeclared(records: Records, everybody: readonly TestPerson[]): void {
  for (const person of everybody) {
    const others = everybody.filter((other) => other !== person);
    const rest = records.types
      .flatMap((type) => records.ofType(type))
      .filter((resource) => records.patientOf(resource) !== person.id);
    const text = unescaped(JSON.stringify([rest, others.map(({ values }) => values)]));
    for (const [at, value] of person.values.entries())
      if (text.search(new RegExp(bounded([unescaped(value)]))) >= 0)
        throw new TypeError(
          `value ${at + 1} declared of ${person.name} also stands in a chart or a value of somebody else, or in what belongs to nobody: it tells nobody apart`,
        );
  }
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

/** JSON as its reader has it, however often it was put into a text: an escape may end in a letter, and is no part of the word behind it. */
export function unescaped(text: string): string {
  return text.replace(/\\+(?:u([0-9a-fA-F]{4})|([bfnrt"'`/]))?/g, (_, unit?: string, letter?: string) => {
    if (unit !== undefined) return String.fromCharCode(Number.parseInt(unit, 16));
    return letter === undefined ? '\\' : (ESCAPED[letter] ?? letter);
  });
}

const ESCAPED: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };
