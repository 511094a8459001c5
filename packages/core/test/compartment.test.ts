import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CompartmentOptions, type CompartmentVerdict, checkCompartment, checkText, combineVerdicts } from '../src/index.js';

type Json = Record<string, unknown>;

const BASE = 'https://ehr.example/r4';
const URN = 'urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0';
const MRN = { system: 'https://ehr.example/mrn', value: '778' };
const OTHER_MRN = { system: 'https://ehr.example/mrn', value: '779' };
const OPTIONS: CompartmentOptions = {
  patient: { fhirServer: BASE, patient: 'A1' },
  sourceBase: BASE,
  identifiers: [`${MRN.system}|${MRN.value}`],
};

const ANCHORS = {
  AllergyIntolerance: 'patient',
  Condition: 'subject',
  DiagnosticReport: 'subject',
  Encounter: 'subject',
  Immunization: 'patient',
  MedicationRequest: 'subject',
  Observation: 'subject',
  Procedure: 'subject',
} as const;
const TYPES = Object.keys(ANCHORS) as (keyof typeof ANCHORS)[];

const DOC = { resourceType: 'Practitioner', id: 'doc', name: [{ family: 'Ito' }] };

/** A resource with everything around the anchor that must not disturb. */
function record(type: keyof typeof ANCHORS, anchor: unknown, more: Json = {}): Json {
  return {
    resourceType: type,
    id: 'r-1',
    meta: { profile: ['http://hl7.org/fhir/StructureDefinition/Patient|4.0.1'], versionId: '3' },
    text: { status: 'generated', div: '<div xmlns="http://www.w3.org/1999/xhtml">Patient/family agreed. 50% better?</div>' },
    contained: [DOC],
    extension: [{ url: 'http://hl7.org/fhir/StructureDefinition/patient-x', valueReference: { reference: 'Location/4' } }],
    code: { coding: [{ system: 'http://loinc.org', code: '4548-4', display: 'HbA1c' }], text: 'Patient/caregiver education' },
    [ANCHORS[type]]: anchor,
    encounter: { reference: 'Encounter/e-1', identifier: { system: 'x', value: '9' } },
    performer: [
      { reference: '#doc', display: 'Dr. Ito' },
      { type: 'Organization', identifier: { system: 'x', value: 'lab' } },
      { reference: 'Practitioner?identifier=http://npi.example|99' },
      { display: 'somebody on call' },
    ],
    note: [{ text: 'InPatient/outpatient stays {see above}', authorReference: { reference: 'Practitioner/p-1/_history/2' } }],
    ...more,
  };
}
const own = (type: keyof typeof ANCHORS, more: Json = {}): Json => record(type, { reference: 'Patient/A1' }, more);
const patient = (id = 'A1', more: Json = {}): Json => ({ resourceType: 'Patient', id, birthDate: '1961-04-02', ...more });
const bundle = (...entries: unknown[]): Json => ({ resourceType: 'Bundle', type: 'searchset', total: 812, entry: entries });
const checked = (value: unknown, more: Partial<CompartmentOptions> = {}) => checkCompartment(value, { ...OPTIONS, ...more });

