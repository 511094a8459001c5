import { labs, listResults } from '@hmcp/clinic';
import { createTestbed, people, personFrom, type TestPerson, withValues } from '@hmcp/testing';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import '@hmcp/testing/vitest';
import { canariesOf, unescaped, valuesOf } from '../src/canaries.js';
import { doubleOf, doublesOf } from '../src/double.js';
import { chartsOf } from '../src/people.js';

const patient = {
  resourceType: 'Patient',
  id: 'own-1',
  name: [{ family: 'Quillon', given: ['Ermengard'], text: 'Ermengard Quillon' }],
  birthDate: '1958-02-03',
  identifier: [{ system: 'urn:records', value: 'MR-55-0193' }],
};

function observation(id: string, value: number, subject: object) {
  const code = { coding: [{ system: 'http://loinc.org', code: '2823-3' }] };
  const category = [{ coding: [{ code: 'laboratory' }] }];
  return { resourceType: 'Observation', id, status: 'final', code, category, subject, valueQuantity: { value, unit: 'mmol/L' } };
}

function bundle(change: object = {}, more: readonly object[] = [], value = 4.7) {
  const subject = { reference: 'urn:uuid:own-1', display: 'Ermengard Quillon' };
  return {
    resourceType: 'Bundle',
    type: 'transaction',
    entry: [
      { fullUrl: 'urn:uuid:own-1', resource: { ...patient, ...change } },
      { fullUrl: 'urn:uuid:obs-1', resource: observation('obs-1', value, subject) },
      ...more.map((resource) => ({ resource })),
    ],
  };
}

describe('a person from a Bundle', () => {
  it('has a name, a date of birth and a record number, and leaves the Bundle as it was', () => {
    const given = bundle();
    const before = structuredClone(given);
    expect(personFrom(given)).toEqual({
      id: 'own-1',
      name: 'Ermengard Quillon',
      birthDate: '1958-02-03',
      recordNumberLast4: '0193',
      values: [],
    });
    expect(given).toEqual(before);
  });

  it('is looked after in a testbed as the shipped ones are', async () => {
    const own = personFrom(bundle());
    await using bed = await createTestbed({ agents: [labs], people: [own, people.beatrisa] });
    const session = await bed.open(own);
    expect((await session.call('labs', listResults, {})).results).toHaveLength(1);
    expect(await bed.switch(session, people.beatrisa)).toMatchObject({ result: 'committed' });
    expect(await bed.switch(session, own)).toMatchObject({ result: 'committed' });
    await session.call('labs', listResults, {});
    expect(bed.trace).toStayOnPatient();
    expect(bed.trace.toString()).toContain('‖ labs → fhir GET Observation · Ermengard Quillon’s double: answered');
  });

  it.each<[string, unknown, string]>([
    ['nothing', undefined, 'not a FHIR R4 Bundle'],
    ['text', JSON.stringify(bundle()), 'not a FHIR R4 Bundle'],
    ['a Patient alone', patient, 'not a FHIR R4 Bundle'],
    ['what is no JSON', { ...bundle(), more: () => 'Ermengard' }, 'plain JSON'],
    ['a Bundle of messages', { ...bundle(), type: 'message' }, 'not a FHIR R4 Bundle'],
    ['no entry', { resourceType: 'Bundle', type: 'collection' }, 'no resource'],
    ['an entry without a resource type', { ...bundle(), entry: [{ resource: { id: 'x' } }] }, 'entry 1 holds no FHIR resource'],
    ['nobody', { ...bundle(), entry: [{ resource: { resourceType: 'Organization', id: 'o' } }] }, 'exactly one Patient'],
    ['two people', bundle({}, [{ ...patient, id: 'own-2' }]), 'exactly one Patient'],
    ['a Patient without a name', bundle({ name: undefined }), 'a name and a date of birth'],
    ['a Patient without a date of birth', bundle({ birthDate: undefined }), 'a name and a date of birth'],
    ['half a date of birth', bundle({ birthDate: '1958-02' }), 'a whole date of birth'],
    ['no record number', bundle({ identifier: undefined }), 'an identifier'],
    ['a record number that is short', bundle({ identifier: [{ value: '19' }] }), 'an identifier'],
    ['a Patient linked to another', bundle({ link: [{ other: { reference: 'Patient/own-9' } }] }), 'of nobody else'],
  ])('is not made of %s', (_, given, expected) => {
    let said = '';
    try {
      personFrom(given);
    } catch (error) {
      expect(error).toBeInstanceOf(TypeError);
      said = `${error}`;
    }
    expect(said).toContain(expected);
    expect(said).not.toMatch(/Ermengard|Quillon|1958|0193/);
  });

  it.each<[string, () => readonly TestPerson[], string]>([
    [
      'one id twice',
      () => [personFrom(bundle()), personFrom(bundle({ birthDate: '1959-02-03' }))],
      'two of the "people" have one id',
    ],
    ['a copy', () => [{ ...personFrom(bundle()) }], 'made by personFrom'],
    [
      'two resources of one id',
      () => [personFrom(bundle()), personFrom(bundle({ id: 'own-2' }, [], 5.1))],
      'chart 2: entry 2 differs',
    ],
  ])('is not in a testbed with %s', async (_, make, expected) => {
    await expect(createTestbed({ agents: [labs], people: make() })).rejects.toThrow(expected);
  });
});

