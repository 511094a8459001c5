import * as z from 'zod';
import { type AdultRange, adultRange } from './reference-ranges.js';

/** One measured value of an analyte. */
export const LaboratoryValue = z.strictObject({
  value: z.number(),
  /** UCUM. */
  unit: z.string(),
  /** When the specimen was taken, as the record says it (FHIR dateTime). */
  date: z.string(),
  /** Opaque reference to the Observation. */
  source: z.string(),
});
export type LaboratoryValue = z.infer<typeof LaboratoryValue>;

/** An analyte whose newest value is out of range, with the value before it. */
export const OutOfRangeResult = z.strictObject({
  loinc: z.string(),
  analyte: z.string(),
  /** `abnormal`: the laboratory flagged it without saying which way. */
  direction: z.enum(['high', 'low', 'abnormal']),
  newest: LaboratoryValue,
  /** The latest earlier value in the same unit. */
  previous: LaboratoryValue.optional(),
  /** What the judgement rests on, first to last choice: the laboratory's flag, its printed range, our table. */
  basis: z.enum(['interpretation', 'referenceRange', 'adult table']),
});
export type OutOfRangeResult = z.infer<typeof OutOfRangeResult>;

/** How observations are judged. */
export interface JudgeOptions {
  /** Makes the opaque reference of `Observation/id`. */
  readonly source: (reference: string) => string;
  /** Chooses between women's and men's ranges; the wider of both when unknown. */
  readonly gender?: string | undefined;
  /** `YYYY-MM-DD`. The adult table is left out for whoever was under 18 then; taken for an adult when unknown. */
  readonly birthDate?: string | undefined;
}

const Coding = z.object({ system: z.string().optional(), code: z.string().optional(), display: z.string().optional() });
const Concept = z.object({ coding: z.array(Coding).optional(), text: z.string().optional() });
const Quantity = z.object({
  value: z.number().optional(),
  unit: z.string().optional(),
  code: z.string().optional(),
  comparator: z.string().optional(),
});
const Range = z.object({
  low: Quantity.optional(),
  high: Quantity.optional(),
  type: Concept.optional(),
  appliesTo: z.array(z.unknown()).optional(),
  age: z.unknown().optional(),
});
const Observation = z.object({
  resourceType: z.literal('Observation'),
  id: z.string(),
  status: z.string(),
  category: z.array(Concept).optional(),
  code: Concept,
  valueQuantity: Quantity.optional(),
  effectiveDateTime: z.string().optional(),
  effectiveInstant: z.string().optional(),
  effectivePeriod: z.object({ start: z.string().optional(), end: z.string().optional() }).optional(),
  issued: z.string().optional(),
  interpretation: z.array(Concept).optional(),
  referenceRange: z.array(Range).optional(),
});
type Observation = z.infer<typeof Observation>;

interface Measured extends LaboratoryValue {
  readonly observation: Observation;
  readonly time: number;
  readonly exact: boolean;
}

const CATEGORY_SYSTEM = 'http://terminology.hl7.org/CodeSystem/observation-category';
const REPORTED: ReadonlySet<string> = new Set(['final', 'amended', 'corrected']);
const FLAGS: Readonly<Record<string, 'high' | 'low' | 'abnormal' | 'normal'>> = {
  H: 'high',
  HH: 'high',
  HU: 'high',
  '>': 'high',
  L: 'low',
  LL: 'low',
  LU: 'low',
  '<': 'low',
  A: 'abnormal',
  AA: 'abnormal',
  N: 'normal',
};

/** True for an Observation of category `laboratory`. */
export function isLaboratory(resource: unknown): boolean {
  const parsed = z.object({ resourceType: z.literal('Observation'), category: z.array(Concept) }).safeParse(resource);
  return parsed.success && parsed.data.category.some(({ coding = [] }) => coding.some(isLaboratoryCategory));
}

function isLaboratoryCategory({ system, code }: z.infer<typeof Coding>): boolean {
  return code === 'laboratory' && (system === undefined || system === CATEGORY_SYSTEM);
}

/**
 * Laboratory results that are out of range now: for each LOINC code the newest reported value (final, amended, corrected)
 * is judged by the laboratory's `interpretation`, else by its `referenceRange`, else by a small adult table; older values
 * are only compared with. What cannot be judged (no number, no LOINC code or date, a unit the table does not know, a printed
 * range for some people only) is left out. Ordered by analyte. A demonstration, not medical advice.
 */