/** Anchors by what they are; the table below runs each through every type. */
const OWN: [string, unknown][] = [
  ['relative', { reference: 'Patient/A1' }],
  ['with its type', { reference: 'Patient/A1', type: 'Patient' }],
  ['with a version', { reference: 'Patient/A1/_history/3' }],
  ['absolute', { reference: `${BASE}/Patient/A1` }],
  ['absolute with a version', { reference: `${BASE}/Patient/A1/_history/3` }],
  ['absolute with the default port, host in capitals', { reference: 'https://EHR.example:443/r4/Patient/A1' }],
  ['a logical identifier known for the patient', { type: 'Patient', identifier: MRN }],
  ['a logical identifier known for the patient, without type', { identifier: MRN }],
  ['reference and identifier that agree', { reference: 'Patient/A1', identifier: MRN }],
];
const NOT_OWN: [string, unknown][] = [
  ['missing', undefined],
  ['null', null],
  ['a string', 'Patient/A1'],
  ['a list', [{ reference: 'Patient/A1' }]],
  ['empty', {}],
  ['a display only', { display: 'Ann Archer' }],
  ['another patient', { reference: 'Patient/B7' }],
  ['another patient whose id begins the same', { reference: 'Patient/A10' }],
  ['another patient whose id is the beginning', { reference: 'Patient/A' }],
  ['an id in another case', { reference: 'Patient/a1' }],
  ['another base with the same id', { reference: 'https://other.example/r4/Patient/A1' }],
  ['another path with the same id', { reference: 'https://ehr.example/r5/Patient/A1' }],
  ['another scheme with the same id', { reference: 'http://ehr.example/r4/Patient/A1' }],
  ['another port with the same id', { reference: 'https://ehr.example:8443/r4/Patient/A1' }],
  ['a base that begins the same', { reference: `${BASE}.evil.example/Patient/A1` }],
  ['user info before the host', { reference: 'https://ehr.example@evil.example/r4/Patient/A1' }],
  ['dots in the path', { reference: `${BASE}/x/../Patient/A1` }],
  ['an encoded slash', { reference: `${BASE}/Patient%2FA1` }],
  ['a deeper path', { reference: `${BASE}/Patient/B7/Patient/A1` }],
  ['a version that is a path', { reference: 'Patient/A1/_history/../B7' }],
  ['padding', { reference: ' Patient/A1' }],
  ['a trailing slash', { reference: 'Patient/A1/' }],
  ['a leading slash', { reference: '/Patient/A1' }],
  ['a type in lower case', { reference: 'patient/A1' }],
  ['a query', { reference: 'Patient?_id=A1' }],
  ['a conditional reference', { reference: 'Patient?identifier=https://ehr.example/mrn|778' }],
  ['a fragment', { reference: 'Patient/A1#x' }],
  ['an empty string', { reference: '' }],
  ['a number', { reference: 1 }],
  ['a nested reference', { reference: { reference: 'Patient/A1' } }],
  ['two references in a list', { reference: ['Patient/A1', 'Patient/B7'] }],
  ['a primitive extension', { reference: 'Patient/A1', _reference: { extension: [] } }],
  ['an unknown urn', { reference: URN }],
  ['a contained resource that is not there', { reference: '#nobody' }],
  ['a contained practitioner', { reference: '#doc' }],
  ['a group', { reference: 'Group/A1' }],
  ['a device', { reference: 'Device/A1' }],
  ['a related person', { reference: 'RelatedPerson/A1' }],
  ['a patient said to be a group', { reference: 'Patient/A1', type: 'Group' }],
  ['a type that is no string', { reference: 'Patient/A1', type: 7 }],
  ['an identifier of somebody', { type: 'Patient', identifier: OTHER_MRN }],
  ['an identifier of another system', { identifier: { system: 'https://other.example/mrn', value: '778' } }],
  ['an identifier without system', { identifier: { value: '778' } }],
  ['reference and identifier that differ', { reference: 'Patient/A1', identifier: OTHER_MRN }],
  ['an identifier that agrees beside a reference that does not', { reference: 'Patient/B7', identifier: MRN }],
];

interface Case {
  readonly says: string;
  readonly value: unknown;
  readonly inside: boolean;
  readonly options?: Partial<CompartmentOptions>;
}

const inEntry = (anchor: unknown, resource: Json = patient()) =>
  bundle({ fullUrl: URN, resource }, { resource: record('Observation', anchor) });
const withPatient = (contained: Json) =>
  record('Observation', { reference: '#pat' }, { contained: [DOC, { resourceType: 'Patient', id: 'pat', ...contained }] });

