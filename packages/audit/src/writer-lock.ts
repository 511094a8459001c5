import { randomUUID } from 'node:crypto';
import { link, readFile, readlink, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { AuditFailure } from './audit-failure.js';

/** Who holds a log: enough to tell a live process from one that is gone, also after its number was given to another. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Kernel boot, pid namespace and start tick of the process; empty where the system has no /proc. */
  readonly boot: string;
  readonly namespace: string;
  readonly started: string;
  readonly nonce: string;
}

/**
 * Takes the exclusive writer's lock of a log: `<file>.lock`, made in one step by a hard link. The lock of a process that
 * is gone from this machine is taken over; one of another host or container is not, because its life cannot be seen.
 * @returns a function that gives the lock back
 * @throws {AuditFailure} `locked`
 */
export async function lockForWriting(file: string): Promise<() => Promise<void>> {
  const lock = `${file}.lock`;
  const self = await describeSelf();
  const mine = `${lock}.${self.nonce}`;
  await writeFile(mine, JSON.stringify(self), { flag: 'wx', mode: 0o600 });
  try {
    if (!(await linked(mine, lock))) await takeOver(lock, mine);
  } finally {
    await unlink(mine);
  }
  return async () => {
    if ((await readHolder(lock))?.nonce === self.nonce) await unlink(lock);
  };
}

/** True while a live process (or one whose life cannot be seen from here) holds the writer's lock of this log. */
export async function hasWriter(file: string): Promise<boolean> {
  const text = await readFile(`${file}.lock`, 'utf8').catch(() => undefined);
  if (text === undefined) return false;
  const holder = parseHolder(text);
  return holder === undefined || !(await isGone(holder));
}

/** Only one process at a time may remove a dead lock, and looks again before it does: no live lock is ever removed. */
async function takeOver(lock: string, mine: string): Promise<void> {
  const guard = `${lock}.takeover`;
  if (!(await linked(mine, guard)))
    throw new AuditFailure('locked', `another process is taking over this log; if none is, remove ${guard}`);
  try {
    const holder = await readHolder(lock);
    if (holder !== undefined && !(await isGone(holder))) {
      const where = holder.host === hostname() ? '' : ` on ${holder.host}`;
      throw new AuditFailure('locked', `process ${holder.pid}${where} writes this log; if it does not, remove ${lock}`);
    }
    if (holder !== undefined) await unlink(lock);
    if (!(await linked(mine, lock)))
      throw new AuditFailure('locked', `another process writes this log; if none does, remove ${lock}`);
  } finally {
    await unlink(guard);
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

async function readHolder(lock: string): Promise<Holder | undefined> {
  const text = await readFile(lock, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : parseHolder(text);
}

function parseHolder(text: string): Holder | undefined {
  try {
    const holder = JSON.parse(text) as Partial<Record<keyof Holder, unknown>> | null;
    const { pid, host, boot, namespace, started, nonce } = holder ?? {};
    if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 0) return undefined;
    for (const member of [host, boot, namespace, started, nonce]) if (typeof member !== 'string') return undefined;
    return holder as Holder;
  } catch {
    return undefined;
  }
}

async function describeSelf(): Promise<Holder> {
  const [boot, namespace, life] = await Promise.all([bootId(), pidNamespace(), processLife(process.pid)]);
  return { pid: process.pid, host: hostname(), boot, namespace, started: life?.started ?? '', nonce: randomUUID() };
}

/** True only when it is certain that the holder no longer runs. */
async function isGone(holder: Holder): Promise<boolean> {
  if (holder.host !== hostname()) return false;
  if (holder.boot !== (await bootId())) return true;
  if (holder.namespace !== (await pidNamespace())) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH';
  }
  const life = await processLife(holder.pid);
  return life !== undefined && (life.zombie || (holder.started !== '' && life.started !== holder.started));
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim();
}

async function pidNamespace(): Promise<string> {
  return readlink('/proc/self/ns/pid').catch(() => '');
}

async function processLife(pid: number): Promise<{ started: string; zombie: boolean } | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (stat === undefined) return undefined;
  // proc(5): the second field, the command, may hold spaces and brackets; state is field 3, start tick field 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { started: fields[19] ?? '', zombie: fields[0] === 'Z' };
}
