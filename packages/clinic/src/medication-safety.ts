import * as z from 'zod';
import type { OutOfRangeResult } from './laboratory.js';

/** An active medication that bears on an out-of-range result. */
export const BearingMedication = z.strictObject({
  medication: z.string(),
  /** Opaque reference to the MedicationRequest. */
  source: z.string(),
  bearsOn: z.array(z.strictObject({ loinc: z.string(), analyte: z.string(), why: z.string() })),
});
export type BearingMedication = z.infer<typeof BearingMedication>;

/** How medication requests are read. */
export interface MedicationOptions {
  /** Makes the opaque reference of `MedicationRequest/id`. */
  readonly source: (reference: string) => string;
  /** Reads the Medication a request refers to; a request whose medication cannot be read is left out. */
  readonly read?: ((reference: string) => unknown) | undefined;
}

interface Rule {
  /** LOINC codes of the analyte, in blood and in serum. */
  readonly analytes: readonly string[];
  readonly medicines: readonly { readonly ingredients: RegExp; readonly why: string }[];
}

const ACE_INHIBITOR = /\b(benazepril|captopril|enalapril|fosinopril|lisinopril|quinapril|ramipril)/i;
const ARB = /\b(candesartan|irbesartan|losartan|olmesartan|telmisartan|valsartan)/i;
const POTASSIUM_SPARING = /\b(spironolactone|eplerenone|amiloride|triamterene)/i;
const LOOP_DIURETIC = /\b(furosemide|bumetanide|torsemide)/i;
const THIAZIDE = /\b(hydrochlorothiazide|chlorthalidone|indapamide)/i;
const NSAID = /\b(ibuprofen|naproxen|diclofenac|meloxicam|celecoxib|indomethacin|ketorolac)/i;
const METFORMIN = /\bmetformin/i;
const INSULIN = /\b(insulin|humulin|novolog|lantus)/i;
const SULFONYLUREA = /\b(glipizide|glimepiride|glyburide)/i;
const CORTICOSTEROID = /\b(prednisone|prednisolone|methylprednisolone|dexamethasone|hydrocortisone)\b/i;
const STATIN = /\b(atorvastatin|lovastatin|pravastatin|rosuvastatin|simvastatin)/i;
const ANTICOAGULANT = /\b(warfarin|apixaban|rivaroxaban|dabigatran|heparin|enoxaparin)/i;
const ANTIPLATELET = /\b(aspirin|clopidogrel|prasugrel|ticagrelor)/i;
const SSRI = /\b(citalopram|escitalopram|fluoxetine|paroxetine|sertraline)/i;

/** Analyte → medicines and the reason, in this order. */
const RULES: readonly Rule[] = [
  {
    analytes: ['6298-4', '2823-3'],
    medicines: [
      { ingredients: ACE_INHIBITOR, why: 'ACE inhibitors can raise potassium' },
      { ingredients: ARB, why: 'angiotensin receptor blockers can raise potassium' },
      { ingredients: POTASSIUM_SPARING, why: 'potassium-sparing diuretics can raise potassium' },
      { ingredients: LOOP_DIURETIC, why: 'loop diuretics can lower potassium' },
      { ingredients: THIAZIDE, why: 'thiazides can lower potassium' },
    ],
  },
  {
    analytes: ['2339-0', '2345-7', '4548-4'],
    medicines: [
      { ingredients: METFORMIN, why: 'metformin is given to lower glucose' },
      { ingredients: INSULIN, why: 'insulin is given to lower glucose' },
      { ingredients: SULFONYLUREA, why: 'sulfonylureas are given to lower glucose' },
      { ingredients: CORTICOSTEROID, why: 'corticosteroids can raise glucose' },
      { ingredients: THIAZIDE, why: 'thiazides can raise glucose' },
    ],
  },
  {
    analytes: ['38483-4', '2160-0', '33914-3', '77147-7', '6299-2', '3094-0'],
    medicines: [
      { ingredients: NSAID, why: 'NSAIDs can harm kidney function' },
      { ingredients: METFORMIN, why: 'the dose of metformin depends on kidney function' },
      { ingredients: ACE_INHIBITOR, why: 'ACE inhibitors can change kidney function' },
      { ingredients: ARB, why: 'angiotensin receptor blockers can change kidney function' },
      { ingredients: LOOP_DIURETIC, why: 'loop diuretics can raise urea and creatinine' },
      { ingredients: POTASSIUM_SPARING, why: 'potassium-sparing diuretics need working kidneys' },
    ],
  },
  {
    analytes: ['2093-3', '18262-6', '13457-7', '2571-8', '2085-9'],
    medicines: [{ ingredients: STATIN, why: 'statins are given to lower cholesterol' }],
  },
  {
    analytes: ['718-7', '4544-3', '789-8', '777-3'],
    medicines: [
      { ingredients: ANTICOAGULANT, why: 'anticoagulants make bleeding more likely' },
      { ingredients: ANTIPLATELET, why: 'antiplatelet medicines make bleeding more likely' },
      { ingredients: NSAID, why: 'NSAIDs make stomach bleeding more likely' },
    ],
  },
  {
    analytes: ['2947-0', '2951-2'],
    medicines: [
      { ingredients: THIAZIDE, why: 'thiazides can lower sodium' },
      { ingredients: LOOP_DIURETIC, why: 'loop diuretics can lower sodium' },
      { ingredients: SSRI, why: 'SSRIs can lower sodium' },
    ],
  },
  {
    analytes: ['49765-1', '17861-6'],
    medicines: [
      { ingredients: THIAZIDE, why: 'thiazides can raise calcium' },
      { ingredients: LOOP_DIURETIC, why: 'loop diuretics can lower calcium' },
    ],
  },
];

