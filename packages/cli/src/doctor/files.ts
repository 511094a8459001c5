import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { counted } from '../counted.js';
import { type Finding, failure, note, ok, warning } from './finding.js';

/** What a file of a deployment holds. */
export type Holds = 'secrets' | 'sessions' | 'audit' | 'state';

/** What was found of a file or folder: its mode, or why there is none. */
export type Found = { readonly mode: number; readonly folder: boolean } | { readonly code: string };

const READABLE = 0o077;
const WRITABLE = 0o022;
const BY_EVERYBODY = 0o004;

/**
 * Judges who may read and write a file or folder, by its mode. A store or log that is not there yet is made by the first start,
 * with mode 0600. "Others" are the group of the file and everybody else.
 */
export function judgeFile(file: string, holds: Holds, found: Found): Finding | undefined {
  if ('code' in found) {
    const missing = found.code === 'ENOENT';
    if (missing && holds !== 'secrets') return undefined;
    const said = missing ? 'it is missing' : `it cannot be looked at (${found.code})`;
    return failure('file', file, said, 'correct the path, or give the file to the user of the process');
  }
  const { mode, folder } = found;
  if (folder !== (holds === 'state'))
    return failure('file', file, `it is ${folder ? 'a folder' : 'no folder'}`, 'correct the path');
  const told = `mode ${(mode & 0o7777).toString(8).padStart(4, '0')}`;
  if (holds === 'state') {
    if ((mode & WRITABLE) === 0) return ok('file', file, `${told}: nobody else can change what is in it`);
    return failure('file', file, `${told}: others can replace what is in it`, 'chmod go-w it; 0700 is best');
  }
  if ((mode & WRITABLE) !== 0) return failure('file', file, `${told}: others can write it`, 'chmod it to 0600');
  if (holds === 'audit') {
    if ((mode & BY_EVERYBODY) === 0) return ok('file', file, `${told}: not for everybody to read`);
    return warning('file', file, `${told}: everybody on this machine can read the audit`, 'chmod it to 0600, or 0640');
  }
  if ((mode & READABLE) === 0) return ok('file', file, `${told}: for its owner alone`);
  const read = holds === 'secrets' ? 'others can read the secrets in it' : 'others can read whose sessions are in it';
  const change = holds === 'secrets' ? 'chmod it to 0600, and replace what others may have read' : 'chmod it to 0600';
  return failure('file', file, `${told}: ${read}`, change);
}

/**
 * Looks at the modes of files, and of the folders they are in. Files that are as they should be are told in one finding a folder.
 * @param modes whether this system has them
 */
export async function examineFiles(
  files: Readonly<Record<Exclude<Holds, 'state'>, readonly string[]>>,
  modes: boolean,
): Promise<readonly Finding[]> {
  const named = (['secrets', 'sessions', 'audit'] as const).flatMap((holds) =>
    [...new Set(files[holds].map((file) => resolve(file)))].map((file) => ({ file, holds })),
  );
  if (named.length === 0) return [];
  const looked = await Promise.all(named.map(async ({ file, holds }) => ({ file, holds, found: await look(file) })));
  if (!modes) {
    const missing = looked.filter(({ holds, found }) => holds === 'secrets' && 'code' in found);
    const faults = missing.flatMap(({ file, holds, found }) => judgeFile(file, holds, found) ?? []);
    return [note('file', 'modes', 'not looked at: this system has no POSIX modes'), ...faults];
  }
  const judged = looked.map(({ file, holds, found }) => ({ file, finding: judgeFile(file, holds, found) }));
  const findings = judged.flatMap(({ finding }) => (finding === undefined || finding.level === 'ok' ? [] : finding));
  for (const folder of new Set(named.map(({ file }) => dirname(file)))) {
    const sound = judged.filter(({ file, finding }) => finding?.level === 'ok' && dirname(file) === folder).length;
    if (sound > 0) findings.push(ok('file', folder, `${counted(sound, 'file')} in it, each with a mode that keeps others out`));
    findings.push(...[judgeFile(folder, 'state', await look(folder)) ?? []].flat());
  }
  return findings;
}

function look(file: string): Promise<Found> {
  return stat(file).then(
    (found) => ({ mode: found.mode, folder: found.isDirectory() }),
    ({ code }: NodeJS.ErrnoException) => ({ code: code ?? 'unknown' }),
  );
}
