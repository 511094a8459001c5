import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';

/** False where the system shows no process table as files. */
export const hasProcessTable = existsSync('/proc/self/stat');

/** One process, as everybody on the machine can see it. */
export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** Its title and arguments. */
  readonly title: string;
}

/** Every living process below another one; zombies do not count. */
export async function descendants(pid: number): Promise<Process[]> {
  const all = await processes();
  const below = (parent: number): Process[] =>
    all.filter((one) => one.parent === parent).flatMap((one) => [one, ...below(one.pid)]);
  return below(pid);
}

/** Which of these still live. A number given to another process since then does not count: its title differs. */
export async function survivors(of: readonly Process[]): Promise<Process[]> {
  const all = await processes();
  return of.filter(({ pid, title }) => all.some((one) => one.pid === pid && one.title === title));
}

async function processes(): Promise<Process[]> {
  const found = await Promise.all((await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(readProcess));
  return found.filter((one) => one !== undefined);
}

async function readProcess(name: string): Promise<Process | undefined> {
  try {
    const stat = await readFile(`/proc/${name}/stat`, 'utf8');
    // proc(5): the command, in brackets, may hold anything; state and parent follow it.
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (state === 'Z') return undefined;
    const arguments_ = (await readFile(`/proc/${name}/cmdline`, 'utf8')).replaceAll('\0', ' ').trim();
    return { pid: Number(name), parent: Number(parent), title: arguments_ };
  } catch {
    return undefined;
  }
}
