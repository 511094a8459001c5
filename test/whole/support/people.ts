import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Records } from '@hmcp/clinic';

/** A resource of a Bundle file, as it stands there. */
export interface RawResource {
  readonly resourceType: string;
  id: string;
  [element: string]: unknown;
}

interface RawBundle {
  entry: { fullUrl?: string; resource: RawResource }[];
}

/** Changes every resource of every Bundle of a folder, in place. */
export async function changeFolder(folder: string, change: (resource: RawResource, file: string) => void): Promise<void> {
  for (const name of await readdir(folder)) {
    const file = join(folder, name);
    const bundle = JSON.parse(await readFile(file, 'utf8')) as RawBundle;
    for (const { resource } of bundle.entry) change(resource, name);
    await writeFile(file, JSON.stringify(bundle));
  }
}

/** Everything that names anybody in the records: ids, names, identifiers, telephone numbers, streets. */
export function everybody(records: Records): RegExp[] {
  const texts = new Set<string>();
  const words = new Set<string>();
  for (const patient of records.ofType('Patient')) {
    texts.add(patient.id);
    for (const { value } of list(patient.identifier)) if (text(value).length >= 6) texts.add(text(value));
    for (const { value } of list(patient.telecom)) texts.add(text(value));
    for (const { line } of list(patient.address)) for (const street of line as string[]) texts.add(street);
    for (const { given, family } of list(patient.name))
      for (const word of [...(given as string[]), text(family)]) words.add(word);
  }
  return [
    ...[...texts].filter(Boolean).map((it) => new RegExp(escaped(it), 'i')),
    ...[...words].filter(Boolean).map((it) => new RegExp(`\\b${escaped(it)}\\b`, 'i')),
  ];
}

function list(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? (value as Record<string, unknown>[]) : [];
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function escaped(literal: string): string {
  return literal.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
