import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportsOf } from './architecture/declarations.js';
import { fencesOf } from './architecture/documents.js';
import { entriesOf, ROOT, ROOT_MANIFEST, readText, readWorkspace, SCOPE } from './architecture/workspace.js';

// What somebody does who has nothing but the README and the page it sends them to: their commands, in their order, in an empty
// folder outside the repository, with the packages from their tarballs.

/** The pages a newcomer reads. */
const PAGES = ['README.md', 'docs/guide/first-call.md'].map(readText);
const [setUp = '', start = '', calls = ''] = fencesOf(PAGES[0] ?? '')
  .filter(({ language }) => language === 'sh')
  .map(({ code }) => code);

let temp = '';
let folder = '';
/** Ends what a test left running. */
let endClinic: (() => Promise<void>) | undefined;

beforeAll(async () => {
  temp = await mkdtemp(join(tmpdir(), 'hmcp-newcomer-'));
  folder = join(temp, 'first-call');
  expect(setUp).toContain('../first-call');
  const installed = await shell(setUp.replaceAll('../first-call', folder), ROOT);
  if (installed.code !== 0) throw new Error(`the folder could not be set up:\n${installed.output}`);
  await writeBlocks(PAGES, folder);
});

afterAll(async () => {
  try {
    await endClinic?.();
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
});

describe('the packages, installed from their tarballs', () => {
  it('are all there, each with README, licence and program, and none with a test', async () => {
    const names = (await readdir(join(ROOT, 'packages'))).filter((name) =>
      existsSync(join(ROOT, 'packages', name, 'package.json')),
    );
    for (const name of names) {
      const files = await readdir(join(folder, 'node_modules', SCOPE, name));
      expect(files, name).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'dist', 'package.json', 'src']));
      expect(files, name).not.toContain('test');
    }
  });

  it('are never loaded from their sources, not even by who asks for the condition of the repository', async () => {
    const entries = readWorkspace()
      .packages.filter((pkg) => pkg.folder.startsWith('packages/'))
      .flatMap(entriesOf);
    // Matchers register themselves, and contracts declare tests: only a test can load them.
    const ofTests = [`${SCOPE}/testing/vitest`, `${SCOPE}/testing/contracts`];
    const names = entries.map(({ name }) => name).filter((name) => !ofTests.includes(name));
    const asked = `for (const name of ${JSON.stringify(names)}) { await import(name); process.stdout.write(import.meta.resolve(name) + '\\n'); }`;
    await writeFile(join(folder, 'ask.js'), asked);
    const { code, output } = await shell(`node --conditions=${SCOPE}/source ask.js`, folder);
    expect(code, output).toBe(0);
    const resolved = output.trim().split('\n');
    expect(resolved).toHaveLength(names.length);
    for (const url of resolved) expect(url).toMatch(/\/first-call\/node_modules\/.+\/dist\/[\w-]+\.js$/);
  });

  it('say in their declarations what every export is for', async () => {
    for (const pkg of readWorkspace().packages.filter(({ folder }) => folder.startsWith('packages/')))
      for (const { name, types } of entriesOf(pkg)) {
        const installed = types.replace(pkg.folder, join(folder, 'node_modules', pkg.manifest.name));
        const texts = await textsBelow(join(folder, 'node_modules', pkg.manifest.name, 'dist'));
        const exported = exportsOf(installed, (path) => texts.get(path) ?? '');
        expect(exported.length, name).toBeGreaterThan(0);
        expect(
          exported.filter(({ docs }) => docs === undefined).map((one) => one.name),
          name,
        ).toEqual([]);
      }
  });
});

