import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { chooseCharts } from '../src/charts.js';
import { DIRECTORY_TYPES, type Resource } from '../src/fhir-resource.js';
import { shippedBundles, shippedRecords, writeShippedPeople } from '../src/people/shipped.js';
import { buildRecords, type NamedBundle, type Records, RecordsError } from '../src/records.js';
import { loadRecords } from '../src/records-folder.js';

const folders: string[] = [];
async function folder(files: Readonly<Record<string, string>> = {}): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'records-'));
  folders.push(made);
  for (const [name, text] of Object.entries(files)) await writeFile(join(made, name), text);
  return made;
}
afterEach(async () => {
  for (const made of folders.splice(0)) await rm(made, { recursive: true });
});

const patient = (id: string, more: object = {}) => ({
  fullUrl: `urn:uuid:${id}`,
  resource: { resourceType: 'Patient', id, ...more },
});
const about = (id: string, reference: string, more: object = {}) => ({
  fullUrl: `urn:uuid:${id}`,
  resource: { resourceType: 'Observation', id, subject: { reference }, ...more },
});
const bundle = (...entry: object[]): NamedBundle => ({
  name: 'one.json',
  bundle: { resourceType: 'Bundle', type: 'transaction', entry },
});
const build = (...bundles: NamedBundle[]) => buildRecords(bundles, { kind: 'shipped' });
const failure = async (promise: Promise<unknown>): Promise<RecordsError> => {
  const error: unknown = await promise.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(RecordsError);
  return error as RecordsError;
};

/** Every `reference` in a resource that is not contained and leads nowhere. */
function dangling(records: Records, resource: Resource): string[] {
  const found: string[] = [];
  JSON.stringify(resource, (key, value: unknown) => {
    if (key === 'reference' && typeof value === 'string' && !value.startsWith('#')) {
      const [type = '', id = '', ...rest] = value.split('/');
      if (rest.length > 0 || records.read(type, id) === undefined) found.push(`${resource.resourceType}: ${value}`);
    }
    return value;
  });
  return found;
}

const sources: [string, () => Promise<Records>][] = [['the shipped people', async () => shippedRecords()]];
const data = process.env.HMCP_DATA;
if (data) sources.push(['the folder of HMCP_DATA', () => loadRecords(data)]);

describe.each(sources)('%s', (_name, load) => {
  it('every reference of every resource leads to a resource', async () => {
    const records = await load();
    const lost = records.types.flatMap((type) => records.ofType(type)).flatMap((resource) => dangling(records, resource));
    expect(lost).toEqual([]);
    expect(records.source.unresolved).toBe(0);
  });

  it('every resource is in one chart or in the directory', async () => {
    const records = await load();
    const everything = records.types.flatMap((type) => records.ofType(type));
    const misplaced = everything.filter((resource) => {
      const owner = records.patientOf(resource);
      if (DIRECTORY_TYPES.has(resource.resourceType)) return owner !== undefined || !records.isShared(resource);
      return owner === undefined || records.isShared(resource) || records.read('Patient', owner) === undefined;
    });
    expect(misplaced).toEqual([]);
  });

  it('has two charts to tell a story on', async () => {
    const { a, b } = chooseCharts(await load());
    expect(a.patient.id).not.toBe(b.patient.id);
    expect(a.laboratoryResults).toBeGreaterThanOrEqual(b.laboratoryResults);
  });
});

it.skipIf(!data)(`a folder of Bundles is loaded whole${data ? '' : ' (skipped: HMCP_DATA is not set)'}`, async () => {
  const records = await loadRecords(data ?? '');
  expect(records.source).toMatchObject({ kind: 'folder', unread: 0 });
  expect(records.ofType('Patient').length).toBeGreaterThanOrEqual(2);
});

