import { describe, expect, it } from 'vitest';
import { publishedManifest, type RootManifest, type SourceManifest } from '../../scripts/published-manifest.js';
import { tarballFaults } from '../../scripts/tarball-faults.js';
import { readJson, readWorkspace, SCOPE } from './workspace.js';

const root: RootManifest = { version: '0.1.0', config: { scope: '@hmcp' } };
const packed = ['@hmcp/core', '@hmcp/auth'];

const manifest = {
  name: '@hmcp/auth',
  version: '0.1.0',
  private: true,
  description: 'A package',
  keywords: ['mcp'],
  license: 'Apache-2.0',
  sideEffects: false,
  engines: { node: '>=20.19' },
  exports: { '.': { '@hmcp/source': './src/index.ts', types: './dist/index.d.ts', default: './dist/index.js' } },
  files: ['dist', 'src'],
  bin: { hmcp: './bin/hmcp.js' },
  scripts: { build: 'tsc -b' },
  dependencies: { '@hmcp/core': '0.1.0', jose: '^6.2.17' },
  devDependencies: { '@hmcp/testing': '0.1.0' },
} satisfies SourceManifest;

describe('the manifest in a tarball', () => {
  const published = publishedManifest(manifest, root, 'packages/auth');

  it('has no condition that points to sources, no scripts and no development dependencies', () => {
    expect(published.exports).toEqual({ '.': { types: './dist/index.d.ts', default: './dist/index.js' } });
    expect(Object.keys(published)).not.toContain('scripts');
    expect(Object.keys(published)).not.toContain('devDependencies');
    expect(published.dependencies).toEqual(manifest.dependencies);
  });

  it('names where its sources are, once the root does', () => {
    expect(published.repository).toBeUndefined();
    const repository = { type: 'git', url: 'git+https://git.example/hmcp.git' };
    expect(publishedManifest(manifest, { ...root, repository }, 'packages/auth').repository).toEqual({
      ...repository,
      directory: 'packages/auth',
    });
  });

  it('is made from a manifest that says all a tarball must say, in every package', () => {
    const own = readJson('package.json') as RootManifest;
    const packages = readWorkspace().packages.filter(({ folder }) => folder.startsWith('packages/'));
    const names = packages.map(({ manifest: { name } }) => name);
    for (const pkg of packages) {
      const text = JSON.stringify(publishedManifest(pkg.manifest as SourceManifest, own, pkg.folder));
      const contents = new Map([
        ['package.json', text],
        ['README.md', '#'],
        ['LICENSE', 'Apache'],
        ['bin/hmcp.js', '#!/usr/bin/env node\n'],
      ]);
      expect(tarballFaults(contents, own, names), pkg.short).toEqual([]);
    }
    expect(own.config.scope).toBe(SCOPE);
  });
});

describe('a tarball', () => {
  const sound = new Map([
    ['package.json', JSON.stringify(publishedManifest(manifest, root, 'packages/auth'))],
    ['README.md', '# @hmcp/auth'],
    ['LICENSE', 'Apache License'],
    ['bin/hmcp.js', '#!/usr/bin/env node\nimport "../dist/main.js";'],
    ['dist/index.js', 'export {};'],
    ['dist/index.js.map', '{"sources":["../src/index.ts"]}'],
    ['src/index.ts', 'export {};'],
  ]);
  const without = (path: string) => new Map([...sound].filter(([name]) => name !== path));
  const saying = (change: object) =>
    new Map(sound).set('package.json', JSON.stringify({ ...publishedManifest(manifest, root, 'packages/auth'), ...change }));

  it('is as it should be', () => {
    expect(tarballFaults(sound, root, packed)).toEqual([]);
  });

  it.each<[string, ReadonlyMap<string, string>, string]>([
    ['without a manifest', without('package.json'), 'there is no package.json'],
    ['without a README', without('README.md'), 'there is no README.md'],
    ['with an empty licence', new Map(sound).set('LICENSE', ' \n'), 'there is no LICENSE'],
    ['that does not say what it is', saying({ description: undefined }), 'does not say "description"'],
    ['that does not say for which Node', saying({ engines: undefined }), 'does not say "engines"'],
    ['with scripts', saying({ scripts: {} }), 'has "scripts"'],
    ['with the source condition', saying({ exports: manifest.exports }), 'has the condition "@hmcp/source"'],
    ['of another version', saying({ version: '0.2.0' }), 'the version is 0.2.0, not 0.1.0'],
    ['that wants a range of ours', saying({ dependencies: { '@hmcp/core': '^0.1.0' } }), 'wanted as "^0.1.0"'],
    ['that wants what is not packed', saying({ dependencies: { '@hmcp/gone': '0.1.0' } }), 'there is no tarball of it'],
    ['without its command', without('bin/hmcp.js'), 'the command ./bin/hmcp.js is no program'],
    ['with a command that no shell runs', new Map(sound).set('bin/hmcp.js', 'import "x";'), 'is no program'],
    ['with a test', new Map(sound).set('src/a.test.ts', ''), 'src/a.test.ts is no part'],
    ['with a folder of tests', new Map(sound).set('test/a.ts', ''), 'test/a.ts is no part'],
    ['with notes of the compiler', new Map(sound).set('dist/.tsbuildinfo', ''), 'dist/.tsbuildinfo is no part'],
    ['with a map to nowhere', without('src/index.ts'), 'dist/index.js.map points to src/index.ts, which is not there'],
  ])('is caught %s', (_, contents, expected) => {
    expect(tarballFaults(contents, root, packed).join('\n')).toContain(expected);
  });
});
