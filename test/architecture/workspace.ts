import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A `package.json`, as far as the architecture tests look at it. */
export interface Manifest {
  readonly name: string;
  readonly version?: string;
  readonly private?: boolean;
  readonly config?: { readonly scope?: string };
  readonly scripts?: Readonly<Record<string, string>>;
  readonly bin?: Readonly<Record<string, string>>;
  readonly exports?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  /** What its user brings: imported, not installed with it. */
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/** A module of a package; `path` is relative to the package folder, with forward slashes. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** A workspace package with its own modules (what is built) and its tests. */
export interface Package {
  /** The name without the npm scope: `core`. */
  readonly short: string;
  /** Relative to the repository: `packages/core`. */
  readonly folder: string;
  readonly manifest: Manifest;
  /** `references` of its `tsconfig.json`, as folders relative to the repository. */
  readonly references: readonly string[];
  readonly sources: readonly SourceFile[];
  readonly tests: readonly SourceFile[];
}

/** Everything the architecture tests judge. A planted violation is the same data with one thing changed. */
export interface Workspace {
  readonly root: Manifest;
  readonly packages: readonly Package[];
}

/** Folder of the repository. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** The root manifest; its `config.scope` is the one place where the npm scope stands. */
export const ROOT_MANIFEST = readJson('package.json') as Manifest;

/** The npm scope of every package: `config.scope` of the root `package.json`. */
export const SCOPE: string = ROOT_MANIFEST.config?.scope ?? '';

/** Reads a text file of the repository. */
export function readText(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** Reads a JSON file of the repository; line comments of its own line are allowed, as in a `tsconfig.json`. */
export function readJson(path: string): unknown {
  return JSON.parse(readText(path).replace(/^\s*\/\/.*$/gm, ''));
}

const NOT_OURS = new Set(['node_modules', 'dist', 'coverage']);

/** Files below a folder of the repository, sorted, relative to the repository; hidden, built and installed ones left out. */
export function filesBelow(folder: string): string[] {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { withFileTypes: true })
    .filter((entry) => !NOT_OURS.has(entry.name) && !entry.name.startsWith('.'))
    .flatMap((entry) => {
      const path = relative(ROOT, join(ROOT, folder, entry.name))
        .split(sep)
        .join('/');
      return entry.isDirectory() ? filesBelow(path) : [path];
    })
    .sort();
}

/** Examples with an installation of their own: no part of the workspace, held by their own compiler run. */
const APART = 'examples/ecosystem/';

/** The workspace as it stands on disk. */
export function readWorkspace(): Workspace {
  const folders = readdirSync(join(ROOT, 'packages'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(ROOT, 'packages', entry.name, 'package.json')))
    .map((entry) => `packages/${entry.name}`)
    .sort();
  const packages = [...folders, 'examples'].map(readPackage);
  return { root: ROOT_MANIFEST, packages: [...packages, testsAcross(packages)] };
}

/** The tests across packages, as a package that may use every other one. */
function testsAcross(packages: readonly Package[]): Package {
  const devDependencies = Object.fromEntries(packages.map(({ manifest }) => [manifest.name, '*']));
  return {
    short: 'test',
    folder: 'test',
    manifest: { name: `${SCOPE}/test`, devDependencies },
    references: [],
    sources: [],
    tests: filesBelow('test')
      .filter(isModule)
      .map((path) => ({ path: path.slice('test/'.length), text: readText(path) })),
  };
}

function isModule(path: string): boolean {
  return /\.(ts|mts|js|mjs)$/.test(path);
}

function readPackage(folder: string): Package {
  const manifest = readJson(`${folder}/package.json`) as Manifest;
  const config = readJson(`${folder}/tsconfig.json`) as { references?: { path: string }[] };
  const modules = filesBelow(folder)
    .filter((path) => isModule(path) && !path.startsWith(APART))
    .map((path) => ({ path: path.slice(folder.length + 1), text: readText(path) }));
  const isTest = ({ path }: SourceFile) => path.startsWith('test/') || path.endsWith('.test.ts');
  return {
    short: manifest.name.replace(`${SCOPE}/`, ''),
    folder,
    manifest,
    references: (config.references ?? []).map(({ path }) => join(folder, path).split(sep).join('/')),
    sources: modules.filter((file) => !isTest(file)),
    tests: modules.filter(isTest),
  };
}

/** An entry of a package: the name others import it by, and its built declarations relative to the repository. */
export interface Entry {
  readonly name: string;
  readonly types: string;
}

/** What a package's `exports` offer. */
export function entriesOf({ manifest, folder }: Package): Entry[] {
  return Object.entries(manifest.exports ?? {}).map(([subpath, conditions]) => ({
    name: `${manifest.name}${subpath.slice(1)}`,
    types: join(folder, conditions.types ?? '')
      .split(sep)
      .join('/'),
  }));
}