describe('the code of the README', () => {
  it('is built as the README says, with every type it leans on checked', async () => {
    const [build = ''] = start.split('\n');
    expect(build).toMatch(/^npx tsc .*--strict/);
    const built = await shell(build, folder);
    expect(built.output.replace(/^npm warn .*\n/gm, '')).toBe('');
    expect(built.code).toBe(0);
  });

  it('would not be built with an import that is not there', async () => {
    const broken = join(folder, 'broken');
    const pages = PAGES.map((page) => page.replace('import { definePatientTool }', 'import { definePatientTols }'));
    expect(pages).not.toEqual(PAGES);
    await mkdir(broken);
    await writeBlocks(pages, broken);
    const { code, output } = await shell((start.split('\n')[0] ?? '').replace('npx tsc', 'npx tsc --noEmit'), broken);
    expect(code).not.toBe(0);
    expect(output).toMatch(/^server\.ts\(\d+,\d+\): error TS\d+: .*definePatientTols/m);
    await rm(broken, { recursive: true });
  });

  it('serves one call and refuses one, in the clinic the README starts', async () => {
    const dev = start.split('\n')[1] ?? '';
    expect(dev).toMatch(/^npx hmcp dev --agent problems=serve\.js /);
    const [served = '', refused = '', client = '', verify = '', ...more] = calls.split('\n').map((line) => line.split(/ +# /)[0]);
    expect(more).toEqual([]);
    const clinic = await startClinic(dev);
    try {
      const one = await shell(served, folder, 'stdout');
      expect(one.code, one.output).toBe(0);
      const { problems } = JSON.parse(one.output) as { problems: { resourceType: string; subject: { reference: string } }[] };
      expect(problems.length).toBeGreaterThan(0);
      expect(new Set(problems.map(({ subject }) => subject.reference)).size).toBe(1);

      const two = await shell(refused, folder);
      expect(two.code).toBe(1);
      expect(two.output).toMatch(/^40903 .*\(hop 1\), check "argument"/m);
      expect(two.output).not.toContain('somebody-else');

      const program = await shell(client, folder, 'stdout');
      expect(program.output).toMatch(/^served: [1-9]\d* problems\n40903 .*check "argument"/);
      expect(program.code).toBe(0);

      const verified = await shell(verify, folder, 'stdout');
      expect(verified.output).toMatch(/^ok .*problems\.jsonl/m);
      expect(verified.code, verified.output).toBe(0);
    } finally {
      await clinic.stop();
    }
    const closed = await shell('npx hmcp audit verify .hmcp', folder, 'stdout');
    expect(closed.code, closed.output).toBe(0);
    const log = await readFile(join(folder, '.hmcp', 'audit', 'problems.jsonl'), 'utf8');
    expect(log.match(/"event":"request\.refused"/g)).toHaveLength(2);
  });
});

describe('the testbed', () => {
  it('runs in vitest as its README shows, typed', async () => {
    const tests = join(folder, 'testbed');
    await cp(join(ROOT, 'examples', 'testbed'), tests, { recursive: true });
    const vitest = ROOT_MANIFEST.devDependencies?.vitest ?? '';
    const installed = await shell(`npm install --save-dev vitest@${vitest}`, folder);
    expect(installed.code, installed.output).toBe(0);
    const flags = '--noEmit --module nodenext --target esnext --strict --types node';
    const typed = await shell(`npx tsc ${flags} testbed/*.ts`, folder);
    expect(typed.code, typed.output).toBe(0);
    const run = await shell('npx vitest run testbed', folder);
    expect(run.code, run.output).toBe(0);
    expect(run.output).toMatch(/Tests +[1-9]\d* passed/);
  });
});

/** Writes every TypeScript block under the name of its source. */
async function writeBlocks(pages: readonly string[], into: string): Promise<void> {
  const blocks = pages.flatMap(fencesOf).filter(({ language, source }) => language === 'ts' && source !== undefined);
  const names = blocks.map(({ source = '' }) => basename(source));
  expect([...names].sort()).toEqual(['client.ts', 'serve.ts', 'server.ts', 'settings.ts']);
  for (const [place, { code }] of blocks.entries()) await writeFile(join(into, names[place] ?? ''), `${code}\n`);
}

/** The environment of a terminal: nothing that npm or vitest told this process. */
function terminal(): NodeJS.ProcessEnv {
  const ours =
    /^(npm_(lifecycle|package|config_local_prefix|command|execpath|node_execpath)|INIT_CWD|NODE_|VITEST|HMCP_|TEST$|MODE$|DEV$|PROD$|SSR$|BASE_URL$)/;
  const told = Object.entries(process.env).filter(([name]) => !ours.test(name));
  return { ...Object.fromEntries(told), npm_config_prefer_offline: 'true', npm_config_update_notifier: 'false', NO_COLOR: '1' };
}

/** Runs lines as typed into a terminal. @param heard what is returned as output @default "both" */
async function shell(
  lines: string,
  cwd: string,
  heard: 'stdout' | 'both' = 'both',
): Promise<{ code: number | null; output: string }> {
  const child = spawn('sh', ['-e', '-c', lines], { cwd, env: terminal(), stdio: ['ignore', 'pipe', 'pipe'], timeout: 240_000 });
  let output = '';
  const hear = (text: string): void => {
    output += text;
  };
  child.stdout.setEncoding('utf8').on('data', hear);
  child.stderr.setEncoding('utf8').on('data', heard === 'both' ? hear : () => undefined);
  const code = await new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve));
  return { code, output };
}

/** Starts the clinic as typed into a terminal, and waits until it says that it is ready. */
async function startClinic(line: string): Promise<{ stop(): Promise<void> }> {
  // A process group of its own, so that it can be sent what Ctrl-C sends.
  const child = spawn('sh', ['-c', line], { cwd: folder, env: terminal(), stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let running = true;
  const ended = new Promise<void>((resolve) =>
    child.once('close', () => {
      running = false;
      resolve();
    }),
  );
  const stop = async (): Promise<void> => {
    if (running && child.pid !== undefined) process.kill(-child.pid, 'SIGINT');
    await ended;
  };
  endClinic = stop;
  let output = '';
  await new Promise<void>((resolve, reject) => {
    const hear = (text: string): void => {
      output += text;
      if (output.includes('Stop with Ctrl-C.')) resolve();
    };
    child.stdout.setEncoding('utf8').on('data', hear);
    child.stderr.setEncoding('utf8').on('data', hear);
    child.once('close', () => reject(new Error(`the clinic did not start:\n${output}`)));
  });
  return { stop };
}

async function textsBelow(path: string): Promise<ReadonlyMap<string, string>> {
  const texts = new Map<string, string>();
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    if (entry.isFile() && file.endsWith('.d.ts')) texts.set(file, await readFile(file, 'utf8'));
  }
  return texts;
}
