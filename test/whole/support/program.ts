import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

/** Folder of the repository; programs run there, as a newcomer's do. */
export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** The built programs. */
export const STORY = join(ROOT, 'examples/dist/story/main.js');
export const HMCP = join(ROOT, 'packages/cli/dist/main.js');

/** How a program ended. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Milliseconds from its start to its first line on standard output; `undefined` when there was none. */
  readonly firstLineMs: number | undefined;
}

/** A program that runs. */
export interface Running {
  readonly pid: number;
  /** What it has said so far. */
  readonly said: { readonly stdout: string; readonly stderr: string };
  readonly ended: Promise<Ended>;
  /** The first whole line of standard output that holds `part`. @throws when it ends, or runs out of time, before */
  line(part: string): Promise<string>;
  /** Sends a signal and waits for the end. */
  stop(signal: NodeJS.Signals): Promise<Ended>;
}

/** What a program is run with. */
export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** It is killed after this many milliseconds. @default 60 000 */
  readonly deadlineMs?: number;
  /** @default nothing */
  readonly stdin?: string;
  /** Run by a shell, as pasted into one; `argv` is then one line. @default false */
  readonly shell?: boolean;
}

/** Starts `node …argv` with a clean environment. The caller ends it; {@link Running.ended} is bounded in any case. */
export function start(argv: readonly string[], options: RunOptions = {}): Running {
  const { env = {}, deadlineMs = 60_000, shell = false, stdin = '' } = options;
  const { PATH = '', HOME = '' } = process.env;
  const began = performance.now();
  const [command = '', args] = shell ? ['/bin/sh', ['-c', argv.join(' ')]] : [process.execPath, [...argv]];
  const child = spawn(command, args, { cwd: ROOT, env: { PATH, HOME, ...env }, stdio: 'pipe' });
  child.stdin.on('error', () => undefined).end(stdin);
  const said = { stdout: '', stderr: '' };
  let firstLineMs: number | undefined;
  const waiting = new Set<() => void>();
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said.stdout += text;
    if (said.stdout.includes('\n')) firstLineMs ??= performance.now() - began;
    for (const look of waiting) look();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said.stderr += text;
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, ...said, firstLineMs });
      for (const look of waiting) look();
    });
  });
  return {
    pid: child.pid ?? 0,
    said,
    ended,
    line: (part) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = said.stdout
            .slice(0, said.stdout.lastIndexOf('\n') + 1)
            .split('\n')
            .find((line) => line.includes(part));
          if (found === undefined && child.exitCode === null && child.signalCode === null) return;
          waiting.delete(look);
          if (found !== undefined) resolve(found);
          else reject(new Error(`ended without a line that holds "${part}": ${said.stderr}`));
        };
        waiting.add(look);
        look();
      }),
    stop(signal) {
      child.kill(signal);
      return ended;
    },
  };
}

/** Runs a program to its end. */
export function run(argv: readonly string[], options?: RunOptions): Promise<Ended> {
  return start(argv, options).ended;
}

/** `hmcp …` as a person types it. */
export function hmcp(...argv: string[]): Promise<Ended> {
  return run([HMCP, ...argv]);
}

/** A folder that goes with the test. */
export async function freshFolder(name = 'hmcp-whole'): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `${name}-`));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
