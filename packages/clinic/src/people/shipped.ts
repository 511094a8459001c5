import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildRecords, type NamedBundle, type Records } from '../records.js';
import { CLINIC_SYSTEM, chartBundle, STAFF } from './chart-bundle.js';
import { PEOPLE } from './people.js';

/** The shipped clinic's one practitioner and organization, as Synthea ships them: a Bundle of their own. */
export function staffBundle(): NamedBundle {
  const resource = (resourceType: string, id: string, body: object) => ({
    fullUrl: `urn:uuid:${id}`,
    resource: { resourceType, id, identifier: [{ system: CLINIC_SYSTEM, value: id }], active: true, ...body },
    request: { method: 'POST', url: resourceType },
  });
  return {
    name: 'practitionerInformation.json',
    bundle: {
      resourceType: 'Bundle',
      type: 'batch',
      entry: [
        resource('Organization', STAFF.organization, { name: 'Clinic of Examples' }),
        resource('Practitioner', STAFF.practitioner, { name: [{ family: 'Onduty', given: ['Clin'], prefix: ['Dr.'] }] }),
      ],
    },
  };
}

/**
 * The people the project ships and their staff, as new FHIR R4 Bundles each time. File names say nothing about anybody.
 * Two share family name and birth month, one has no medication, one an empty chart.
 */
export function shippedBundles(): readonly NamedBundle[] {
  return [staffBundle(), ...PEOPLE.map((person, index) => ({ name: `person-${index + 1}.json`, bundle: chartBundle(person) }))];
}

/** Records of the people the project ships. */
export function shippedRecords(): Records {
  return buildRecords(shippedBundles(), { kind: 'shipped' });
}

/** Writes the shipped Bundles into a folder (made when missing), for programs that read a folder; returns the file names. */
export async function writeShippedPeople(folder: string): Promise<readonly string[]> {
  await mkdir(folder, { recursive: true });
  const bundles = shippedBundles();
  await Promise.all(bundles.map(({ name, bundle }) => writeFile(join(folder, name), `${JSON.stringify(bundle, null, 1)}\n`)));
  return bundles.map(({ name }) => name);
}