it.skipIf(!data)(
  `the two people named Hoeger are chosen where they are${data ? '' : ' (skipped: HMCP_DATA is not set)'}`,
  async (context) => {
    const records = await loadRecords(data ?? '');
    const hoegers = records.ofType('Patient').filter(({ name }) => JSON.stringify(name).includes('"Hoeger"'));
    if (hoegers.length !== 2) return context.skip('no two people named Hoeger in HMCP_DATA');
    const { a, b, oneFamilyName } = chooseCharts(records);
    expect(new Set([a.patient.id, b.patient.id])).toEqual(new Set(hoegers.map(({ id }) => id)));
    expect(oneFamilyName).toBe(true);
  },
);

describe('the shipped people', () => {
  it('no id is used twice', () => {
    const ids = shippedBundles().flatMap(({ bundle }) =>
      (bundle as { entry: { resource: Resource }[] }).entry.map((e) => e.resource.id),
    );
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('two share family name and birth month, one has no medication, one an empty chart', () => {
    const records = shippedRecords();
    const people = records.ofType('Patient');
    expect(people.length).toBeGreaterThanOrEqual(4);
    const months = people.map(
      ({ name, birthDate }) => `${(name as { family: string }[])[0]?.family} ${String(birthDate).slice(0, 7)}`,
    );
    expect(people.length - new Set(months).size).toBe(1);
    const charts = people.map(({ id }) => records.ofPatient(id));
    expect(charts.some((chart) => chart.length === 1)).toBe(true);
    const withoutMedication = charts.filter((chart) => !chart.some(({ resourceType }) => resourceType === 'MedicationRequest'));
    expect(withoutMedication.some((chart) => chart.length > 1)).toBe(true);
  });

  it('no value, date of birth, name or number of one stands in the chart of another', () => {
    const records = shippedRecords();
    const marks = records.ofType('Patient').map(({ id }) => {
      const text = JSON.stringify(records.ofPatient(id));
      return new Set(
        text.match(/\d+\.\d{2,}|5eed[0-9a-f-]+|ZZ-TEST-\d+|555-[\d-]+|note \d\d-[A-Z]|"birthDate":"[^"]+"|"given":\["[^"]+/g),
      );
    });
    for (const [at, one] of marks.entries())
      for (const other of marks.slice(at + 1)) expect([...one].filter((mark) => other.has(mark))).toEqual([]);
  });

  it('written to a folder they load as the same charts, under names that say nothing', async () => {
    const target = join(await folder(), 'people');
    const names = await writeShippedPeople(target);
    expect(names.join(' ')).not.toMatch(/testwright|adalinde|5eed/i);
    const [written, built] = [await loadRecords(target), shippedRecords()];
    expect(written.source.files).toBe(names.length);
    for (const { id } of built.ofType('Patient')) expect(written.ofPatient(id)).toEqual(built.ofPatient(id));
  });

  it('each call makes new Bundles, so that nobody shares a changed one', () => {
    buildRecords(shippedBundles(), { kind: 'shipped' });
    expect(JSON.stringify(shippedBundles())).toContain('urn:uuid:5eed');
  });
});

describe('references', () => {
  it('by fullUrl become Type/id, in contained resources and extensions too', () => {
    const records = build(
      bundle(
        patient('p'),
        about('o', 'urn:uuid:p', {
          contained: [{ resourceType: 'ServiceRequest', id: 's', subject: { reference: 'urn:uuid:p' } }],
          basedOn: [{ reference: '#s' }],
          extension: [{ url: 'https://example.org/x', valueReference: { reference: 'https://other.example/fhir/Encounter/7' } }],
        }),
        { fullUrl: 'https://other.example/fhir/Encounter/7', resource: { resourceType: 'Encounter', id: 'e' } },
      ),
    );
    const text = JSON.stringify(records.read('Observation', 'o'));
    expect(text).not.toContain('urn:uuid');
    expect(text).toContain('"#s"');
    expect(text).toContain('"Encounter/e"');
    expect(records.patientOf(records.ofType('Observation')[0] as Resource)).toBe('p');
  });

  it('an id a transaction leaves out is the one of its fullUrl', () => {
    const records = build(bundle({ fullUrl: 'urn:uuid:p', resource: { resourceType: 'Patient' } }, about('o', 'urn:uuid:p')));
    expect(records.ofPatient('p', 'Observation')).toHaveLength(1);
  });

  it('by identifier are found in any Bundle, and stay logical when nobody has it', () => {
    const staff: NamedBundle = {
      name: 'practitionerInformation1.json',
      bundle: {
        resourceType: 'Bundle',
        type: 'batch',
        entry: [{ resource: { resourceType: 'Practitioner', id: 'd', identifier: [{ system: 'urn:npi', value: '1' }] } }],
      },
    };
    const records = build(
      bundle(
        patient('p'),
        about('o', 'urn:uuid:p', {
          performer: [{ reference: 'Practitioner?identifier=urn:npi|1' }, { reference: 'Practitioner?identifier=urn:npi|2' }],
        }),
      ),
      staff,
    );
    expect(records.read('Observation', 'o')?.performer).toEqual([
      { reference: 'Practitioner/d' },
      { type: 'Practitioner', identifier: { system: 'urn:npi', value: '2' } },
    ]);
    expect(records.source.unresolved).toBe(1);
    expect(records.ofPatient('p', 'Observation')).toHaveLength(1);
  });

  it('an identifier two people of the staff share names neither', () => {
    const twin = (id: string) => ({ resource: { resourceType: 'Practitioner', id, identifier: [{ value: '1' }] } });
    const records = build(
      bundle(
        patient('p'),
        twin('x'),
        twin('y'),
        about('o', 'urn:uuid:p', { performer: [{ reference: 'Practitioner?identifier=|1' }] }),
      ),
    );
    expect(JSON.stringify(records.read('Observation', 'o'))).not.toMatch(/Practitioner\/[xy]/);
  });

  const someone = (reference: string) => about('o', 'urn:uuid:p', { focus: [{ reference }] });
  it.each([
    ['another patient', someone('urn:uuid:q')],
    ['another patient by relative reference', someone('Patient/q')],
    ['the same id on another server', someone('https://other.example/fhir/Patient/p')],
    ['a target in no Bundle', someone('urn:uuid:unknown')],
    ['a patient by an identifier nobody has', someone('Patient?identifier=urn:x|1')],
    ['a contained patient', about('o', 'urn:uuid:p', { contained: [{ resourceType: 'Patient', id: 'c' }] })],
    ['no subject', { resource: { resourceType: 'Observation', id: 'o' } }],
    ['a group as subject', about('o', 'Group/g')],
    ['a subject that is a longer path', about('o', 'Patient/p/_history/1')],
  ])('a resource with %s is in nobody’s chart', (_name, entry) => {
    const records = build(bundle(patient('p'), patient('q'), entry));
    const resource = records.read('Observation', 'o') as Resource;
    expect(records.patientOf(resource)).toBeUndefined();
    expect(records.isShared(resource)).toBe(false);
    expect(records.ofPatient('p', 'Observation')).toEqual([]);
  });

  it('a directory resource that names a patient is not shared', () => {
    const records = build(
      bundle(patient('p'), {
        resource: { resourceType: 'Practitioner', id: 'd', extension: [{ valueReference: { reference: 'Patient/p' } }] },
      }),
    );
    expect(records.isShared(records.ofType('Practitioner')[0] as Resource)).toBe(false);
  });
});

describe('a folder that cannot be used says so, by file and position, and nothing of its content', () => {
  const secret = 'Canaryname';
  it.each([
    ['not_json', `{"resourceType":"Bundle","${secret}`],
    ['not_json', ''],
    ['not_a_bundle', 'null'],
    ['not_a_bundle', '[]'],
    ['not_a_bundle', `"${secret}"`],
    ['not_a_bundle', JSON.stringify({ resourceType: secret })],
    ['not_a_bundle', JSON.stringify({ resourceType: 'Bundle', type: 'history', entry: [] })],
    ['not_a_bundle', JSON.stringify({ resourceType: 'Bundle', type: 'collection', entry: { name: secret } })],
    ['bad_entry', JSON.stringify({ resourceType: 'Bundle', type: 'collection', entry: [secret] })],
    ['bad_entry', JSON.stringify({ resourceType: 'Bundle', type: 'collection', entry: [{ resource: { id: secret } }] })],
    [
      'bad_entry',
      JSON.stringify({ resourceType: 'Bundle', type: 'collection', entry: [{ resource: { resourceType: '../x', id: 'a' } }] }),
    ],
    [
      'bad_entry',
      JSON.stringify({
        resourceType: 'Bundle',
        type: 'collection',
        entry: [{ resource: { resourceType: 'Patient', id: `${secret} x` } }],
      }),
    ],
    [
      'bad_entry',
      JSON.stringify({ resourceType: 'Bundle', type: 'collection', entry: [{ resource: { resourceType: 'Patient' } }] }),
    ],
    [
      'bad_entry',
      JSON.stringify({
        resourceType: 'Bundle',
        type: 'collection',
        entry: [{ fullUrl: 1, resource: { resourceType: 'Patient', id: 'a' } }],
      }),
    ],
    [
      'bad_entry',
      JSON.stringify({
        resourceType: 'Bundle',
        type: 'collection',
        entry: [patient('a'), { fullUrl: 'urn:uuid:a', resource: { resourceType: 'Patient', id: 'b' } }],
      }),
    ],
    [
      'conflict',
      JSON.stringify({ resourceType: 'Bundle', type: 'collection', entry: [patient('a'), patient('a', { note: secret })] }),
    ],
    ['empty', JSON.stringify({ resourceType: 'Bundle', type: 'collection' })],
  ])('%s (row %#)', async (code, text) => {
    const error = await failure(loadRecords(await folder({ 'bad.json': text })));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(/\.$/);
    if (code !== 'empty') expect(error.message).toContain('bad.json');
    expect(`${error.message} ${JSON.stringify(error)} ${String(error.cause)}`).not.toContain(secret);
  });

  it('names every file that is no JSON', async () => {
    const error = await failure(loadRecords(await folder({ 'a.json': '{', 'b.json': '{', 'c.txt': '{' })));
    expect(error.files).toEqual(['a.json', 'b.json']);
  });

  it.each([
    ['a folder that is not there', 'folder', 'missing'],
    ['a folder without .json', 'empty', '.'],
  ])('%s', async (_name, code, path) => {
    expect((await failure(loadRecords(join(await folder({ LICENSE: 'x' }), path)))).code).toBe(code);
  });

  it('a folder over the size limit is read as far as it goes, and the rest is counted', async () => {
    const one = (id: string) => JSON.stringify({ resourceType: 'Bundle', type: 'collection', entry: [patient(id)] });
    const made = await folder({ 'a.json': one('a'), 'b.json': one('b') });
    const records = await loadRecords(made, { maxBytes: one('a').length });
    expect(records.source).toMatchObject({ files: 1, unread: 1 });
    expect((await failure(loadRecords(made, { maxBytes: 1 }))).code).toBe('too_large');
  });
});

it('staff met in many Bundles is kept once, and more Bundles can be loaded beside a folder', async () => {
  const doctor = (name: string) => ({ resource: { resourceType: 'Practitioner', id: 'd', name: [{ text: name }] } });
  const text = (...entry: object[]) => JSON.stringify({ resourceType: 'Bundle', type: 'collection', entry });
  const made = await folder({
    'a.json': text(patient('a'), doctor('one')),
    'b.json': `\uFEFF${text(patient('b'), doctor('two'))}`,
  });
  const records = await loadRecords(made, { also: [bundle({ resource: { resourceType: 'Organization', id: 'x' } })] });
  expect(records.ofType('Practitioner')).toHaveLength(1);
  expect(records.ofType('Organization')).toHaveLength(1);
  expect(records.types).toEqual(['Organization', 'Patient', 'Practitioner']);
  expect(records.source.files).toBe(2);
});
