import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, relative, sep } from 'node:path';
import { promisify } from 'node:util';
import { publishedManifest, type RootManifest, type SourceManifest } from './published-manifest.js';

const run = promisify(execFile);

/**
 * Packs every package of `packages/` with `npm pack`, from a copy that holds what a user gets: the built program, the sources that
 * its maps point to, README, licence and the published manifest. The packages must be built.
 * @param root folder of the repository
 * @param into folder the tarballs are written to; made when absent, and rid of earlier tarballs of these packages
 * @returns the tarballs' paths
 */
export async function packAll(root: string, into: string): Promise<string[]> {
  const rootManifest = (await readJson(join(root, 'package.json'))) as RootManifest;
  const folders = (await readdir(join(root, 'packages'))).filter((name) =>
    existsSync(join(root, 'packages', name, 'package.json')),
  );
  const stage = await mkdtemp(join(tmpdir(), 'hmcp-pack-'));
  try {
    for (const name of folders) await stagePackage(root, `packages/${name}`, join(stage, name), rootManifest);
    await removeEarlier(into, rootManifest);
    return await pack(
      folders.map((name) => join(stage, name)),
      into,
    );
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

/** Runs `npm pack` on folders that are as they should be packed. @returns the tarballs' paths */
export async function pack(folders: readonly string[], into: string): Promise<string[]> {
  await mkdir(into, { recursive: true });
  const flags = ['--json', '--ignore-scripts', '--pack-destination', into];
  const { stdout } = await run('npm', ['pack', ...flags, ...folders], { cwd: into, maxBuffer: 64 * 1024 * 1024 });
  return (JSON.parse(stdout) as { filename: string }[]).map(({ filename }) => join(into, basename(filename)));
}

async function stagePackage(root: string, folder: string, stage: string, rootManifest: RootManifest): Promise<void> {
  const from = join(root, folder);
  const manifest = (await readJson(join(from, 'package.json'))) as SourceManifest;
  await mkdir(stage, { recursive: true });
  for (const part of manifest.files ?? []) {
    if (part === 'dist' && !existsSync(join(from, 'dist', 'index.js')))
      throw new Error(`${folder} is not built: run "npm run build" first`);
    await cp(join(from, part), join(stage, part), { recursive: true, filter: (path) => belongs(from, path) });
  }
  await cp(join(from, 'README.md'), join(stage, 'README.md'));
  await cp(join(root, 'LICENSE'), join(stage, 'LICENSE'));
  const published = publishedManifest(manifest, rootManifest, folder);
  await writeFile(join(stage, 'package.json'), `${JSON.stringify(published, null, 2)}\n`);
}

/** Not the compiler's notes, and nothing that was built from a source that is gone. */
function belongs(from: string, path: string): boolean {
  const [top, ...inner] = relative(from, path).split(sep);
  const built = /^(.+?)(\.d)?\.(ts|js)(\.map)?$/.exec(inner.join('/'));
  if (top !== 'dist' || inner.length === 0) return true;
  if (built === null) return !inner.join('/').includes('.'); // a folder
  return existsSync(join(from, 'src', `${built[1]}.ts`));
}

async function removeEarlier(into: string, { config }: RootManifest): Promise<void> {
  if (!existsSync(into)) return;
  const ours = new RegExp(`^${config.scope.slice(1)}-[a-z-]+-\\d+\\.\\d+\\.\\d+[\\w.-]*\\.tgz$`);
  for (const file of await readdir(into)) if (ours.test(file)) await rm(join(into, file));
}

async function readJson(path: string): Promise<unknown> {
  return JSON.parse(await readFile(path, 'utf8'));
}