test('people without declared values have an empty list of them, and so have their doubles', () => {
  const everybody = [...Object.values(people), personFrom(bundle())];
  const doubles = doublesOf(everybody, chartsOf(everybody)).map(({ person }) => person);
  for (const { values } of [...everybody, ...doubles]) expect(values).toEqual([]);
});

describe('values declared of a person', () => {
  const canaries = (...everybody: TestPerson[]) => canariesOf(chartsOf(everybody), everybody);

  it('are looked for as values of the chart are, and leave the person as they were', () => {
    const ada = withValues(people.adalinde, ['Penicillin: anaphylaxis', 'say "no", Zoë\nQuillon']);
    const { whoseIn, valuesIn } = canaries(ada, people.beatrisa);
    expect(whoseIn('avoid Penicillin: anaphylaxis, always')).toEqual([ada]);
    expect(whoseIn('avoid Penicillin')).toEqual([]);
    expect(valuesIn(`Penicillin: anaphylaxis of ${people.beatrisa.birthDate}`, ada)).toEqual(['Penicillin: anaphylaxis']);
    const text = JSON.stringify({ text: JSON.stringify(ada.values) });
    expect(valuesIn(text, ada)).toEqual(ada.values);
    const ascii = text.replace('ë', '\\\\u00EB');
    expect(ascii).not.toBe(text);
    expect(valuesIn(ascii, ada)).toEqual(ada.values);
    expect(people.adalinde.values).toEqual([]);
  });

  it('are other ones of the double, in what its chart says, too', () => {
    const ada = withValues(personFrom(bundle({ text: { div: 'allergic to Penicillin' } })), ['Penicillin', '中文病人数']);
    const double = doubleOf(ada, chartsOf([ada]).ofPatient(ada.id), new Set(ada.values));
    expect(double.person.values).toHaveLength(2);
    const all = JSON.stringify([double.chart.bundle, double.person.values]);
    expect(canaries(ada).whoseIn(all)).toEqual([]);
    expect(all).toContain(`allergic to ${double.person.values?.[0]}`);
    expect(double.rewrite({ drug: 'Penicillin' })).toEqual({ drug: double.person.values?.[0] });
  });

  it.each<[string, () => readonly TestPerson[]]>([
    ['that two people share', () => [withValues(people.adalinde, ['Latex: rash']), withValues(people.beatrisa, ['Latex: rash'])]],
    ['that holds one of another', () => [withValues(people.adalinde, ['Latex']), withValues(people.beatrisa, ['Latex: rash'])]],
    ['that another chart has', () => [withValues(people.adalinde, ['Potassium']), people.beatrisa]],
    ['that is the code of everybody', () => [withValues(people.adalinde, ['laboratory']), people.beatrisa]],
    ['that is the name of another', () => [people.beatrisa, withValues(people.adalinde, ['Beatrisa'])]],
  ])('are refused by a testbed for one %s', async (_, make) => {
    const refused = expect(createTestbed({ agents: [], people: make() })).rejects;
    await refused.toThrow(/^value 1 declared of \w+ Testwright also stands/);
  });

  it.each<[string, unknown, unknown, string]>([
    ['a copy of a person', { ...people.adalinde }, ['Penicillin'], 'made by personFrom'],
    ['nobody', undefined, ['Penicillin'], 'made by personFrom'],
    ['no value', people.adalinde, [], 'at least one'],
    ['a text', people.adalinde, 'Penicillin', 'must be a list'],
    ['nothing', people.adalinde, undefined, 'must be a list'],
    ['a short one', people.adalinde, ['Penicillin', 'rash'], 'value 2 must be'],
    ['space', people.adalinde, ['      '], 'value 1 must be'],
    ['space around it', people.adalinde, ['Penicillin '], 'value 1 must be'],
    ['a number', people.adalinde, [314159], 'value 1 must be'],
    ['a hole', people.adalinde, new Array(1), 'value 1 must be'],
  ])('are not declared as %s', (_, person, values, expected) => {
    expect(() => withValues(person as TestPerson, values as string[])).toThrow(TypeError);
    expect(() => withValues(person as TestPerson, values as string[])).toThrow(expected);
  });
});

