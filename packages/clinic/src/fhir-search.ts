import { FhirId } from '@hmcp/core';
import { compareDates, type DatePrefix, dateInterval, elementInterval, type Interval } from './fhir-date.js';
import { isJsonFormat, patientParameters, type SearchParameter, searchParameter } from './fhir-parameters.js';
import type { Resource } from './fhir-resource.js';
import { type Summary, summaryOf } from './fhir-summary.js';

/** A search as understood. */
export interface Search {
  /** Patients named, each in the spelling of the request: all must be the token's. */
  readonly patients: readonly string[];
  /** All must hold. */
  readonly filters: readonly Filter[];
  readonly sort: readonly {
    readonly element: readonly string[];
    readonly kind: SearchParameter['kind'];
    readonly descending: boolean;
  }[];
  readonly count: number;
  readonly offset: number;
  readonly summary: Summary;
}

/** One parameter with its alternatives. */
export type Filter = (resource: Resource) => boolean;

/** Largest page, and the page when none is asked for. */
export const MAX_PAGE = 1000;
const MAX_PARAMETERS = 20;
const MAX_VALUE = 512;

/**
 * Reads the query of a search on a type. Every parameter must be known and every value understood: a search parameter
 * that is ignored would answer more than was asked. Modifiers, chains, `_has`, `_include` and `_revinclude` are unknown here.
 * @returns the search, or the fixed words saying why not; they repeat nothing of the query
 */
export function parseSearch(type: string, query: URLSearchParams): Search | { readonly refused: string } {
  const patientNames = patientParameters(type);
  const patients: string[] = [];
  const filters: Filter[] = [];
  const once = new Map<string, string>();
  let seen = 0;
  for (const [name, value] of query) {
    seen += 1;
    if (seen > MAX_PARAMETERS) return { refused: 'too many search parameters' };
    if (!isPlainValue(value)) return { refused: 'a search value that cannot be read' };
    if (name === '_count' || name === '_sort' || name === '_offset' || name === '_format' || name === '_summary') {
      if (once.has(name)) return { refused: 'a result parameter given twice' };
      once.set(name, value);
    } else if (patientNames.includes(name)) patients.push(value);
    else if (name === '_id') {
      const ids = value.split(',');
      if (!ids.every((id) => FhirId.safeParse(id).success)) return { refused: 'a search value that cannot be read' };
      filters.push(({ id }) => ids.includes(id));
    } else {
      const parameter = searchParameter(type, name);
      if (parameter === undefined) return { refused: 'a search parameter that is not supported' };
      const filter = parameterFilter(parameter, value);
      if (filter === undefined) return { refused: 'a search value that cannot be read' };
      filters.push(filter);
    }
  }
  const format = once.get('_format');
  if (format !== undefined && !isJsonFormat(format)) return { refused: 'only the JSON format is served' };
  const summary = summaryOf(once.get('_summary'));
  if (summary === undefined) return { refused: 'a summary that is not served' };
  const count = wholeNumber(once.get('_count'), MAX_PAGE);
  const offset = wholeNumber(once.get('_offset'), 0);
  const sort = parseSort(once.get('_sort'), type);
  if (count === undefined || offset === undefined || sort === undefined) return { refused: 'a search value that cannot be read' };
  return { patients, filters, sort, count: Math.min(count, MAX_PAGE), offset, summary };
}

/** A filter for one parameter, alternatives separated by commas; `undefined` when a value is not understood. */
export function parameterFilter(parameter: SearchParameter, value: string): Filter | undefined {
  const alternatives = splitEscaped(value, ',');
  if (alternatives === undefined || alternatives.some((alternative) => alternative === '')) return undefined;
  const tests = alternatives.map(TESTS[parameter.kind]);
  if (tests.some((test) => test === undefined)) return undefined;
  return (resource) =>
    parameter.elements.some((element) => listOf(resource[element]).some((found) => tests.some((test) => test?.(found) === true)));
}

/** Sorts by the search's keys, by id at last, so that pages do not overlap. */
export function sortResources(resources: readonly Resource[], sort: Search['sort']): Resource[] {
  return [...resources].sort((a, b) => {
    for (const key of sort) {
      const [left, right] = [sortKey(a, key), sortKey(b, key)];
      // What has no such element comes last either way.
      if (left === right) continue;
      if (left === undefined || right === undefined) return left === undefined ? 1 : -1;
      return (left < right ? -1 : 1) * (key.descending ? -1 : 1);
    }
    return a.id < b.id ? -1 : 1;
  });
}

