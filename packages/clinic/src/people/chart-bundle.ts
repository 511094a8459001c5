/** One laboratory panel of one day: analyte values by the keys of {@link ANALYTES}. */
export interface Panel {
  readonly on: string;
  readonly values: Readonly<Partial<Record<AnalyteName, number>>>;
  /** Interpretation codes the laboratory gave itself. */
  readonly flagged?: Readonly<Partial<Record<AnalyteName, 'H' | 'HH' | 'L' | 'LL' | 'N'>>> | undefined;
}

/** One prescription. `rxnorm` is the code of the drug as prescribed. */
export interface Prescription {
  readonly rxnorm: string;
  readonly name: string;
  readonly on: string;
  readonly status: 'active' | 'stopped' | 'completed';
  readonly dose: string;
}

/** A person of our own making: what {@link chartBundle} turns into a Bundle. Nobody real is meant. */
export interface Person {
  /** First eight hexadecimal digits of every UUID of this chart; unique among the people. */
  readonly prefix: string;
  readonly given: string;
  readonly family: string;
  readonly gender: 'female' | 'male' | 'other';
  readonly birthDate: string;
  readonly recordNumber: string;
  readonly phone: string;
  readonly street: string;
  readonly conditions: readonly { readonly snomed: string; readonly name: string; readonly on: string }[];
  readonly panels: readonly Panel[];
  readonly prescriptions: readonly Prescription[];
}

/** Analytes of the shipped charts: LOINC name and code, UCUM unit and, where the laboratory prints one, its reference range. */
const ANALYTES = {
  sodium: ['2951-2', 'Sodium [Moles/volume] in Serum or Plasma', 'mmol/L', 135, 145],
  potassium: ['2823-3', 'Potassium [Moles/volume] in Serum or Plasma', 'mmol/L', 3.5, 5.1],
  chloride: ['2075-0', 'Chloride [Moles/volume] in Serum or Plasma', 'mmol/L'],
  calcium: ['17861-6', 'Calcium [Mass/volume] in Serum or Plasma', 'mg/dL'],
  glucose: ['2345-7', 'Glucose [Mass/volume] in Serum or Plasma', 'mg/dL'],
  hba1c: ['4548-4', 'Hemoglobin A1c/Hemoglobin.total in Blood', '%', 4, 5.6],
  creatinine: ['2160-0', 'Creatinine [Mass/volume] in Serum or Plasma', 'mg/dL', 0.5, 1.2],
  urea: ['3094-0', 'Urea nitrogen [Mass/volume] in Serum or Plasma', 'mg/dL'],
  cholesterol: ['2093-3', 'Cholesterol [Mass/volume] in Serum or Plasma', 'mg/dL'],
  ldl: ['18262-6', 'Cholesterol in LDL [Mass/volume] in Serum or Plasma by Direct assay', 'mg/dL'],
  hemoglobin: ['718-7', 'Hemoglobin [Mass/volume] in Blood', 'g/dL'],
  platelets: ['777-3', 'Platelets [#/volume] in Blood by Automated count', '10*3/uL', 150, 450],
} as const satisfies Record<string, readonly [string, string, string, number?, number?]>;
type AnalyteName = keyof typeof ANALYTES;

const LOINC = 'http://loinc.org';
const UCUM = 'http://unitsofmeasure.org';
const HL7 = 'http://terminology.hl7.org/CodeSystem';
/** System of identifiers the shipped clinic gives out. */
export const CLINIC_SYSTEM = 'https://clinic.example/identifiers';
/** Identifiers of the two resources of the staff Bundle. */
export const STAFF = { practitioner: 'clinician-1', organization: 'clinic-1' } as const;

/**
 * A person's chart as a FHIR R4 transaction Bundle, shaped as Synthea shapes one: entries refer to each other by
 * `urn:uuid:` and to the staff by identifier.
 */
