import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { buildRecords, type NamedBundle, type Records, RecordsError } from './records.js';

/** How much of a folder is loaded. */
export interface RecordsFolderOptions {
  /** Most bytes read in all; files beyond are left unread and counted in `source.unread`. @default 256 MiB */
  readonly maxBytes?: number | undefined;
  /** Bundles loaded beside the folder's, such as the clinic's own staff. @default none */
  readonly also?: readonly NamedBundle[] | undefined;
}

const DEFAULT_MAX_BYTES = 256 * 1024 * 1024;

/**
 * Loads every `*.json` of a folder of FHIR R4 Bundles, such as Synthea writes: staff and hospital Bundles first, then by
 * name, so that equal folders give equal records. Memory is about six times the bytes read.
 * @throws {RecordsError} `folder`, `empty`, `too_large`, `not_json`, `not_a_bundle`, `bad_entry`, `conflict`; all
 * unreadable files are named at once
 */
export async function loadRecords(folder: string, options: RecordsFolderOptions = {}): Promise<Records> {
  const files = await bundleFiles(folder);
  if (files.length === 0) throw new RecordsError('empty', 'The records folder holds no .json file.');
  let budget = options.maxBytes ?? DEFAULT_MAX_BYTES;
  let unread = 0;
  const bundles: NamedBundle[] = [...(options.also ?? [])];
  const notJson: string[] = [];
  for (const name of files) {
    const path = join(folder, name);
    const { size } = await stat(path);
    if (size > budget) {
      unread += 1;
      continue;
    }
    budget -= size;
    const text = (await readFile(path, 'utf8')).replace(/^\uFEFF/, '');
    try {
      bundles.push({ name, bundle: JSON.parse(text) });
    } catch {
      // The parser's own message quotes the file.
      notJson.push(name);
    }
  }
  if (notJson.length > 0) {
    const named = notJson.slice(0, 5).join(', ');
    const more = notJson.length > 5 ? ` and ${notJson.length - 5} more` : '';
    throw new RecordsError('not_json', `Not readable as JSON: ${named}${more}.`, notJson);
  }
  if (unread === files.length) throw new RecordsError('too_large', 'Every file of the records folder is over the size limit.');
  const records = buildRecords(bundles, { kind: 'folder', unread });
  return { ...records, source: { ...records.source, files: files.length - unread } };
}

async function bundleFiles(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    const names = entries.filter((entry) => !entry.isDirectory() && entry.name.endsWith('.json')).map((entry) => entry.name);
    const rank = (name: string) => (/^(hospital|practitioner)Information/.test(name) ? 0 : 1);
    return names.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  } catch {
    throw new RecordsError('folder', 'The records folder cannot be read: it does not exist or is no folder.');
  }
}
