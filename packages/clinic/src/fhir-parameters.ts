import { DIRECTORY_TYPES } from './fhir-resource.js';

/**
 * A search parameter served for a type: its kind and the elements it reads. `code` is a token on an element of type code,
 * whose system stands in its definition and not in the data.
 */
export interface SearchParameter {
  readonly kind: 'token' | 'code' | 'date';
  readonly elements: readonly string[];
}

const token = (...elements: string[]): SearchParameter => ({ kind: 'token', elements });
const code = (element: string): SearchParameter => ({ kind: 'code', elements: [element] });
const date = (...elements: string[]): SearchParameter => ({ kind: 'date', elements });
const identifier = token('identifier');
const status = code('status');

/**
 * The types served and their parameters, beside `_id` and those that name the patient. Fixed, whatever the records hold:
 * which types exist would say something about somebody.
 */
const PARAMETERS: ReadonlyMap<string, Readonly<Record<string, SearchParameter>>> = new Map(
  Object.entries({
    AllergyIntolerance: { code: token('code'), category: code('category'), 'clinical-status': token('clinicalStatus') },
    CarePlan: { category: token('category'), status, date: date('period') },
    CareTeam: { status },
    Claim: { status },
    Condition: {
      category: token('category'),
      code: token('code'),
      'clinical-status': token('clinicalStatus'),
      'onset-date': date('onsetDateTime', 'onsetPeriod'),
    },
    Coverage: { status },
    Device: { type: token('type'), status },
    DiagnosticReport: {
      category: token('category'),
      code: token('code'),
      status,
      date: date('effectiveDateTime', 'effectivePeriod'),
    },
    DocumentReference: { type: token('type'), category: token('category'), status, date: date('date') },
    Encounter: { class: token('class'), type: token('type'), status, date: date('period') },
    ExplanationOfBenefit: { status },
    Goal: { 'lifecycle-status': code('lifecycleStatus') },
    ImagingStudy: { status, started: date('started') },
    Immunization: { 'vaccine-code': token('vaccineCode'), status, date: date('occurrenceDateTime') },
    Location: { identifier },
    Media: { status },
    Medication: { code: token('code') },
    MedicationAdministration: { code: token('medicationCodeableConcept'), status },
    MedicationRequest: {
      code: token('medicationCodeableConcept'),
      category: token('category'),
      intent: code('intent'),
      status,
      authoredon: date('authoredOn'),
    },
    Observation: {
      category: token('category'),
      code: token('code'),
      status,
      date: date('effectiveDateTime', 'effectivePeriod', 'effectiveInstant'),
    },
    Organization: { identifier },
    Patient: { identifier },
    Practitioner: { identifier },
    PractitionerRole: { identifier },
    Procedure: { code: token('code'), status, date: date('performedDateTime', 'performedPeriod') },
    Provenance: {},
    ServiceRequest: { code: token('code'), category: token('category'), status },
    Specimen: { type: token('type') },
    SupplyDelivery: { status },
  } satisfies Record<string, Record<string, SearchParameter>>),
);

/** Types whose patient is in another element than `subject`. */
const NO_SUBJECT = new Set([
  'AllergyIntolerance',
  'Claim',
  'Coverage',
  'Device',
  'ExplanationOfBenefit',
  'Immunization',
  'Provenance',
  'SupplyDelivery',
]);

/** Every type that can be read and searched. */
export const SERVED_TYPES: ReadonlySet<string> = new Set(PARAMETERS.keys());

/** The parameter of that name of a type; those that name the patient are left to {@link parseSearch}. */
export function searchParameter(type: string, name: string): SearchParameter | undefined {
  return new Map(Object.entries(PARAMETERS.get(type) ?? {})).get(name);
}

/** Names of a type's parameters, as a CapabilityStatement lists them. */
export function searchParameterTypes(type: string): readonly { readonly name: string; readonly type: string }[] {
  return [
    { name: '_id', type: 'token' },
    ...patientParameters(type).map((name) => ({ name, type: 'reference' })),
    ...Object.entries(PARAMETERS.get(type) ?? {}).map(([name, { kind }]) => ({ name, type: kind === 'date' ? 'date' : 'token' })),
  ];
}

/** Names of the parameters that name the patient of a type; none for directory types. */
export function patientParameters(type: string): readonly string[] {
  if (DIRECTORY_TYPES.has(type) || type === 'Patient') return [];
  return NO_SUBJECT.has(type) ? ['patient'] : ['patient', 'subject'];
}

/** True for the values of `_format` that name JSON. */
export function isJsonFormat(value: string): boolean {
  return ['json', 'application/json', 'application/fhir+json'].includes(value);
}