function sortKey(resource: Resource, { element, kind }: Search['sort'][number]): number | string | undefined {
  const value = element.map((name) => resource[name]).find((it) => it !== undefined);
  return kind === 'date' ? elementInterval(value)?.start : typeof value === 'string' ? value : undefined;
}

function parseSort(value: string | undefined, type: string): Search['sort'] | undefined {
  const keys: Search['sort'][number][] = [];
  for (const part of value === undefined ? [] : value.split(',')) {
    const descending = part.startsWith('-');
    const name = descending ? part.slice(1) : part;
    const parameter: SearchParameter | undefined =
      name === '_id' ? { kind: 'code', elements: ['id'] } : searchParameter(type, name);
    if (parameter === undefined || (parameter.kind !== 'date' && name !== '_id')) return undefined;
    keys.push({ element: parameter.elements, kind: parameter.kind, descending });
  }
  return keys;
}

type Test = (found: unknown) => boolean;

/** How one alternative of a value is read, by kind; `undefined` when it cannot be. */
const TESTS: Readonly<Record<SearchParameter['kind'], (text: string) => Test | undefined>> = {
  token: tokenTest,
  code: codeTest,
  date: dateTest,
};

/** `code`, `system|code`, `|code` (no system) or `system|` (any code of it), against code, Coding, CodeableConcept, Identifier. */
function tokenTest(text: string): Test | undefined {
  const parts = splitEscaped(text, '|')?.map(unescaped);
  const [first = '', second] = parts ?? [];
  if (parts === undefined || parts.length > 2 || (first === '' && (second ?? '') === '')) return undefined;
  const system = second === undefined ? undefined : first;
  const sought = second === undefined ? first : second;
  const matches = (foundSystem: unknown, foundCode: unknown): boolean => {
    if (sought !== '' && foundCode !== sought) return false;
    if (system === undefined) return true;
    return system === '' ? foundSystem === undefined : foundSystem === system;
  };
  return (found) => {
    if (typeof found !== 'object' || found === null) return false;
    const element = found as Record<string, unknown>;
    const codings = 'coding' in element ? listOf(element.coding) : [element];
    return codings.some((coding) => {
      const { system: itsSystem, code: itsCode, value } = (coding ?? {}) as Record<string, unknown>;
      return matches(itsSystem, itsCode ?? value);
    });
  };
}

function codeTest(text: string): Test | undefined {
  return /^[^\s,|$\\]+$/.test(text) ? (found) => found === text : undefined;
}

function dateTest(text: string): Test | undefined {
  const [, prefix = 'eq', rest = ''] = /^(eq|ne|gt|lt|ge|le|sa|eb)?(\d.*)$/.exec(text) ?? [];
  const searched: Interval | undefined = dateInterval(rest);
  if (searched === undefined) return undefined;
  return (found) => {
    const interval = elementInterval(found);
    return interval !== undefined && compareDates(prefix as DatePrefix, interval, searched);
  };
}

/** Splits at a separator that no backslash stands before; `undefined` for a backslash that escapes nothing known. */
function splitEscaped(text: string, separator: string): string[] | undefined {
  const parts = [''];
  for (let at = 0; at < text.length; at += 1) {
    const character = text.charAt(at);
    if (character === '\\') {
      const next = text.charAt(at + 1);
      if (next === '' || !',|$\\'.includes(next)) return undefined;
      parts[parts.length - 1] += character + next;
      at += 1;
    } else if (character === separator) parts.push('');
    else parts[parts.length - 1] += character;
  }
  return parts;
}

function unescaped(text: string): string {
  return text.replace(/\\([,|$\\])/g, '$1');
}

/** No control characters, nothing undecodable, not empty, not endless. */
function isPlainValue(value: string): boolean {
  return value !== '' && value.length <= MAX_VALUE && !/[\p{Cc}\uFFFD]/u.test(value);
}

function wholeNumber(text: string | undefined, otherwise: number): number | undefined {
  if (text === undefined) return otherwise;
  return /^\d{1,6}$/.test(text) ? Number(text) : undefined;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : value === undefined ? [] : [value];
}