const CASES: Case[] = [
  ...TYPES.flatMap((type) => [
    ...OWN.map(([says, anchor]) => ({ says: `${type} of ${says}`, value: record(type, anchor), inside: true })),
    ...NOT_OWN.map(([says, anchor]) => ({ says: `${type} of ${says}`, value: record(type, anchor), inside: false })),
    {
      says: `${type} beside another patient`,
      value: own(type, { performer: [{ reference: 'Patient/B7' }] }),
      inside: false,
    },
    {
      says: `${type} recorded by another patient`,
      value: own(type, {
        recorder: { reference: `${BASE}/Patient/B7` },
      }),
      inside: false,
    },
    {
      says: `${type} with the anchor under another name`,
      value: record(type, undefined, { [ANCHORS[type] === 'subject' ? 'patient' : 'subject']: { reference: 'Patient/A1' } }),
      inside: false,
    },
  ]),
  { says: 'the patient', value: patient(), inside: true },
  {
    says: 'the patient linked to itself',
    value: patient('A1', { link: [{ other: { reference: 'Patient/A1' }, type: 'refer' }] }),
    inside: true,
  },
  { says: 'another patient', value: patient('B7'), inside: false },
  { says: 'a patient whose id begins the same', value: patient('A10'), inside: false },
  { says: 'a patient without id', value: { resourceType: 'Patient' }, inside: false },
  { says: 'a patient whose id is a list', value: { resourceType: 'Patient', id: ['A1'] }, inside: false },
  {
    says: 'the patient linked to another',
    value: patient('A1', { link: [{ other: { reference: 'Patient/B7' }, type: 'seealso' }] }),
    inside: false,
  },
  { says: 'an unknown type', value: { resourceType: 'Claim', patient: { reference: 'Patient/A1' } }, inside: false },
  { says: 'a type in lower case', value: { resourceType: 'observation', subject: { reference: 'Patient/A1' } }, inside: false },
  { says: 'a type named as a member of Object', value: { resourceType: 'constructor' }, inside: false },
  { says: 'a type that is a list', value: { resourceType: ['Patient'], id: 'A1' }, inside: false },
  { says: 'a type of null', value: { resourceType: null, id: 'A1' }, inside: false },
  // Directory
  ...['Practitioner', 'Organization', 'Location', 'Medication'].flatMap((resourceType) => [
    { says: `a ${resourceType}`, value: { resourceType, id: 'x', partOf: { reference: 'Organization/1' } }, inside: true },
    {
      says: `a ${resourceType} that names the patient`,
      value: { resourceType, extension: [{ url: 'x', valueReference: { reference: 'Patient/A1' } }] },
      inside: false,
    },
    { says: `a ${resourceType} that names another`, value: { resourceType, name: 'see Patient/B7' }, inside: false },
  ]),
  {
    says: 'an OperationOutcome of codes',
    value: { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'not-found' }] },
    inside: true,
  },
  {
    says: 'an OperationOutcome with diagnostics',
    value: {
      resourceType: 'OperationOutcome',
      issue: [{ severity: 'error', code: 'not-found', diagnostics: 'Bo Bauer is not here' }],
    },
    inside: false,
  },
  {
    says: 'an OperationOutcome with details',
    value: { resourceType: 'OperationOutcome', issue: [{ details: { text: 'Bo Bauer' } }] },
    inside: false,
  },
  {
    says: 'an OperationOutcome with a narrative',
    value: { resourceType: 'OperationOutcome', text: { div: 'x' }, issue: [] },
    inside: false,
  },
  // Bundles
  { says: 'an empty Bundle', value: bundle(), inside: true },
  { says: 'a Bundle without entry', value: { resourceType: 'Bundle', type: 'searchset' }, inside: true },
  { says: 'a Bundle of the patient', value: bundle({ resource: own('Observation') }, { resource: patient() }), inside: true },
  { says: 'a Bundle entry without resource', value: bundle({ response: { status: '204' } }), inside: true },
  {
    says: 'a Bundle with one row of another',
    value: bundle({ resource: own('Observation') }, { resource: record('Observation', { reference: 'Patient/B7' }) }),
    inside: false,
  },
  {
    says: 'a Bundle that includes another patient',
    value: bundle({ resource: own('Observation') }, { resource: patient('B7'), search: { mode: 'include' } }),
    inside: false,
  },
  {
    says: 'a Bundle with a row of unknown type',
    value: bundle({ resource: { resourceType: 'Basic', subject: { reference: 'Patient/A1' } } }),
    inside: false,
  },
  { says: 'a Bundle in a Bundle', value: bundle({ resource: bundle({ resource: own('Condition') }) }), inside: true },
  { says: 'a Bundle in a Bundle in a Bundle', value: bundle({ resource: bundle({ resource: bundle() }) }), inside: false },
  {
    says: 'a Bundle in an Observation',
    value: own('Observation', { x: bundle() }),
    inside: false,
  },
  {
    says: 'a Bundle whose entry is no list',
    value: { resourceType: 'Bundle', entry: { resource: own('Observation') } },
    inside: false,
  },
  { says: 'a Bundle whose entry is itself a resource of another', value: bundle(patient('B7')), inside: false },
  {
    says: 'a Bundle whose entry is itself a reference',
    value: bundle({ type: 'Patient', identifier: OTHER_MRN }),
    inside: false,
  },
  { says: 'a Bundle whose entry is a string', value: bundle('x'), inside: false },
  { says: 'a urn of the patient', value: inEntry({ reference: URN }), inside: true },
  { says: 'a urn of another patient', value: inEntry({ reference: URN }, patient('B7')), inside: false },
  { says: 'a urn of another entry', value: inEntry({ reference: URN }, own('Encounter')), inside: false },
  { says: 'a urn of no entry', value: inEntry({ reference: `${URN}0` }), inside: false },
  { says: 'a urn in another case', value: inEntry({ reference: URN.toUpperCase() }), inside: false },
  {
    says: 'a urn of the Bundle around',
    value: bundle(
      { fullUrl: URN, resource: patient() },
      { resource: bundle({ resource: record('Observation', { reference: URN }) }) },
    ),
    inside: false,
  },
  {
    says: 'one fullUrl twice',
    value: bundle({ fullUrl: URN, resource: patient() }, { fullUrl: URN, resource: patient() }),
    inside: false,
  },
  { says: 'a fullUrl that is no string', value: bundle({ fullUrl: 7, resource: patient() }), inside: false },
  {
    says: 'a fullUrl of this base',
    value: bundle({ fullUrl: `${BASE}/Observation/r-1`, resource: own('Observation') }),
    inside: true,
  },
  {
    says: 'a fullUrl of another base over relative references',
    value: bundle({ fullUrl: 'https://other.example/r4/Observation/r-1', resource: own('Observation') }),
    inside: false,
  },
  {
    says: 'a fullUrl of another base over absolute references',
    value: bundle({
      fullUrl: 'https://other.example/r4/Observation/r-1',
      resource: record('Observation', { reference: `${BASE}/Patient/A1` }),
    }),
    inside: true,
  },
  {
    says: 'the patient under another base',
    value: bundle({ fullUrl: 'https://other.example/r4/Patient/A1', resource: patient() }),
    inside: false,
  },
  {
    says: 'a fullUrl that names another patient',
    value: bundle({ fullUrl: `${BASE}/Patient/B7`, resource: own('Observation') }),
    inside: false,
  },
  {
    says: 'an entry whose request names another',
    value: bundle({ request: { method: 'GET', url: 'Patient/B7/_history' } }),
    inside: false,
  },
  ...[
    [`${BASE}/Observation?patient=A1&_count=20`, true],
    [`${BASE}/Observation?subject=Patient/A1`, true],
    [`${BASE}/Observation?subject=Patient%2FA1&code=http%3A%2F%2Floinc.org%7C4548-4`, true],
    [`${BASE}/Observation?subject:Patient=A1`, true],
    [`${BASE}/Patient?_id=A1&_format=json`, true],
    [`${BASE}?_getpages=0b1c&_getpagesoffset=20`, true],
    [`${BASE}/Patient/A1/Observation`, true],
    [`${BASE}/Observation?patient=B7`, false],
    [`${BASE}/Observation?patient=A1,B7`, false],
    [`${BASE}/Observation?subject=Patient/B7`, false],
    [`${BASE}/Observation?subject=Patient%2FB7`, false],
    [`${BASE}/Observation?subject=Patient%252FB7`, false],
    [`${BASE}/Observation?code=1%26patient=B7`, false],
    [`${BASE}/Observation?subject=https://other.example/r4/Patient/A1`, false],
    [`${BASE}/Observation?subject:Patient.name=Bauer`, false],
    [`${BASE}/Observation?patient.identifier=x|1`, false],
    [`${BASE}/Observation?patient=A1&_has:Group:member:_id=1`, false],
    [`${BASE}/Patient?_id=B7`, false],
    [`${BASE}/Patient?name=Bauer`, false],
    [`${BASE}/Patient?identifier=x|1`, false],
    [`${BASE}/Patient/B7/$everything`, false],
    [`https://other.example/r4/Patient/A1/Observation`, false],
    ['Patient/B7/Observation', false],
  ].map(([url, inside]) => ({
    says: `a link to ${url}`,
    value: { ...bundle(), link: [{ relation: 'self', url }] },
    inside: inside === true,
  })),
  // Contained
  { says: 'a contained Patient known by identifier', value: withPatient({ identifier: [OTHER_MRN, MRN] }), inside: true },
  {
    says: 'a contained Patient with the local id of the patient',
    value: record('Observation', { reference: '#A1' }, { contained: [DOC, patient()] }),
    inside: false,
  },
  { says: 'a contained Patient unknown', value: withPatient({ identifier: [OTHER_MRN] }), inside: false },
  { says: 'a contained Patient without identifier', value: withPatient({ name: [{ family: 'Archer' }] }), inside: false },
  {
    says: 'a contained Patient beside the anchor',
    value: own('Observation', { contained: [DOC, patient('B7')] }),
    inside: false,
  },
  {
    says: 'a contained row of the patient',
    value: own('DiagnosticReport', {
      contained: [DOC, { resourceType: 'Observation', id: 'o', subject: { reference: 'Patient/A1' } }],
    }),
    inside: true,
  },
  {
    says: 'a contained row of another',
    value: own('DiagnosticReport', {
      contained: [DOC, { resourceType: 'Observation', id: 'o', subject: { reference: 'Patient/B7' } }],
    }),
    inside: false,
  },
  {
    says: 'a contained row of nobody',
    value: own('DiagnosticReport', {
      contained: [DOC, { resourceType: 'Observation', id: 'o' }],
    }),
    inside: false,
  },
  {
    says: 'a contained row of unknown type',
    value: own('DiagnosticReport', {
      contained: [DOC, { resourceType: 'Coverage', id: 'o' }],
    }),
    inside: false,
  },
  {
    says: 'contained in contained',
    value: own('DiagnosticReport', {
      contained: [DOC, { resourceType: 'Practitioner', id: 'a', contained: [DOC, { resourceType: 'Location', id: 'b' }] }],
    }),
    inside: false,
  },
  {
    says: 'two contained of one id',
    value: own('DiagnosticReport', {
      contained: [DOC, { resourceType: 'Practitioner', id: 'a' }, { resourceType: 'Location', id: 'a' }],
    }),
    inside: false,
  },
  {
    says: 'contained that is no list',
    value: own('Observation', { contained: {} }),
    inside: false,
  },
  {
    says: 'contained without id',
    value: own('Observation', { contained: [DOC, { resourceType: 'Location' }] }),
    inside: false,
  },
  // References beside the anchor
  ...[
    ['an extension', { extension: [{ url: 'x', extension: [{ url: 'y', valueReference: { reference: 'Patient/B7' } }] }] }],
    ['a modifier extension', { modifierExtension: [{ url: 'x', valueReference: { reference: 'Patient/B7' } }] }],
    ['a primitive extension', { _status: { extension: [{ url: 'x', valueReference: { reference: 'Patient/B7' } }] } }],
    ['a uri', { extension: [{ url: 'x', valueUri: `${BASE}/Patient/B7` }] }],
    ['a string', { valueString: 'Patient/B7' }],
    ['a narrative', { text: { div: '<div>see <a href="Patient/B7">the sister</a></div>' } }],
    ['a note in prose', { note: [{ text: 'as discussed for Patient/B7 yesterday' }] }],
    ['a key', { x: { 'Patient/B7': true } }],
    ['a URI of a resource', { x: 'patient://B7/labs' }],
    ['a string of JSON', { valueString: JSON.stringify({ subject: { reference: 'Patient/B7' } }) }],
    ['a logical reference', { performer: [{ type: 'Patient', identifier: OTHER_MRN }] }],
    ['a logical reference of no type', { performer: [{ identifier: OTHER_MRN }] }],
    ['an absolute reference', { performer: [{ reference: 'https://other.example/r4/Patient/B7' }] }],
    ['a path through another', { performer: [{ reference: 'https://other.example/r4/Patient/B7/Observation/1' }] }],
    ['a conditional reference', { encounter: { reference: 'Encounter?subject=Patient/B7' } }],
    ['an unresolvable reference', { encounter: { reference: URN } }],
    ['a reference said to be of a patient', { performer: [{ reference: 'Practitioner/1', type: 'Patient' }] }],
    ['a resource of another', { x: [[{ y: record('Observation', { reference: 'Patient/B7' }) }]] }],
  ].map(([says, more]) => ({
    says: `another patient in ${says}`,
    value: own('Observation', { ...(more as Json) }),
    inside: false,
  })),
  // Other JSON
  { says: 'nothing', value: null, inside: true },
  { says: 'numbers', value: [1, 2, { total: 3, ok: true }], inside: true },
  { says: 'rows in a list', value: { results: [own('Observation'), own('Condition')] }, inside: true },
  {
    says: 'a row of another in a list',
    value: { results: [own('Observation'), record('Condition', { reference: 'Patient/B7' })] },
    inside: false,
  },
  { says: 'a Reference', value: { source: { reference: 'Patient/A1' } }, inside: true },
  { says: 'a Reference to another', value: { source: { reference: 'Patient/B7' } }, inside: false },
  { says: 'a Reference by urn', value: { source: { reference: URN } }, inside: false },
  { says: 'a logical reference', value: { source: { identifier: OTHER_MRN } }, inside: false },
  { says: 'an opaque reference', value: { source: { reference: 'r_8f3a', by: 'labs' } }, inside: true },
  { says: 'a string of the patient', value: 'Patient/A1', inside: true },
  { says: 'a string of another', value: { about: 'Patient/B7' }, inside: false },
  { says: 'a scope string', value: 'patient/Observation.rs launch/patient', inside: true },
  { says: 'a string of JSON of the patient', value: JSON.stringify(own('Observation')), inside: true },
  {
    says: 'a string of JSON of another',
    value: { text: ` ${JSON.stringify([record('Observation', { reference: 'Patient/B7' })])}` },
    inside: false,
  },
  { says: 'a string of JSON with a key twice', value: '{"a":1,"a":2}', inside: false },
  { says: 'a fence around a resource', value: 'Here: ```json\n{"resourceType": "Patient", "id": "B7"}\n```', inside: false },
  { says: 'a resource as YAML', value: 'resourceType: Patient\nid: B7', inside: false },
  { says: 'a resource as XML', value: '<Patient xmlns="http://hl7.org/fhir"><id value="B7"/></Patient>', inside: false },
  { says: 'a function', value: { f: () => 1 }, inside: false },
  { says: 'a bigint', value: 1n, inside: false },
  { says: 'an object that rewrites itself', value: { toJSON: () => patient('B7') }, inside: false },
  { says: 'a list that rewrites itself', value: [Object.assign([], { toJSON: () => patient('B7') })], inside: false },
  { says: 'a boxed string', value: { note: Object('Patient/B7') }, inside: false },
  { says: 'a boxed number', value: { note: Object(7) }, inside: false },
  {
    says: 'an instance with members of its own',
    value: new (class Row {
      readonly value = 7;
    })(),
    inside: true,
  },
  { says: 'the shortest mention', value: 'Patient/B', inside: false },
  { says: 'the shortest query', value: '?_has=', inside: false },
  { says: 'texts too short to name anybody', value: { a: '?', b: '%50', c: '[]', d: '{' }, inside: true },
  {
    says: 'an anchor from a prototype',
    value: Object.assign(Object.create({ subject: { reference: 'Patient/A1' } }), { resourceType: 'Observation' }),
    inside: false,
  },
  { says: 'a member named __proto__', value: JSON.parse('{"__proto__":{"reference":"Patient/B7"}}'), inside: false },
  // Options
  {
    says: 'a relative anchor from an unknown source',
    value: own('Observation'),
    inside: false,
    options: { sourceBase: undefined },
  },
  {
    says: 'an absolute anchor from an unknown source',
    value: record('Observation', { reference: `${BASE}/Patient/A1` }),
    inside: true,
    options: { sourceBase: undefined },
  },
  { says: 'the patient from an unknown source', value: patient(), inside: false, options: { sourceBase: undefined } },
  {
    says: 'a relative anchor from another source',
    value: own('Observation'),
    inside: false,
    options: { sourceBase: 'https://other.example/r4' },
  },
  { says: 'a source with a trailing slash', value: own('Observation'), inside: true, options: { sourceBase: `${BASE}/` } },
  { says: 'a source that is no URL', value: own('Observation'), inside: false, options: { sourceBase: 'r4' } },
  {
    says: 'a known identifier when none is known',
    value: record('Observation', { identifier: MRN }),
    inside: false,
    options: { identifiers: undefined },
  },
];