export function chartBundle(person: Person): object {
  const entry: object[] = [];
  let count = 0;
  const add = (resourceType: string, body: object): string => {
    count += 1;
    const id = `${person.prefix}-0000-4000-8000-${String(count).padStart(12, '0')}`;
    entry.push({
      fullUrl: `urn:uuid:${id}`,
      resource: { resourceType, id, ...body },
      request: { method: 'POST', url: resourceType },
    });
    return `urn:uuid:${id}`;
  };
  const by = { reference: `Practitioner?identifier=${CLINIC_SYSTEM}|${STAFF.practitioner}` };
  const at = { reference: `Organization?identifier=${CLINIC_SYSTEM}|${STAFF.organization}` };

  const subject = { reference: add('Patient', demographics(person)) };
  for (const { snomed, name, on } of person.conditions)
    add('Condition', {
      clinicalStatus: { coding: [{ system: `${HL7}/condition-clinical`, code: 'active' }] },
      verificationStatus: { coding: [{ system: `${HL7}/condition-ver-status`, code: 'confirmed' }] },
      code: { coding: [{ system: 'http://snomed.info/sct', code: snomed, display: name }], text: name },
      subject,
      onsetDateTime: `${on}T08:00:00Z`,
    });
  for (const panel of person.panels) {
    const effectiveDateTime = `${panel.on}T08:10:00Z`;
    const encounter = {
      reference: add('Encounter', {
        status: 'finished',
        class: { system: `${HL7}/v3-ActCode`, code: 'AMB' },
        subject,
        participant: [{ individual: by }],
        period: { start: `${panel.on}T08:00:00Z`, end: `${panel.on}T08:30:00Z` },
        serviceProvider: at,
      }),
    };
    const result = Object.entries(panel.values).map(([name, value]) => ({
      reference: add('Observation', {
        ...laboratory(name as AnalyteName, value, panel.flagged?.[name as AnalyteName]),
        subject,
        encounter,
        effectiveDateTime,
        issued: `${panel.on}T14:00:00Z`,
      }),
    }));
    add('DiagnosticReport', {
      status: 'final',
      category: [{ coding: [{ system: `${HL7}/v2-0074`, code: 'LAB', display: 'Laboratory' }] }],
      code: { coding: [{ system: LOINC, code: '24323-8' }], text: 'Laboratory panel' },
      subject,
      encounter,
      effectiveDateTime,
      result,
    });
  }
  for (const { rxnorm, name, on, status, dose } of person.prescriptions)
    add('MedicationRequest', {
      status,
      intent: 'order',
      medicationCodeableConcept: {
        coding: [{ system: 'http://www.nlm.nih.gov/research/umls/rxnorm', code: rxnorm, display: name }],
        text: name,
      },
      subject,
      authoredOn: `${on}T08:25:00Z`,
      requester: by,
      dosageInstruction: [{ text: dose }],
    });
  return { resourceType: 'Bundle', type: 'transaction', entry };
}

function demographics(person: Person): object {
  return {
    identifier: [
      {
        type: { coding: [{ system: `${HL7}/v2-0203`, code: 'MR', display: 'Medical record number' }] },
        system: `${CLINIC_SYSTEM}/records`,
        value: person.recordNumber,
      },
    ],
    active: true,
    name: [{ use: 'official', family: person.family, given: [person.given] }],
    telecom: [{ system: 'phone', value: person.phone, use: 'home' }],
    gender: person.gender,
    birthDate: person.birthDate,
    address: [{ line: [person.street], city: 'Nowhere', postalCode: '00000', country: 'ZZ' }],
  };
}

function laboratory(name: AnalyteName, value: number, flag: string | undefined): object {
  const [code, display, unit, low, high] = ANALYTES[name] as readonly [string, string, string, number?, number?];
  const quantity = (amount: number) => ({ value: amount, unit, system: UCUM, code: unit });
  return {
    status: 'final',
    category: [{ coding: [{ system: `${HL7}/observation-category`, code: 'laboratory', display: 'Laboratory' }] }],
    code: { coding: [{ system: LOINC, code, display }], text: display },
    valueQuantity: quantity(value),
    ...(flag === undefined
      ? {}
      : { interpretation: [{ coding: [{ system: `${HL7}/v3-ObservationInterpretation`, code: flag }] }] }),
    ...(low === undefined || high === undefined ? {} : { referenceRange: [{ low: quantity(low), high: quantity(high) }] }),
  };
}
