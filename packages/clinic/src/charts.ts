import type { Resource } from './fhir-resource.js';
import { isLaboratory } from './laboratory.js';
import type { Records } from './records.js';

const UNNAMED = 'unnamed';

/** What a picker or directory shows of a person, and nothing more. @see protocol section 7 */
export interface PatientSummary {
  readonly id: string;
  readonly name: string;
  /** `YYYY-MM-DD`, or shorter where the record is; empty when unknown. */
  readonly birthDate: string;
  readonly gender: string;
  /** Last four characters of the record number (or of the first identifier); empty when there is none. */
  readonly identifierLast4: string;
}

/** A chart that can be asked about. */
export interface Chart {
  readonly patient: PatientSummary;
  readonly family: string;
  /** Laboratory results with a value. */
  readonly laboratoryResults: number;
}

/** Fewer than two charts have a laboratory result. The message is a sentence for the person at the keyboard. */
export class TooFewCharts extends Error {
  readonly code = 'too_few_charts';

  constructor(found: number) {
    super(`Two charts with at least one laboratory result are needed; the records hold ${found === 1 ? 'one' : 'none'}.`);
    this.name = 'TooFewCharts';
  }
}

/** True when a picker can show this person well enough to be told from others: by a name and a date of birth. */
export function isPickable({ name, birthDate }: PatientSummary): boolean {
  return name !== UNNAMED && name.length <= 200 && /^\d{4}(-\d{2}(-\d{2})?)?$/.test(birthDate);
}

/** Everybody in the records, by id. */
export function patientSummaries(records: Records): readonly PatientSummary[] {
  return records
    .ofType('Patient')
    .map(summaryOf)
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}

/**
 * The two charts a story is told on: the pair of one family name with most laboratory results together where there is
 * such a pair, else the two charts with most. `a` has at least as many as `b`; ties go by id.
 * @throws {TooFewCharts}
 */
export function chooseCharts(records: Records): { readonly a: Chart; readonly b: Chart; readonly oneFamilyName: boolean } {
  const charts = records
    .ofType('Patient')
    .map((patient): Chart => {
      const laboratoryResults = records
        .ofPatient(patient.id, 'Observation')
        .filter((it) => isLaboratory(it) && hasValue(it)).length;
      return { patient: summaryOf(patient), family: nameOf(patient).family, laboratoryResults };
    })
    .filter((chart) => chart.laboratoryResults > 0 && isPickable(chart.patient))
    .sort((x, y) => y.laboratoryResults - x.laboratoryResults || (x.patient.id < y.patient.id ? -1 : 1));

  const families = new Map<string, Chart[]>();
  for (const chart of charts) {
    const family = chart.family.trim().toLowerCase();
    if (family !== '') families.set(family, [...(families.get(family) ?? []), chart]);
  }
  let best: { a: Chart; b: Chart } | undefined;
  for (const [a, b] of families.values()) {
    if (a === undefined || b === undefined) continue;
    const total = a.laboratoryResults + b.laboratoryResults;
    if (best === undefined || total > best.a.laboratoryResults + best.b.laboratoryResults) best = { a, b };
  }
  if (best) return { ...best, oneFamilyName: true };
  const [a, b] = charts;
  if (a === undefined || b === undefined) throw new TooFewCharts(charts.length);
  return { a, b, oneFamilyName: false };
}

function hasValue(observation: Resource): boolean {
  return Object.keys(observation).some((element) => /^value[A-Z]/.test(element));
}

function summaryOf(patient: Resource): PatientSummary {
  const { given, family } = nameOf(patient);
  return {
    id: patient.id,
    name: [given, family].filter((part) => part !== '').join(' ') || UNNAMED,
    birthDate: textOf(patient.birthDate),
    gender: textOf(patient.gender) || 'unknown',
    identifierLast4: recordNumber(patient).slice(-4),
  };
}

function nameOf(patient: Resource): { given: string; family: string } {
  const names = objectsOf(patient.name);
  const name = names.find(({ use }) => use === 'official') ?? names.find(({ use }) => use === 'usual') ?? names[0];
  const given = Array.isArray(name?.given) ? name.given.filter((part) => typeof part === 'string').join(' ') : '';
  return { given, family: textOf(name?.family) };
}

function recordNumber(patient: Resource): string {
  const identifiers = objectsOf(patient.identifier).filter(({ value }) => typeof value === 'string');
  const isRecordNumber = ({ type }: Record<string, unknown>) =>
    objectsOf((type as { coding?: unknown } | undefined)?.coding).some(({ code }) => code === 'MR');
  return textOf((identifiers.find(isRecordNumber) ?? identifiers[0])?.value);
}

function objectsOf(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'object' && item !== null) : [];
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
