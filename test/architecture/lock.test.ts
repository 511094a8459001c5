import { describe, expect, it } from 'vitest';
import { readJson, readText, readWorkspace, SCOPE } from './workspace.js';

interface LockedPackage {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}
type Lock = Readonly<Record<string, LockedPackage>>;

const { packages: lock } = readJson('package-lock.json') as { packages: Lock };

/**
 * Optional dependencies named in the lock that it does not hold: with one missing, `npm ci` on that platform installs a tool
 * without its binary. A tool's binary may stand beside it or in a `node_modules` further out.
 */
function missingBinaries(packages: Lock): string[] {
  return Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => !homes(path).some((home) => packages[`${home}node_modules/${name}`]))
      .map((name) => `${path || 'the root'} wants ${name}, which is not in the lock`),
  );
}

/** Folders whose `node_modules` a package is looked up in, itself first. */
function homes(path: string): string[] {
  const inner = path.split('/node_modules/');
  return [...inner.map((_, depth) => `${inner.slice(0, inner.length - depth).join('/node_modules/')}/`), ''];
}

/** Entries that name where they were downloaded from; a workspace's link to its folder is none. */
function downloadedFrom(packages: Lock): string[] {
  return Object.entries(packages)
    .filter(([, { resolved, link }]) => resolved !== undefined && !link)
    .map(([path]) => path);
}

/** Entries of the registry that any content would satisfy. */
function withoutIntegrity(packages: Lock): string[] {
  return Object.entries(packages)
    .filter(([path, { integrity, link }]) => path.includes('node_modules/') && !link && integrity === undefined)
    .map(([path]) => path);
}

describe('package-lock.json', () => {
  it('holds every optional platform binary it names', () => {
    expect(missingBinaries(lock)).toEqual([]);
  });

  it.each([
    'turbo',
    '@biomejs/biome',
    'typescript',
    'rolldown',
    'lightningcss',
  ])('knows %s for other platforms than this one', (tool) => {
    const binaries = Object.keys(lock[`node_modules/${tool}`]?.optionalDependencies ?? {});
    expect(binaries.length).toBeGreaterThanOrEqual(4);
    const strange = binaries.filter(
      (name) => !/darwin|linux|win32|windows|freebsd|netbsd|openbsd|sunos|aix|android|openharmony|wasm/.test(name),
    );
    expect(strange).toEqual([]);
  });

  it('names no place of download, so any registry mirror serves it', () => {
    expect(downloadedFrom(lock)).toEqual([]);
    expect(readText('package-lock.json')).not.toMatch(/https?:\/\/[^"]*\.tgz/);
  });

  it('holds the digest of everything that comes from a registry', () => {
    expect(withoutIntegrity(lock)).toEqual([]);
  });

  it('would notice a missing binary, a place of download and a missing digest', () => {
    const planted: Lock = {
      'node_modules/tool': { version: '1.0.0', optionalDependencies: { '@tool/linux-x64': '1.0.0', '@tool/win32-x64': '1.0.0' } },
      'node_modules/@tool/linux-x64': { version: '1.0.0', integrity: 'sha512-x' },
      'node_modules/other': { version: '1.0.0', integrity: 'sha512-x', resolved: 'https://registry.example/other.tgz' },
      'node_modules/other/node_modules/deep': { integrity: 'sha512-x', optionalDependencies: { '@tool/linux-x64': '1.0.0' } },
    };
    expect(missingBinaries(planted)).toEqual(['node_modules/tool wants @tool/win32-x64, which is not in the lock']);
    expect(downloadedFrom(planted)).toEqual(['node_modules/other']);
    expect(withoutIntegrity(planted)).toEqual(['node_modules/tool']);
  });

  it('locks the workspaces of this repository at their own version', () => {
    for (const { manifest, folder, short } of readWorkspace().packages.filter((pkg) => pkg.short !== 'test')) {
      expect(lock[folder]?.version, short).toBe(manifest.version);
      expect(lock[`node_modules/${manifest.name}`]?.link, short).toBe(true);
    }
  });
});

describe('the npm scope', () => {
  it('stands in one constant, `config.scope` of the root package.json, and every package is named by it', () => {
    expect(SCOPE).toMatch(/^@[a-z][a-z0-9-]*$/);
    for (const { manifest, short } of readWorkspace().packages) expect(manifest.name).toBe(`${SCOPE}/${short}`);
  });

  it('is private until it is published on purpose', () => {
    for (const { manifest, short } of readWorkspace().packages) if (short !== 'test') expect(manifest.private, short).toBe(true);
  });
});