type Check = (value: unknown, options: CompartmentOptions) => CompartmentVerdict;
const wrong = (check: Check) =>
  CASES.filter(({ value, options, inside }) => check(value, { ...OPTIONS, ...options }).inside !== inside);

describe('checkCompartment', () => {
  it('keeps no base for another, however many there are', () => {
    for (let round = 0; round < 2; round += 1) {
      for (let server = 0; server < 100; server += 1) {
        const fhirServer = `https://ehr-${server}.example/r4`;
        const own = { reference: `${fhirServer}/Patient/A1` };
        const next = { reference: `https://ehr-${server + 1}.example/r4/Patient/A1` };
        const of = (subject: object) =>
          checkCompartment(
            { resourceType: 'Observation', subject },
            { patient: { fhirServer, patient: 'A1' }, sourceBase: fhirServer },
          );
        expect([of(own).inside, of(next).inside]).toEqual([true, false]);
      }
    }
  });

  const titled = (inside: boolean) => CASES.filter((one) => one.inside === inside).map((one) => [one.says, one] as const);
  it.each(titled(true))('admits %s', (_says, { value, options }) => {
    expect(checked(value, options)).toMatchObject({ inside: true });
  });
  it.each(titled(false))('withholds %s', (_says, { value, options }) => {
    expect(checked(value, options)).toMatchObject({ inside: false });
  });

  it.each([
    'subject',
    'patient',
    'performer',
    'recorder',
    'encounter',
    'contained',
    'extension',
    'modifierExtension',
    '_status',
    'text',
    'note',
    'link',
    'other',
    'fullUrl',
    'request',
    'url',
    'entry',
    'resource',
    'identifier',
    'type',
    'reference',
    '_reference',
    'diagnostics',
    'details',
    'valueString',
    'valueUri',
    'toJSON',
    '__proto__',
    'Patient/B7',
    'results',
    'about',
  ])('its own table catches a checker that is blind to "%s"', (path) => {
    const without = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(without);
      if (typeof value !== 'object' || value === null) return value;
      return Object.fromEntries(
        Object.keys(value).flatMap((key) => (key === path ? [] : [[key, without((value as Json)[key])]])),
      );
    };
    expect(wrong(checkCompartment)).toEqual([]);
    expect(wrong((value, options) => checkCompartment(without(value), options)).length).toBeGreaterThan(0);
  });

  it('says why in fixed words', () => {
    const reason = (value: unknown) => checked(value);
    expect(reason(record('Observation', { reference: 'Patient/B7' }))).toMatchObject({
      inside: false,
      reason: 'another patient',
    });
    expect(reason(record('Observation', undefined))).toEqual({ inside: false, reason: 'no subject' });
    expect(reason(record('Observation', { reference: URN }))).toEqual({ inside: false, reason: 'reference of unknown target' });
    expect(reason({ resourceType: 'Claim' })).toEqual({ inside: false, reason: 'unknown resource type' });
    expect(reason({ resourceType: 'Location', x: 'Patient/A1' })).toEqual({
      inside: false,
      reason: 'patient in a directory resource',
    });
  });

  it('counts resources by type, and as unverifiable attachments and undeclared JSON', () => {
    const value = { results: bundle({ resource: own('Observation') }, { resource: own('Observation') }), hint: 'rising' };
    const types = { Bundle: 1, Observation: 2, Practitioner: 2 };
    expect(checked(value)).toEqual({ inside: true, types, resources: 5, unverifiable: 1 });
    expect(checked(value, { declared: true })).toEqual({ inside: true, types, resources: 5, unverifiable: 0 });
    expect(checked(own('Observation'))).toMatchObject({ unverifiable: 0 });
    const form = { presentedForm: [{ contentType: 'application/pdf', data: 'JVBERi0=' }] };
    const report = record('DiagnosticReport', { reference: 'Patient/A1' }, form);
    expect(checked(report, { declared: true })).toMatchObject({ inside: true, unverifiable: 1 });
  });

  it('looks 40 levels deep and no deeper', () => {
    const nest = (levels: number) => {
      let value: unknown = 'x';
      for (let i = 0; i < levels; i += 1) value = i % 2 === 0 ? [value] : { v: value };
      return value;
    };
    expect(checked(nest(40))).toMatchObject({ inside: true });
    expect(checked(nest(41))).toEqual({ inside: false, reason: 'too deep' });
    const ring: Json = {};
    ring.self = ring;
    expect(checked(ring)).toEqual({ inside: false, reason: 'too deep' });
  });

  it('stays linear on long strings made to be slow', () => {
    const hostile = ['Patient/A1,', `"${BASE}/Patient/A1`, 'Patient/', '?patient=A1&', '%25', '{"a":', '?', '/', 'Patient/kin '];
    const before = performance.now();
    for (const part of hostile) checked({ text: part.repeat(Math.ceil(200_000 / part.length)) });
    expect(performance.now() - before).toBeLessThan(4000);
  });
});

