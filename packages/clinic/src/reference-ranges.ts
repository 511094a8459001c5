/** Bounds that still count as normal; an absent one is not judged. */
export interface AdultRange {
  readonly low?: number | undefined;
  readonly high?: number | undefined;
}

interface Entry extends AdultRange {
  /** UCUM spellings the bounds hold for. */
  readonly units: readonly string[];
  /** Bounds that differ for men; `low` and `high` are then the women's. */
  readonly male?: AdultRange | undefined;
}

const MASS = ['mg/dL'];
const MOLAR = ['mmol/L', 'meq/L', 'mEq/L'];
const THOUSANDS = ['10*3/uL', '10^3/uL', '10*9/L', '10^9/L'];
const MILLIONS = ['10*6/uL', '10^6/uL', '10*12/L', '10^12/L'];
const FILTRATION = ['mL/min/{1.73_m2}', 'mL/min/1.73m2', 'mL/min'];

const GLUCOSE: Entry = { units: MASS, low: 70, high: 99 };
const UREA: Entry = { units: MASS, low: 7, high: 20 };
const CREATININE: Entry = { units: MASS, low: 0.5, high: 1.1, male: { low: 0.6, high: 1.3 } };
const CALCIUM: Entry = { units: MASS, low: 8.5, high: 10.5 };
const SODIUM: Entry = { units: MOLAR, low: 135, high: 145 };
const POTASSIUM: Entry = { units: MOLAR, low: 3.5, high: 5.1 };
const CHLORIDE: Entry = { units: MOLAR, low: 96, high: 107 };
const CARBON_DIOXIDE: Entry = { units: MOLAR, low: 22, high: 30 };
const FILTRATION_RATE: Entry = { units: FILTRATION, low: 60 };
const LDL: Entry = { units: MASS, high: 130 };
const ALBUMIN: Entry = { units: ['g/dL'], low: 3.4, high: 5.4 };

/** LOINC → range. Round textbook figures for the analytes Synthea writes: enough for a demonstration, not for care. */
const ADULT: ReadonlyMap<string, Entry> = new Map([
  ['2339-0', GLUCOSE],
  ['2345-7', GLUCOSE],
  ['4548-4', { units: ['%'], high: 5.6 }],
  ['6299-2', UREA],
  ['3094-0', UREA],
  ['38483-4', CREATININE],
  ['2160-0', CREATININE],
  ['33914-3', FILTRATION_RATE],
  ['77147-7', FILTRATION_RATE],
  ['49765-1', CALCIUM],
  ['17861-6', CALCIUM],
  ['2947-0', SODIUM],
  ['2951-2', SODIUM],
  ['6298-4', POTASSIUM],
  ['2823-3', POTASSIUM],
  ['2069-3', CHLORIDE],
  ['2075-0', CHLORIDE],
  ['20565-8', CARBON_DIOXIDE],
  ['2028-9', CARBON_DIOXIDE],
  ['2093-3', { units: MASS, high: 200 }],
  ['2571-8', { units: MASS, high: 150 }],
  ['18262-6', LDL],
  ['13457-7', LDL],
  ['2085-9', { units: MASS, low: 50, male: { low: 40 } }],
  ['1751-7', ALBUMIN],
  ['1975-2', { units: MASS, high: 1.2 }],
  ['1742-6', { units: ['U/L'], high: 56 }],
  ['1920-8', { units: ['U/L'], high: 40 }],
  ['6768-6', { units: ['U/L'], low: 44, high: 147 }],
  ['6690-2', { units: THOUSANDS, low: 4, high: 11 }],
  ['789-8', { units: MILLIONS, low: 3.9, high: 5.2, male: { low: 4.3, high: 5.9 } }],
  ['718-7', { units: ['g/dL'], low: 12, high: 15.5, male: { low: 13.5, high: 17.5 } }],
  ['4544-3', { units: ['%'], low: 36, high: 46, male: { low: 41, high: 53 } }],
  ['787-2', { units: ['fL'], low: 80, high: 100 }],
  ['785-6', { units: ['pg'], low: 27, high: 33 }],
  ['786-4', { units: ['g/dL'], low: 32, high: 36 }],
  ['21000-5', { units: ['fL'], low: 39, high: 46 }],
  ['777-3', { units: THOUSANDS, low: 150, high: 450 }],
]);

/**
 * The adult range of an analyte in this unit; `undefined` when the analyte or the unit is unknown. Without a known gender
 * the bounds are the wider of women's and men's. Demonstration knowledge, not medical advice.
 */
export function adultRange(loinc: string, unit: string, gender?: string): AdultRange | undefined {
  const entry = ADULT.get(loinc);
  if (entry === undefined || !entry.units.includes(unit)) return undefined;
  const { low, high, male } = entry;
  if (male === undefined || gender === 'female') return { low, high };
  if (gender === 'male') return male;
  return { low: wider(Math.min, low, male.low), high: wider(Math.max, high, male.high) };
}

function wider(choose: (a: number, b: number) => number, a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : choose(a, b);
}
