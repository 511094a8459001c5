import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Assessment, writeShippedPeople } from '@hmcp/clinic';
import { expect, it } from 'vitest';
import { startDev } from './support/dev-world.js';
import { changeFolder, type RawResource } from './support/people.js';
import { freshFolder, hmcp } from './support/program.js';

const [POTASSIUM, CREATININE] = ['2823-3', '2160-0'];

interface RawObservation {
  readonly id: string;
  readonly effectiveDateTime: string;
  readonly code: { readonly coding: readonly { readonly code: string }[] };
  readonly valueQuantity: { value: number; readonly unit: string };
  readonly referenceRange: readonly { readonly low: { value: number }; readonly high: { value: number } }[];
}

/** What stands in the file about one analyte: newest and previous value, read with nothing of the project's own judging. */
async function byHand(folder: string, loinc: string) {
  const { entry } = JSON.parse(await readFile(join(folder, 'person-1.json'), 'utf8')) as { entry: { resource: RawResource }[] };
  const own = entry
    .map(({ resource }) => resource)
    .filter(({ resourceType }) => resourceType === 'Observation')
    .map((resource) => resource as unknown as RawObservation)
    .filter(({ code }) => code.coding[0]?.code === loinc)
    .sort((a, b) => b.effectiveDateTime.localeCompare(a.effectiveDateTime));
  const [newest, previous] = own;
  const high = newest?.referenceRange[0]?.high.value ?? Number.NaN;
  const value = newest?.valueQuantity.value ?? Number.NaN;
  if (!(value > high)) return undefined;
  return {
    direction: 'high',
    newest: [value, newest?.valueQuantity.unit, newest?.effectiveDateTime],
    previous: [previous?.valueQuantity.value, previous?.valueQuantity.unit, previous?.effectiveDateTime],
  };
}

/** The same of triage's answer. */
function answered({ findings }: Assessment, loinc: string) {
  const result = findings.map((finding) => finding.result).find((one) => one.loinc === loinc);
  if (result === undefined) return undefined;
  const { direction, newest, previous } = result;
  return {
    direction,
    newest: [newest.value, newest.unit, newest.date],
    previous: [previous?.value, previous?.unit, previous?.date],
  };
}

function medicinesFor({ findings }: Assessment, loinc: string): string[] {
  const finding = findings.find(({ result }) => result.loinc === loinc);
  return (finding?.medications ?? []).map(({ medication }) => medication.toLowerCase());
}

/** What triage answers about the first person of a folder, asked as a person would ask. */
async function ask(folder: string): Promise<{ assessment: Assessment; text: string }> {
  const state = await freshFolder();
  const world = await startDev({ state, data: folder });
  try {
    const { code, stdout, stderr } = await hmcp('call', 'triage', 'assess', '{"reason":"What stands out?"}', '--state', state);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return { assessment: Assessment.parse(JSON.parse(stdout)), text: stdout };
  } finally {
    expect((await world.stop()).code).toBe(0);
  }
}

it('triage answers with the values that stand in the records folder, and otherwise when they are other ones', async () => {
  const [before, after] = [await freshFolder(), await freshFolder()];
  await writeShippedPeople(before);
  await writeShippedPeople(after);
  const newest = (loinc: string) => byHand(before, loinc).then((found) => found?.newest[0]);
  const [potassium, creatinine] = [await newest(POTASSIUM), await newest(CREATININE)];
  await changeFolder(after, (resource) => {
    const quantity = resource.valueQuantity as { value: number } | undefined;
    if (quantity?.value === potassium && quantity) quantity.value = 6.789;
    if (quantity?.value === creatinine && quantity) quantity.value = 0.987;
    if (JSON.stringify(resource.medicationCodeableConcept ?? '').includes('spironolactone')) resource.status = 'stopped';
  });

  const [first, second] = await Promise.all([ask(before), ask(after)]);

  for (const [folder, { assessment }] of [[before, first] as const, [after, second] as const])
    for (const loinc of [POTASSIUM, CREATININE]) expect(answered(assessment, loinc)).toEqual(await byHand(folder, loinc));
  expect(answered(first.assessment, CREATININE)).toBeDefined();
  expect(answered(second.assessment, CREATININE)).toBeUndefined();
  expect(answered(second.assessment, POTASSIUM)?.newest[0]).toBe(6.789);

  expect(medicinesFor(first.assessment, POTASSIUM).some((name) => name.includes('spironolactone'))).toBe(true);
  expect(medicinesFor(second.assessment, POTASSIUM).some((name) => name.includes('spironolactone'))).toBe(false);
  expect(second.assessment.considered.medications).toBe(first.assessment.considered.medications - 1);
  expect(first.text).not.toContain('5eed0a01');
});