describe('one foreign reference anywhere', () => {
  const seeds = [
    ...TYPES.map((type) => own(type)),
    patient(),
    bundle({ fullUrl: URN, resource: patient() }, { resource: record('Observation', { reference: URN }) }),
  ];
  const foreign = fc.constantFrom<unknown>(
    { reference: 'Patient/B7' },
    { reference: `${BASE}/Patient/B7` },
    { reference: 'https://other.example/r4/Patient/A1' },
    { reference: 'Patient/A10/_history/1' },
    { type: 'Patient', identifier: OTHER_MRN },
    'Patient/B7',
    patient('B7'),
    JSON.stringify({ reference: 'Patient/B7' }),
  );
  /** Every place a member or an item can be added to. */
  function holders(value: unknown): (Json | unknown[])[] {
    if (typeof value !== 'object' || value === null) return [];
    return [value as Json | unknown[], ...Object.values(value).flatMap(holders)];
  }

  it('flips the verdict of a valid resource, whatever its path', () => {
    fc.assert(
      fc.property(fc.nat(seeds.length - 1), fc.nat(), foreign, fc.boolean(), (which, where, what, wrapped) => {
        const value = structuredClone(seeds[which]);
        expect(checked(value)).toMatchObject({ inside: true });
        const places = holders(value);
        const place = places[where % places.length];
        const added = wrapped ? { extra: [what] } : what;
        if (Array.isArray(place)) place.splice(where % (place.length + 1), 0, added);
        else if (place) place[`extra${where % 7}`] = added;
        expect(checked(value)).toMatchObject({ inside: false });
      }),
      { numRuns: 2000 },
    );
  });

  it('never admits text of somebody else by any JSON at all, and never throws', () => {
    const json = fc.jsonValue({ maxDepth: 6 });
    fc.assert(
      fc.property(json, foreign, (value, what) => {
        expect(typeof checked(value).inside).toBe('boolean');
        expect(checked([value, what])).toMatchObject({ inside: false });
      }),
      { numRuns: 500 },
    );
  });
});

