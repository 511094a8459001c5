/** A stretch of time: a FHIR date or dateTime covers everything its precision leaves open. Milliseconds, `end` excluded. */
export interface Interval {
  readonly start: number;
  readonly end: number;
}

const DATE = /^(\d{4})(?:-(\d{2})(?:-(\d{2})(?:T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(Z|[+-]\d{2}:\d{2})?)?)?)?$/;

/**
 * The time a FHIR date, dateTime or instant covers; without an offset it is read as UTC. `undefined` when it is none.
 * @see FHIR R4 search, section 3.1.1.4.6
 */
export function dateInterval(text: string): Interval | undefined {
  const match = DATE.exec(text);
  if (!match) return undefined;
  const [, year, month, day, hour, minute, second, fraction, offset] = match;
  const iso = `${year}-${month ?? '01'}-${day ?? '01'}T${hour ?? '00'}:${minute ?? '00'}:${second ?? '00'}.${(fraction ?? '').padEnd(3, '0').slice(0, 3)}${offset ?? 'Z'}`;
  const start = Date.parse(iso);
  // Date.parse accepts 31 February; a calendar does not.
  if (Number.isNaN(start) || Number(day ?? 1) > new Date(Date.UTC(Number(year), Number(month ?? 1), 0)).getUTCDate())
    return undefined;
  const at = new Date(start);
  if (month === undefined) return { start, end: at.setUTCFullYear(at.getUTCFullYear() + 1) };
  if (day === undefined) return { start, end: at.setUTCMonth(at.getUTCMonth() + 1) };
  if (hour === undefined) return { start, end: start + 86_400_000 };
  if (second === undefined) return { start, end: start + 60_000 };
  return { start, end: start + (fraction === undefined ? 1000 : 1) };
}

/** The time an element covers: a date, dateTime or instant, or a Period, open where it has no start or end. */
export function elementInterval(value: unknown): Interval | undefined {
  if (typeof value === 'string') return dateInterval(value);
  if (typeof value !== 'object' || value === null) return undefined;
  const { start, end } = value as { start?: unknown; end?: unknown };
  const from = typeof start === 'string' ? dateInterval(start)?.start : Number.NEGATIVE_INFINITY;
  const to = typeof end === 'string' ? dateInterval(end)?.end : Number.POSITIVE_INFINITY;
  if (from === undefined || to === undefined || (start === undefined && end === undefined)) return undefined;
  return { start: from, end: to };
}

/** Comparison prefixes served. `ap` (approximately) is not: it means something else everywhere. */
export type DatePrefix = 'eq' | 'ne' | 'gt' | 'lt' | 'ge' | 'le' | 'sa' | 'eb';

/** True when an element's time stands to the searched one as the prefix says. @see FHIR R4 search, section 3.1.1.4.5 */
export function compareDates(prefix: DatePrefix, element: Interval, searched: Interval): boolean {
  const inside = element.start >= searched.start && element.end <= searched.end;
  switch (prefix) {
    case 'eq':
      return inside;
    case 'ne':
      return !inside;
    case 'gt':
      return element.end > searched.end;
    case 'lt':
      return element.start < searched.start;
    case 'ge':
      return inside || element.end > searched.end;
    case 'le':
      return inside || element.start < searched.start;
    case 'sa':
      return element.start >= searched.end;
    case 'eb':
      return element.end <= searched.start;
  }
}