describe('a value in a text', () => {
  it.each([
    ['after a line break of JSON', JSON.stringify('Dear\nAdalinde')],
    ['after a line break of JSON in JSON', JSON.stringify({ text: JSON.stringify('Dear\n\tAdalinde') })],
    ['after an escaped character', '"see\\u0020Adalinde"'],
    ['between escaped quotes', JSON.stringify(JSON.stringify(['Adalinde']))],
    ['written in escapes', '"\\u0041dalinde"'],
  ])('is found %s', (_, text) => {
    const { whoseIn } = canariesOf(chartsOf(Object.values(people)), Object.values(people));
    expect(whoseIn(text)).toEqual([people.adalinde]);
  });

  it.each(['nAdalinde', 'Adalindes', '\\', '"\\\\uAdalinde"', ''])('is not what is inside another word: %j', (text) => {
    const { whoseIn } = canariesOf(chartsOf(Object.values(people)), Object.values(people));
    expect(whoseIn(text)).toEqual([]);
  });

  it('reads the same at any depth of JSON', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 0, max: 3 }), (text, depth) => {
        let inside = text;
        for (let at = 0; at < depth; at += 1) inside = JSON.stringify(inside).slice(1, -1);
        if (!text.includes('\\')) expect(unescaped(inside)).toBe(text);
      }),
    );
  });
});

describe('the double of a person', () => {
  const everybody = [...Object.values(people), personFrom(bundle())];
  const records = chartsOf(everybody);

  it.each(
    everybody.map((person) => [person.name, person] as const),
  )('of %s has a like chart, and no value of anybody', (_, person) => {
    const chart = records.ofPatient(person.id);
    const taken = new Set(everybody.flatMap(({ id }) => [...valuesOf(records.ofPatient(id))]));
    const before = new Set(taken);
    const double = doubleOf(person, chart, taken);
    const { entry } = double.chart.bundle as { entry: { resource: { resourceType: string; code?: unknown; id: string } }[] };
    expect(entry.map(({ resource: { resourceType, code } }) => [resourceType, code])).toEqual(
      chart.map(({ resourceType, code }) => [resourceType, code]),
    );
    expect([...valuesOf(entry)].filter((value) => before.has(value))).toEqual([]);
    expect(JSON.stringify(entry)).not.toContain(`/${person.id}`);
    const everyone = chartsOf(everybody, [double.chart]);
    const canaries = canariesOf(everyone, [...everybody, double.person]);
    expect(canaries.whoseIn(JSON.stringify(entry))).toEqual([double.person]);
    expect(everyone.ofPatient(double.person.id)).toHaveLength(chart.length);
  });

  it('rewrites what a caller says about the person, and nothing else', () => {
    const [person] = [people.adalinde];
    const double = doubleOf(person, records.ofPatient(person.id), new Set());
    const { id } = double.person;
    expect(double.rewrite({ patient: person.id, about: `Patient/${person.id}`, text: `see ${person.id}, please` })).toEqual({
      patient: id,
      about: `Patient/${id}`,
      text: `see ${id}, please`,
    });
    const others = { category: 'laboratory', about: `Patient/${people.beatrisa.id}`, count: 5, deep: [null, true] };
    expect(double.rewrite(others)).toEqual(others);
  });
});

const Value = fc.oneof(fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e12, max: 1e12 }), fc.string());

describe('any chart', () => {
  it('has a double that shares no value with anybody, and is made the same way each time', () => {
    fc.assert(
      fc.property(fc.array(Value, { minLength: 1, maxLength: 30 }), fc.array(Value, { maxLength: 10 }), (own, others) => {
        const chart = [
          { resourceType: 'Patient', id: 'own-1', birthDate: '1958-02-03' },
          { resourceType: 'Basic', id: 'basic-1', extension: own.map((value) => ({ value })) },
        ];
        const person = { id: 'own-1', name: 'Own', birthDate: '1958-02-03', recordNumberLast4: '', values: [] };
        const taken = new Set([...valuesOf(chart), ...others.map(String)]);
        const double = doubleOf(person, chart, new Set(taken));
        expect([...valuesOf(double.chart)].filter((value) => taken.has(value))).toEqual([]);
        expect(doubleOf(person, chart, new Set(taken)).chart).toEqual(double.chart);
      }),
    );
  });
});
