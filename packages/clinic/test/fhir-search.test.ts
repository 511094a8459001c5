import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareDates, type DatePrefix, dateInterval, elementInterval } from '../src/fhir-date.js';
import { parseSearch, sortResources } from '../src/fhir-search.js';

const observation = (id: string, more: object = {}) => ({ resourceType: 'Observation', id, ...more });
const rows = [
  observation('a', {
    status: 'final',
    code: { coding: [{ system: 'http://loinc.org', code: '1-8' }] },
    effectiveDateTime: '2020-05-17T10:00:00Z',
  }),
  observation('b', {
    status: 'amended',
    code: { coding: [{ code: '1-8' }, { system: 'urn:x', code: 'y,z' }] },
    effectiveDateTime: '2021',
  }),
  observation('c', {
    status: 'final',
    category: [{ coding: [{ code: 'laboratory' }] }],
    effectivePeriod: { start: '2020-05-01', end: '2020-06-01' },
  }),
  observation('d', { effectiveDateTime: 'unknown' }),
];
function found(query: string): string[] | string {
  const search = parseSearch('Observation', new URLSearchParams(query));
  if ('refused' in search) return search.refused;
  return sortResources(
    rows.filter((row) => search.filters.every((filter) => filter(row))),
    search.sort,
  ).map(({ id }) => id);
}

describe('a search', () => {
  it.each([
    ['', ['a', 'b', 'c', 'd']],
    ['code=1-8', ['a', 'b']],
    ['code=http://loinc.org|1-8', ['a']],
    ['code=|1-8', ['b']],
    ['code=urn:x|', ['b']],
    ['code=urn:x|y\\,z', ['b']],
    ['code=y,z', []],
    ['code=1', []],
    ['category=laboratory', ['c']],
    ['status=final', ['a', 'c']],
    ['status=final,amended', ['a', 'b', 'c']],
    ['status=final&status=amended', []],
    ['status=final&code=1-8', ['a']],
    ['_id=a,d', ['a', 'd']],
    ['_sort=-date', ['b', 'a', 'c', 'd']],
    ['_sort=date', ['c', 'a', 'b', 'd']],
    ['_sort=-_id', ['d', 'c', 'b', 'a']],
    ['date=2020-05-17', ['a']],
    ['date=2020', ['a', 'c']],
    ['date=ge2020-05-17&date=lt2021', ['a', 'c']],
    ['date=gt2020-05-17', ['b', 'c']],
    ['date=ne2020', ['b']],
    ['date=sa2020', ['b']],
    ['date=eb2021', ['a', 'c']],
    ['date=le2020-05-17T10:00:00Z', ['a', 'c']],
  ])('?%s', (query, ids) => {
    expect(found(query)).toEqual(ids);
  });

  it('has a page of at most 1000, and no parameters of other types', () => {
    expect(parseSearch('Observation', new URLSearchParams('_count=5000'))).toMatchObject({ count: 1000, offset: 0 });
    expect(found('intent=order')).toContain('not supported');
    expect(parseSearch('Patient', new URLSearchParams('patient=x'))).toHaveProperty('refused');
    expect(parseSearch('Immunization', new URLSearchParams('subject=x'))).toHaveProperty('refused');
  });

  it('never throws, and repeats nothing of the query when it refuses', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.string(), fc.string({ minLength: 12 }))), (pairs) => {
        const search = parseSearch('Observation', new URLSearchParams(pairs));
        if ('refused' in search) for (const [, value] of pairs) expect(search.refused).not.toContain(value);
      }),
    );
  });
});

describe('a FHIR date', () => {
  it.each([
    ['2020', '2020-01-01T00:00:00Z', '2021-01-01T00:00:00Z'],
    ['2020-12', '2020-12-01T00:00:00Z', '2021-01-01T00:00:00Z'],
    ['2020-02-29', '2020-02-29T00:00:00Z', '2020-03-01T00:00:00Z'],
    ['2020-01-01T10:20', '2020-01-01T10:20:00Z', '2020-01-01T10:21:00Z'],
    ['2020-01-01T10:20:30+02:00', '2020-01-01T08:20:30Z', '2020-01-01T08:20:31Z'],
    ['2020-01-01T10:20:30.5Z', '2020-01-01T10:20:30.500Z', '2020-01-01T10:20:30.501Z'],
  ])('%s covers what its precision leaves open', (text, start, end) => {
    expect(dateInterval(text)).toEqual({ start: Date.parse(start), end: Date.parse(end) });
  });

  it.each([
    '',
    '20',
    '2020-13',
    '2020-00',
    '2021-02-29',
    '2020-01-32',
    '2020-1-1',
    '2020-01-01T25:00',
    '2020-01-01T10',
    ' 2020',
    '2020Z',
    '-2020',
    '２０２０',
  ])('is not %j', (text) => {
    expect(dateInterval(text)).toBeUndefined();
  });

  it('compared with itself is equal, and not before or after itself', () => {
    const dates = fc
      .date({ min: new Date('1900-01-01'), max: new Date('2100-01-01'), noInvalidDate: true })
      .map((date) => date.toISOString());
    fc.assert(
      fc.property(dates, fc.constantFrom(4, 7, 10, 24), (text, precision) => {
        const interval = dateInterval(text.slice(0, precision));
        const holds = (prefix: DatePrefix) => interval !== undefined && compareDates(prefix, interval, interval);
        expect((['eq', 'ge', 'le', 'ne', 'gt', 'lt', 'sa', 'eb'] as const).map(holds)).toEqual([
          true,
          true,
          true,
          ...Array(5).fill(false),
        ]);
      }),
    );
  });

  it('in a Period may be open at one end, not at both', () => {
    expect(elementInterval({ start: '2020' })).toEqual({ start: Date.parse('2020-01-01'), end: Number.POSITIVE_INFINITY });
    for (const value of [{}, { start: 'x' }, null, 7, undefined, []]) expect(elementInterval(value)).toBeUndefined();
  });
});