const Concept = z.object({
  text: z.string().optional(),
  coding: z
    .array(z.object({ system: z.string().optional(), code: z.string().optional(), display: z.string().optional() }))
    .optional(),
});
type Concept = z.infer<typeof Concept>;
const MedicationRequest = z.object({
  resourceType: z.literal('MedicationRequest'),
  id: z.string(),
  status: z.string(),
  authoredOn: z.string().optional(),
  medicationCodeableConcept: Concept.optional(),
  medicationReference: z.object({ reference: z.string().optional() }).optional(),
  contained: z.array(z.object({ resourceType: z.string(), id: z.string().optional(), code: Concept.optional() })).optional(),
});
type MedicationRequest = z.infer<typeof MedicationRequest>;

/**
 * Active medications that bear on the given results, each once (its newest request), by name. The knowledge is a short table
 * of ingredients by analyte, matched in the text and RxNorm display of the prescription: it exists to show a chain of
 * agents at work. It is demonstration knowledge, incomplete on purpose, and not medical advice.
 */
export function medicationsBearingOn(
  requests: readonly unknown[],
  results: readonly Pick<OutOfRangeResult, 'loinc' | 'analyte'>[],
  options: MedicationOptions,
): BearingMedication[] {
  const newest = new Map<string, { request: MedicationRequest; names: readonly string[] }>();
  for (const resource of requests) {
    const parsed = MedicationRequest.safeParse(resource);
    if (!parsed.success || parsed.data.status !== 'active') continue;
    const names = namesOf(conceptOf(parsed.data, options.read));
    const [name] = names;
    if (name === undefined) continue;
    const before = newest.get(name);
    if (before === undefined || (before.request.authoredOn ?? '') < (parsed.data.authoredOn ?? ''))
      newest.set(name, { request: parsed.data, names });
  }
  return [...newest]
    .map(([medication, { request, names }]) => ({
      medication,
      source: options.source(`MedicationRequest/${request.id}`),
      bearsOn: results.flatMap(({ loinc, analyte }) => whysOf(loinc, names).map((why) => ({ loinc, analyte, why }))),
    }))
    .filter(({ bearsOn }) => bearsOn.length > 0)
    .sort((a, b) => (a.medication < b.medication ? -1 : 1));
}

function whysOf(loinc: string, names: readonly string[]): string[] {
  return RULES.filter(({ analytes }) => analytes.includes(loinc)).flatMap(({ medicines }) =>
    medicines.filter(({ ingredients }) => names.some((name) => ingredients.test(name))).map(({ why }) => why),
  );
}

function conceptOf(request: MedicationRequest, read: MedicationOptions['read']): Concept | undefined {
  if (request.medicationCodeableConcept) return request.medicationCodeableConcept;
  const reference = request.medicationReference?.reference;
  if (reference === undefined) return undefined;
  if (reference.startsWith('#'))
    return request.contained?.find(({ resourceType, id }) => resourceType === 'Medication' && `#${id}` === reference)?.code;
  return z.object({ resourceType: z.literal('Medication'), code: Concept }).safeParse(read?.(reference)).data?.code;
}

/** What the medicine is called, the prescriber's words first. */
function namesOf(concept: Concept | undefined): string[] {
  const displays = (concept?.coding ?? []).map(({ display }) => display);
  return [concept?.text, ...displays].filter((name) => name !== undefined && name !== '').map(String);
}