describe('checkText', () => {
  it.each([
    ['JSON of the patient', JSON.stringify(own('Observation')), { inside: true, unverifiable: 0 }],
    ['prose', 'HbA1c rose from 6.1 to 7.4 since May.', { inside: true, resources: 0, unverifiable: 1 }],
    ['an empty text', '', { inside: true, unverifiable: 1 }],
    ['undeclared JSON', '{"newest":7.4}', { inside: true, unverifiable: 1 }],
    [
      'JSON of another',
      JSON.stringify(record('Observation', { reference: 'Patient/B7' })),
      { inside: false, reason: 'another patient' },
    ],
    ['prose that names another', 'compare with Patient/B7', { inside: false, reason: 'another patient' }],
    [
      'a subject twice',
      '{"resourceType":"Observation","subject":{"reference":"Patient/B7"},"subject":{"reference":"Patient/A1"}}',
      { inside: false, reason: 'duplicate key' },
    ],
    [
      'a subject twice, once escaped',
      '{"resourceType":"Observation","subject":{"reference":"Patient/A1"},"\\u0073ubject":{"reference":"Patient/B7"}}',
      { inside: false, reason: 'duplicate key' },
    ],
    ['an escaped name of another', '{"x":"\\u0050atient\\/B7"}', { inside: false, reason: 'another patient' }],
    [
      'lines of JSON',
      `${JSON.stringify(patient())}\n${JSON.stringify(patient('B7'))}`,
      { inside: false, reason: 'FHIR in free text' },
    ],
    ['JSON cut short', JSON.stringify(patient('B7')).slice(0, -1), { inside: false, reason: 'FHIR in free text' }],
  ])('judges %s', (_what, text, expected) => expect(checkText(text, OPTIONS)).toMatchObject(expected));

  it('counts declared JSON as checked, free text never', () => {
    expect(checkText('{"newest":7.4}', { ...OPTIONS, declared: true })).toMatchObject({ unverifiable: 0 });
    expect(checkText('rising', { ...OPTIONS, declared: true })).toMatchObject({ unverifiable: 1 });
  });

  it('adds the parts of an answer up, and one part outside puts all outside', () => {
    const parts = [checked(own('Observation')), checkText('rising', OPTIONS), checked(own('Observation'))];
    expect(combineVerdicts(parts)).toEqual({
      inside: true,
      types: { Observation: 2, Practitioner: 2 },
      resources: 4,
      unverifiable: 1,
    });
    expect(combineVerdicts([...parts, checked(patient('B7'))])).toMatchObject({ inside: false, reason: 'another patient' });
    expect(combineVerdicts([])).toEqual({ inside: true, types: {}, resources: 0, unverifiable: 0 });
  });
});

