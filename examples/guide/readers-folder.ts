import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Checks } from '../checks.js';

const HMCP = join(createRequire(import.meta.url).resolve('@hmcp/cli'), '../../bin/hmcp.js');
/** npm runs scripts at the root of the repository. */
const GUIDES = resolve('docs/guide');
/** Milliseconds one command may take. */
const LIMIT_MS = 60_000;

/** The pages speak of the people this project ships, whatever records this machine has besides. */
const { HMCP_DATA: _, ...ENV } = process.env;

/** What a command ended with. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  /** Both streams, as a terminal shows them. */
  readonly output: string;
}

/** A folder as the guides have their reader make it: the programs in `dist`, and `hmcp dev` running as the pages start it. */
export class ReadersFolder {
  readonly path: string;
  readonly #checks: Checks;
  readonly #dev: ChildProcess;

  private constructor(path: string, checks: Checks, dev: ChildProcess) {
    this.path = path;
    this.#checks = checks;
    this.#dev = dev;
  }

  /** @param pages whose `hmcp dev` commands are put together into one */
  static async open(checks: Checks, ...pages: string[]): Promise<ReadersFolder> {
    const commands = (await Promise.all(pages.map(devCommands))).flat();
    const added = new Set(commands.flatMap((text) => [...text.matchAll(/--(?:agent|child|calls) \S+/g)].map(([flag]) => flag)));
    const scopes = new Set(commands.flatMap((text) => (/--scope '?([^'\n]+)/.exec(text)?.[1] ?? '').trim().split(' ')));
    return ReadersFolder.start(checks, ...[...added].flatMap((flag) => flag.split(' ')), '--scope', [...scopes].join(' '));
  }

  /** @param args of `hmcp dev` */
  static async start(checks: Checks, ...args: string[]): Promise<ReadersFolder> {
    const path = await mkdtemp(join(tmpdir(), 'hmcp-guide-'));
    await symlink(fileURLToPath(new URL('.', import.meta.url)), join(path, 'dist'));
    const dev = spawn(process.execPath, [HMCP, 'dev', '--json', ...args], {
      cwd: path,
      env: ENV,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise<void>((resolve, reject) => {
      dev.stdout?.once('data', () => resolve());
      dev.once('exit', (code) => reject(new Error(`hmcp dev ended with ${code}`)));
    });
    return new ReadersFolder(path, checks, dev);
  }

  /** `npx hmcp …` */
  hmcp(...args: string[]): Promise<Ended> {
    return this.run(HMCP, args);
  }

  /** `node PROGRAM`, typing what is asked for: each answer when its prompt stands there; a text is piped in, and ends. */
  run(
    program: string,
    args: readonly string[] = [],
    typed: readonly (readonly [prompt: string, answer: string])[] | string = [],
  ): Promise<Ended> {
    const child = spawn(process.execPath, [program, ...args], { cwd: this.path, env: ENV, timeout: LIMIT_MS });
    let [stdout, output] = ['', ''];
    const waiting = typeof typed === 'string' ? [] : [...typed];
    if (typeof typed === 'string') child.stdin.end(typed);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      output += text;
      const [next] = waiting;
      if (next === undefined || !output.endsWith(next[0])) return;
      waiting.shift();
      output += `${next[1]}\n`; // as a terminal echoes it
      child.stdin.write(`${next[1]}\n`);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, stdout, output }));
    });
  }

  /** Expects a command to have ended so, with what the page shows. */
  async shown(page: string, what: string, { code, output }: Ended, expected = 0): Promise<void> {
    process.stdout.write(output);
    this.#checks.is(`${what}: exit code`, code, expected);
    const blocks = [...(await pageText(page)).matchAll(/```text\n([\s\S]*?)```/g)].map(([, text = '']) => text.trim());
    this.#checks.is(`${what}: what ${page} shows`, blocks.includes(plain(output).trim()), true);
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#dev.once('exit', resolve));
    this.#dev.kill('SIGTERM');
    if (this.#dev.exitCode === null) await ended;
    await rm(this.path, { recursive: true, force: true });
  }
}

/** Without what differs from run to run. */
export function plain(output: string): string {
  return output
    .replaceAll(/127\.0\.0\.1:\d+/g, '127.0.0.1:PORT')
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'INTENT');
}

function pageText(page: string): Promise<string> {
  return readFile(join(GUIDES, page), 'utf8');
}

/** The `hmcp dev` commands of a page, each as one line. */
async function devCommands(page: string): Promise<string[]> {
  const text = (await pageText(page)).replaceAll('\\\n', ' ');
  return [...text.matchAll(/^npx hmcp dev (.*)$/gm)].map(([, args = '']) => args);
}
