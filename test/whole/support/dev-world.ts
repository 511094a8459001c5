import type { WorldFacts } from '@hmcp/cli/world';
import { type Ended, HMCP, type Running, start } from './program.js';

/** The one line `hmcp dev --json` prints. */
export interface Ready extends WorldFacts {
  readonly type: 'ready';
  readonly call: string;
}

/** A development world that runs as its own program. */
export interface DevWorld {
  readonly ready: Ready;
  readonly program: Running;
  stop(): Promise<Ended>;
}

/** Starts `hmcp dev --json` and waits for its line. */
export async function startDev(options: {
  readonly state: string;
  readonly data?: string;
  /** By a shell, as npm runs it. @default false */
  readonly underNpm?: boolean;
}): Promise<DevWorld> {
  const { state, data, underNpm = false } = options;
  const argv = [HMCP, 'dev', '--json', '--state', state, ...(data === undefined ? [] : ['--data', data])];
  const deadlineMs = 110_000;
  const program = underNpm
    ? start([process.execPath, ...argv, '; exit'], { deadlineMs, shell: true, env: { npm_command: 'exec' } })
    : start(argv, { deadlineMs });
  const ready = JSON.parse(await program.line('"type":"ready"')) as Ready;
  return { ready, program, stop: () => program.stop('SIGTERM') };
}

/** Where a party of the world is reached. */
export function urlOf({ parties }: Pick<Ready, 'parties'>, name: string): string {
  return parties.find((party) => party.name === name)?.url ?? '';
}