const folder = process.env.HMCP_DATA;
const because = folder === undefined ? ' (skipped: HMCP_DATA is not set)' : '';

describe('real charts', () => {
  it.skipIf(folder === undefined)(`are inside for their own patient and outside for every other${because}`, () => {
    const charts = readCharts(folder ?? '');
    expect(charts.length).toBeGreaterThan(1);
    for (const chart of charts) {
      for (const { id } of charts) {
        const options = { patient: { fhirServer: BASE, patient: id }, sourceBase: BASE };
        expect(checkCompartment(chart.whole, options).inside).toBe(chart.id === id);
        const verdicts = chart.rows.filter((row) => checkCompartment(row, options).inside !== (chart.id === id));
        expect(verdicts.map((row) => row.resourceType)).toEqual([]);
      }
    }
  });
});

interface Chart {
  readonly id: string;
  readonly whole: Json;
  readonly rows: Json[];
}

/** Charts cut to the types that have a row; `rows` with their urns turned into relative references, as a FHIR server has them. */
function readCharts(from: string): Chart[] {
  const served = new Set<unknown>([...TYPES, 'Patient', 'Practitioner', 'Organization', 'Location', 'Medication']);
  return readdirSync(from)
    .filter((file) => file.endsWith('.json'))
    .flatMap((file): Chart[] => {
      const whole = JSON.parse(readFileSync(join(from, file), 'utf8')) as {
        resourceType?: string;
        entry?: { fullUrl?: string; resource: Json }[];
      };
      const all = whole.entry ?? [];
      const entry = all.filter(({ resource }) => served.has(resource.resourceType));
      const id = entry.find(({ resource }) => resource.resourceType === 'Patient')?.resource.id;
      if (whole.resourceType !== 'Bundle' || typeof id !== 'string') return [];
      const urns = new Map(all.map(({ fullUrl, resource }) => [fullUrl, `${resource.resourceType}/${resource.id}`]));
      const relative = JSON.parse(
        JSON.stringify(entry).replace(/urn:uuid:[0-9a-f-]+/g, (urn) => urns.get(urn) ?? urn),
      ) as typeof entry;
      const rows = relative
        .map(({ resource }) => resource)
        .filter(({ resourceType }) => resourceType === 'Patient' || TYPES.some((type) => type === resourceType));
      return [{ id, whole: { ...whole, entry }, rows }];
    });
}
