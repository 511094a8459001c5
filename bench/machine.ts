import { cpus, loadavg, platform, release, totalmem } from 'node:os';

/** What a run was measured on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
  /** File system of the audit log. */
  readonly fileSystem: string;
  /** Processes that wanted a core in the minute before the run: above the cores, something else was going on. */
  readonly loadBefore: number;
}

/** This machine, now. */
export function thisMachine(fileSystem: string): Machine {
  const [first] = cpus();
  return {
    cpu: first?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${release().split(/[-+]/)[0]}`,
    node: process.version,
    fileSystem,
    loadBefore: Number((loadavg()[0] ?? 0).toFixed(1)),
  };
}
