import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { RootManifest, SourceManifest } from './published-manifest.js';
import { tarballFaults } from './tarball-faults.js';
import { pack, packAll } from './tarballs.js';

// `npm run check:packages`: packs every package and holds each tarball against `publint --strict`, `attw --profile esm-only` and
// our own rules. Then breaks copies of one tarball, and fails unless each fault is caught by the check that is there for it.

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));
const rootManifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as RootManifest;
const temp = await mkdtemp(join(tmpdir(), 'hmcp-check-'));

const packed = (await readdir(join(root, 'packages'))).map((name) => `${rootManifest.config.scope}/${name}`);

/** A check: what it finds wrong with a tarball, `undefined` when nothing is. */
type Check = (tarball: string) => Promise<string | undefined>;
const checks: Readonly<Record<string, Check>> = {
  publint: (tarball) => tool('publint', ['run', tarball, '--strict']),
  attw: (tarball) => tool('attw', [tarball, '--profile', 'esm-only', '--no-definitely-typed', '--no-color', '--format', 'ascii']),
  contents: async (tarball) => tarballFaults(await contentsOf(tarball), rootManifest, packed).join('\n') || undefined,
};

/** Copies of a sound tarball with one thing broken, and which check is there to catch it by which words. */
const planted: readonly { fault: string; by: string; says: RegExp; breaks: (folder: string) => Promise<void> }[] = [
  {
    fault: 'an export whose program is not there',
    by: 'publint',
    says: /gone\.js/,
    breaks: (folder) => rewrite(folder, (text) => text.replace('./dist/index.js', './dist/gone.js')),
  },
  {
    fault: 'an export whose types are not there',
    by: 'attw',
    says: /Used fallback condition/,
    breaks: (folder) => rewrite(folder, (text) => text.replace('./dist/index.d.ts', './dist/gone.d.ts')),
  },
  {
    fault: 'the condition that points to sources',
    by: 'contents',
    says: /has the condition/,
    breaks: (folder) =>
      rewrite(folder, (text) => text.replace('"types":', `"${rootManifest.config.scope}/source": "./src/index.ts", "types":`)),
  },
  {
    fault: 'maps that point nowhere',
    by: 'contents',
    says: /index\.js\.map points to src\/index\.ts, which is not there/,
    breaks: (folder) => rm(join(folder, 'src', 'index.ts')),
  },
];

try {
  const tarballs = await packAll(root, join(temp, 'packed'));
  const found: string[] = [];
  for (const tarball of tarballs) {
    for (const [name, check] of Object.entries(checks)) {
      const said = await check(tarball);
      if (said !== undefined) found.push(`${basename(tarball)}: ${name} says\n${said}`);
    }
    process.stdout.write(`checked ${basename(tarball)}\n`);
  }

  const [sound] = tarballs.filter((tarball) => basename(tarball).includes('-audit-'));
  if (sound === undefined) throw new Error('there is no tarball to break');
  for (const { fault, by, says, breaks } of planted) {
    const said = await checks[by]?.(await brokenCopy(sound, breaks));
    const line = said?.split('\n').find((text) => says.test(text));
    if (line === undefined) found.push(`${by} did not catch ${fault}${said === undefined ? '' : `; it says\n${said}`}`);
    else process.stdout.write(`caught, by ${by}: ${fault}: ${line.trim()}\n`);
  }

  for (const fault of found) process.stderr.write(`${fault}\n`);
  if (found.length === 0) process.stdout.write(`${tarballs.length} tarballs, nothing wrong with any\n`);
  process.exitCode = found.length === 0 ? 0 : 1;
} finally {
  await rm(temp, { recursive: true, force: true });
}

/** Runs a tool of the repository. @returns what it says when it fails */
async function tool(name: string, args: readonly string[]): Promise<string | undefined> {
  const manifest = JSON.parse(
    await readFile(join(root, 'node_modules', packageOf(name), 'package.json'), 'utf8'),
  ) as SourceManifest;
  const program = join(root, 'node_modules', packageOf(name), manifest.bin?.[name] ?? '');
  try {
    await run(process.execPath, [program, ...args], { cwd: temp });
    return undefined;
  } catch (error) {
    const { stdout, stderr, code } = error as { stdout?: string; stderr?: string; code?: unknown };
    return `${stdout ?? ''}${stderr ?? ''}`.trim() || `it failed (${String(code)})`;
  }
}

function packageOf(tool: string): string {
  return tool === 'attw' ? '@arethetypeswrong/cli' : tool;
}

async function unpack(tarball: string): Promise<string> {
  const folder = await mkdtemp(join(temp, 'unpacked-'));
  await run('tar', ['-xzf', tarball, '-C', folder]);
  return join(folder, 'package');
}

async function contentsOf(tarball: string): Promise<ReadonlyMap<string, string>> {
  const folder = await unpack(tarball);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const contents = new Map<string, string>();
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    contents.set(
      path
        .slice(folder.length + 1)
        .split(sep)
        .join('/'),
      await readFile(path, 'utf8'),
    );
  }
  return contents;
}

/** Unpacks a tarball, breaks it and packs it again. */
async function brokenCopy(tarball: string, breaks: (folder: string) => Promise<void>): Promise<string> {
  const folder = await unpack(tarball);
  await breaks(folder);
  const into = await mkdtemp(join(temp, 'broken-'));
  const [broken] = await pack([folder], into);
  if (broken === undefined) throw new Error('the broken copy was not packed');
  return broken;
}

async function rewrite(folder: string, change: (text: string) => string): Promise<void> {
  const path = join(folder, 'package.json');
  const before = await readFile(path, 'utf8');
  const after = change(before);
  if (after === before) throw new Error('nothing was broken');
  await writeFile(path, after);
}
