import { mkdtemp, open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';

/** As long as a record of a served request. */
const RECORD_BYTES = 900;
const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  801189825: 'zfs',
  16914836: 'tmpfs',
  2035054128: 'overlayfs',
};
const IN_MEMORY = [16914836, 2240043254];

/** A new folder for the logs of a run. @throws when `parent` is in memory: a sync there is no sync */
export async function diskFolder(parent: string): Promise<{ readonly path: string; readonly fileSystem: string }> {
  const { type } = await statfs(parent);
  if (IN_MEMORY.includes(type)) throw new Error('the audit of a bench must be on a disk: this folder is in memory');
  return { path: await mkdtemp(join(parent, 'disk-')), fileSystem: FILE_SYSTEMS[type] ?? `type 0x${type.toString(16)}` };
}

/** Milliseconds of each `fdatasync` after a record was appended to a file, one after the other; only the sync is timed. */
export async function timeSyncs(folder: string, count: number): Promise<number[]> {
  const file = join(folder, 'syncs');
  const handle = await open(file, 'a');
  const record = Buffer.alloc(RECORD_BYTES, 'x');
  const taken: number[] = [];
  try {
    for (let i = 0; i < count; i += 1) {
      await handle.write(record);
      const began = performance.now();
      await handle.datasync();
      taken.push(performance.now() - began);
    }
  } finally {
    await handle.close();
    await rm(file);
  }
  return taken;
}
