import { randomUUID } from 'node:crypto';
import { access, constants, mkdtemp, open, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasWriter } from '@hmcp/audit';
import { verifyLog } from '../audit-logs.js';
import { counted } from '../counted.js';
import { type Finding, failure, ok, warning } from './finding.js';

/** Looks at an audit log and the disk under it. Writes a small file beside it, and removes that again. */
export async function examineAudit(file: string): Promise<readonly Finding[]> {
  const findings = [await examineDisk(file)];
  const present = await isFile(file);
  if (present === 'no file') return [...findings, ok('store', file, 'no log yet: the first start begins it')];
  if (present !== 'file' || !(await isWritable(file)))
    return [
      ...findings,
      failure('store', file, 'the log cannot be written', 'give its file and folder to the user of the server'),
    ];
  return [...findings, await examineLock(file), await examineChain(file)];
}

/**
 * Looks at a session store: its chain, its journal, and whether its folder can hold one that commits durably (a store made
 * beside it, and removed again).
 */
export async function examineStore(file: string): Promise<readonly Finding[]> {
  const disk = await examineDisk(file);
  const findings = [disk];
  if (disk.level === 'ok') findings.push(await examineDurability(file));
  const present = await isFile(file);
  if (present === 'no file') return [...findings, ok('store', file, 'no store yet: the first start makes it')];
  if (present !== 'file' || !(await isWritable(file)))
    return [
      ...findings,
      failure('store', file, 'the store cannot be written', 'give its file and folder to the user of the manager'),
    ];
  const journal = await journalOf(file);
  if (journal === 'no database')
    return [...findings, failure('store', file, 'it is no SQLite database', 'correct the path, or restore the file')];
  if (journal !== 'wal')
    findings.push(
      warning('store', file, 'its journal is not WAL; the manager turns it on at its start', 'start the manager, and look again'),
    );
  return [...findings, await examineLock(file), await examineChain(file)];
}

async function examineDisk(file: string): Promise<Finding> {
  const folder = dirname(file);
  const probe = join(folder, `.hmcp-doctor-${randomUUID()}`);
  try {
    const handle = await open(probe, 'wx', 0o600);
    try {
      await handle.writeFile('probe');
      await handle.datasync();
    } finally {
      await handle.close();
      await rm(probe, { force: true });
    }
  } catch {
    const change = 'make the folder, on a disk that syncs, and give it to the user of the process';
    return failure('store', file, 'its folder is missing, or does not take and sync a file', change);
  }
  return ok('store', file, 'its folder takes files and syncs them');
}

async function examineDurability(file: string): Promise<Finding> {
  const folder = await mkdtemp(join(dirname(file), '.hmcp-doctor-'));
  try {
    // The manager's own opening refuses anything but WAL with synchronous=FULL.
    const { openSqliteStore } = await import('@hmcp/context-manager');
    await (await openSqliteStore({ file: join(folder, 'probe.sqlite'), by: 'hmcp:doctor' })).close();
    return ok('store', file, 'a store in its folder runs in WAL mode with synchronous=FULL');
  } catch {
    const change = 'put the store on a local disk: network file systems do not do';
    return failure('store', file, 'no store in its folder can run in WAL mode with synchronous=FULL', change);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function examineLock(file: string): Promise<Finding> {
  const written = await hasWriter(file);
  return ok('store', file, written ? 'one process holds its lock' : 'nobody writes it now, and its lock is free');
}

async function examineChain(file: string): Promise<Finding> {
  try {
    const verdict = await verifyLog(file);
    if (!verdict.ok)
      return failure(
        'store',
        file,
        `its audit is not what was written (line ${verdict.line})`,
        'keep it as evidence; see `hmcp audit verify`',
      );
    return ok('store', file, `its audit verifies: ${counted(verdict.records, 'record')}`);
  } catch {
    return failure('store', file, 'its audit cannot be read', 'correct the path, or restore the file');
  }
}

/** The journal mode a SQLite file is in: bytes 18 and 19 of its header. */
async function journalOf(file: string): Promise<'wal' | 'other' | 'no database'> {
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(20), 0, 20, 0);
    if (bytesRead < 20 || buffer.toString('latin1', 0, 16) !== 'SQLite format 3\0') return 'no database';
    return buffer[18] === 2 && buffer[19] === 2 ? 'wal' : 'other';
  } finally {
    await handle.close();
  }
}

async function isFile(file: string): Promise<'file' | 'no file' | 'other'> {
  return stat(file).then(
    (found) => (found.isFile() ? 'file' : 'other'),
    ({ code }: NodeJS.ErrnoException) => (code === 'ENOENT' ? 'no file' : 'other'),
  );
}

function isWritable(file: string): Promise<boolean> {
  return access(file, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}
