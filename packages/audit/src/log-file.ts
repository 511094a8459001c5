import { constants, fstatSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * The five things a sink asks of an open log. Replaceable, so that a test can fill the disk or fail a sync.
 * Each may reject with a system error (`code`).
 */
export interface LogFile {
  /** Writes once at `position`. @returns bytes written, which may be fewer than given */
  write(bytes: Uint8Array, position: number): Promise<number>;
  /** Makes the contents and the size durable. */
  datasync(): Promise<void>;
  truncate(size: number): Promise<void>;
  /** Size in bytes now, and whether the file still has a name. */
  inspect(): Promise<{ readonly size: number; readonly named: boolean }>;
  close(): Promise<void>;
}

/** Bytes that are written at once: they go to the page cache, for which a thread takes longer than the copy. The sync has one. */
const AT_ONCE = 1 << 16;

/** Opens an existing log for writing. */
export async function openLogFile(path: string): Promise<LogFile> {
  const handle = await open(path, constants.O_RDWR);
  return {
    write: async (bytes, position) => {
      if (bytes.length <= AT_ONCE) return writeSync(handle.fd, bytes, 0, bytes.length, position);
      return (await handle.write(bytes, 0, bytes.length, position)).bytesWritten;
    },
    datasync: () => handle.datasync(),
    truncate: (size) => handle.truncate(size),
    inspect: async () => {
      // What the kernel has at hand: a thread would take many times as long as the answer.
      const { size, nlink } = fstatSync(handle.fd);
      return { size, named: nlink > 0 };
    },
    close: () => handle.close(),
  };
}

/** Writes a new file and makes it durable before it returns. @throws `EEXIST` when there is one */
export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(path, 'wx', 0o600);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the name of a new file durable; does nothing where a folder cannot be synced (Windows). */
export async function syncFolderOf(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(dirname(path), 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