export function outOfRangeResults(observations: readonly unknown[], options: JudgeOptions): OutOfRangeResult[] {
  const byAnalyte = new Map<string, Measured[]>();
  for (const resource of observations) {
    const measured = isLaboratory(resource) ? measure(resource, options.source) : undefined;
    const loinc = measured && loincOf(measured.observation);
    if (measured && loinc?.code) byAnalyte.set(loinc.code, [...(byAnalyte.get(loinc.code) ?? []), measured]);
  }
  const results: OutOfRangeResult[] = [];
  for (const [loinc, values] of byAnalyte) {
    values.sort((a, b) => b.time - a.time || issuedTime(b) - issuedTime(a) || (a.observation.id < b.observation.id ? 1 : -1));
    const [newest] = values;
    if (newest === undefined) continue;
    const verdict = judge(newest, loinc, options);
    if (verdict === undefined || verdict.direction === 'normal') continue;
    const previous = values.find((value) => value.time < newest.time && value.unit === newest.unit && value.exact);
    results.push({
      loinc,
      analyte: newest.observation.code.text ?? loincOf(newest.observation)?.display ?? loinc,
      direction: verdict.direction,
      newest: shown(newest),
      ...(previous ? { previous: shown(previous) } : {}),
      basis: verdict.basis,
    });
  }
  return results.sort((a, b) => (a.analyte < b.analyte ? -1 : a.analyte > b.analyte ? 1 : a.loinc < b.loinc ? -1 : 1));
}

function measure(resource: unknown, source: (reference: string) => string): Measured | undefined {
  const parsed = Observation.safeParse(resource);
  if (!parsed.success || !REPORTED.has(parsed.data.status)) return undefined;
  const observation = parsed.data;
  const { value, code, unit, comparator } = observation.valueQuantity ?? {};
  const { effectiveDateTime, effectiveInstant, effectivePeriod, issued } = observation;
  const date = effectiveDateTime ?? effectiveInstant ?? effectivePeriod?.start ?? effectivePeriod?.end ?? issued;
  const time = date === undefined ? Number.NaN : Date.parse(date);
  if (value === undefined || date === undefined || Number.isNaN(time)) return undefined;
  return {
    value,
    unit: code ?? unit ?? '',
    date,
    source: source(`Observation/${observation.id}`),
    observation,
    time,
    exact: comparator === undefined,
  };
}

function judge(measured: Measured, loinc: string, options: JudgeOptions) {
  const { observation, value, exact } = measured;
  const flags = (observation.interpretation ?? []).flatMap(({ coding = [] }) => coding.map(({ code }) => FLAGS[code ?? '']));
  const flag = flags.find((it) => it === 'high' || it === 'low') ?? flags.find((it) => it !== undefined);
  if (flag !== undefined) return { direction: flag, basis: 'interpretation' as const };
  if (!exact) return undefined;
  const printed = observation.referenceRange ?? [];
  if (printed.length > 0) {
    const range = printedRange(printed, measured.unit);
    return range && { direction: compare(value, range), basis: 'referenceRange' as const };
  }
  if (isMinorAt(options.birthDate, measured.time)) return undefined;
  const range = adultRange(loinc, measured.unit, options.gender);
  return range && { direction: compare(value, range), basis: 'adult table' as const };
}

/** The one range printed for everybody, in the unit of the value. */
function printedRange(ranges: readonly z.infer<typeof Range>[], unit: string): AdultRange | undefined {
  const general = ranges.filter(({ appliesTo, age, type }) => {
    const kind = type?.coding?.[0]?.code;
    return (appliesTo ?? []).length === 0 && age === undefined && (kind === undefined || kind === 'normal');
  });
  const [range, ...others] = general;
  if (range === undefined || others.length > 0) return undefined;
  const ends = [range.low, range.high].filter((end) => end !== undefined);
  if (ends.some((end) => (end.code ?? end.unit ?? unit) !== unit || end.comparator !== undefined)) return undefined;
  const low = range.low?.value;
  const high = range.high?.value;
  return low === undefined && high === undefined ? undefined : { low, high };
}

function compare(value: number, { low, high }: AdultRange): 'high' | 'low' | 'normal' {
  if (high !== undefined && value > high) return 'high';
  return low !== undefined && value < low ? 'low' : 'normal';
}

function isMinorAt(birthDate: string | undefined, time: number): boolean {
  const born = birthDate === undefined ? Number.NaN : Date.parse(birthDate);
  if (Number.isNaN(born)) return false;
  const grownUp = new Date(born);
  grownUp.setUTCFullYear(grownUp.getUTCFullYear() + 18);
  return time < grownUp.getTime();
}

function loincOf(observation: Observation): z.infer<typeof Coding> | undefined {
  return observation.code.coding?.find(({ system, code }) => system === 'http://loinc.org' && code !== undefined);
}

function issuedTime({ observation }: Measured): number {
  return Date.parse(observation.issued ?? '') || 0;
}

function shown({ value, unit, date, source }: Measured): LaboratoryValue {
  return { value, unit, date, source };
}
