import { describe, expect, it } from 'vitest';
import { checkLayering, PICTURE } from './layering.js';
import { type Manifest, type Package, readWorkspace, SCOPE, type Workspace } from './workspace.js';

/** A package as it should be: one index, its dependencies declared, referenced and imported. */
function fixture(short: string, uses: readonly string[], others: readonly string[] = []): Package {
  const exports: Manifest['exports'] = { '.': { [`${SCOPE}/source`]: './src/index.ts' } };
  const all = [...uses.map((name) => `${SCOPE}/${name}`), ...others];
  return {
    short,
    folder: `packages/${short}`,
    manifest: { name: `${SCOPE}/${short}`, exports, dependencies: Object.fromEntries(all.map((name) => [name, '0.1.0'])) },
    references: uses.map((name) => `packages/${name}`),
    sources: [{ path: 'src/index.ts', text: all.map((name) => `import '${name}';`).join('\n') }],
    tests: [],
  };
}

const sound: Workspace = {
  root: { name: 'hmcp', devDependencies: { vitest: '4' } },
  packages: [
    fixture('core', [], ['zod']),
    fixture('auth', ['core'], ['jose']),
    fixture('audit', ['core']),
    fixture('server', ['core', 'auth']),
    fixture('agent', ['core', 'auth'], ['eventemitter3']),
    fixture('authorization-server', ['core', 'auth']),
    fixture('clinic', ['core', 'server', 'agent', 'audit']),
    fixture('cli', ['clinic', 'authorization-server']),
  ],
};

/** The folder of tests across packages, holding one. */
function acrossPackages(text: string): Package {
  const manifest = { name: `${SCOPE}/test` };
  return { short: 'test', folder: 'test', manifest, references: [], sources: [], tests: [{ path: 'whole.test.ts', text }] };
}

/** The sound workspace with modules added to one package, or its facts changed. */
function planted(short: string, change: Partial<Package> & { readonly add?: Readonly<Record<string, string>> }): Workspace {
  const { add = {}, ...facts } = change;
  const added = Object.entries(add).map(([path, text]) => ({ path, text }));
  return {
    ...sound,
    packages: sound.packages.map((pkg) =>
      pkg.short !== short
        ? pkg
        : {
            ...pkg,
            ...facts,
            sources: [...(facts.sources ?? pkg.sources), ...added.filter(({ path }) => path.startsWith('src/'))],
            tests: added.filter(({ path }) => path.startsWith('test/')),
          },
    ),
  };
}

describe('layering', () => {
  it('holds in this repository', () => {
    const violations = checkLayering(readWorkspace());
    if (violations.length > 0) expect.fail(`broken rules: ${violations.length}\n\n${violations.join('\n')}\n${PICTURE}\n`);
  });

  it('finds nothing wrong with a sound workspace', () => {
    expect(checkLayering(sound)).toEqual([]);
  });

  it('allows a program beside a module to be chosen by name', () => {
    expect(checkLayering(planted('cli', { add: { 'src/world.ts': 'new URL(`./${role}.js`, import.meta.url);' } }))).toEqual([]);
  });

  const inCore = (text: string) => planted('core', { add: { 'src/scopes.ts': text } });
  const inServer = (text: string) => planted('server', { add: { 'src/gate.ts': text } });

  it.each<[string, Workspace, RegExp]>([
    ['an arrow that turns', inCore(`import { verify } from '${SCOPE}/auth';`), /core\/src\/scopes\.ts:1 uses .*auth/],
    ['a turned arrow of types only', inCore(`import type { V } from '${SCOPE}/auth';`), /uses .*auth/],
    ['a turned arrow by import()', inCore(`const { verify } = await import('${SCOPE}/auth');`), /uses .*auth/],
    ['a turned arrow by export … from', inCore(`\nexport { verify } from '${SCOPE}/auth';`), /scopes\.ts:2 uses .*auth/],
    ['a turned arrow by export *', inCore(`export * from '${SCOPE}/auth';`), /uses .*auth/],
    ['a turned arrow inside a type', inCore(`export type V = import('${SCOPE}/auth').V;`), /uses .*auth/],
    ['a turned arrow by require', inCore(`const auth = require('${SCOPE}/auth');`), /uses .*auth/],
    ['a turned arrow by import.meta.resolve', inCore(`import.meta.resolve('${SCOPE}/auth');`), /uses .*auth/],
    ['server importing agent', inServer(`import '${SCOPE}/agent';`), /uses .*agent, which server may not/],
    [
      'agent importing server',
      planted('agent', { add: { 'src/peers.ts': `import '${SCOPE}/server';` } }),
      /uses .*server, which agent may not/,
    ],
    ['server importing its sink', inServer(`import type { F } from '${SCOPE}/audit';`), /uses .*audit, which server may not/],
    [
      'authorization-server importing audit',
      planted('authorization-server', { add: { 'src/ledger.ts': `import '${SCOPE}/audit';` } }),
      /uses .*audit, which authorization-server may not/,
    ],
    ['a dependency nobody agreed on', inServer(`import 'lodash';`), /uses lodash, which server may not/],
    ['a Node built-in in core', inCore(`import { createHash } from 'node:crypto';`), /brings "node:crypto" into core/],
    ['a built-in without its prefix', inServer(`import fs from 'fs/promises';`), /"fs\/promises" without "node:"/],
    [
      'a Node built-in behind the root of core',
      planted('core', {
        sources: [{ path: 'src/index.ts', text: `import 'zod'; export { runInScope } from './request-scope.js';` }],
        add: { 'src/request-scope.ts': `import { AsyncLocalStorage } from 'node:async_hooks';` },
      }),
      /core\/src\/index\.ts: loads .*request-scope\.ts, which needs "node:async_hooks"/,
    ],
    ['a deep path into a package', inServer(`import '${SCOPE}/auth/src/verify.js';`), /auth does not export/],
    ['a deep path in a test', planted('auth', { add: { 'test/a.test.ts': `import '${SCOPE}/core/chain';` } }), /does not export/],
    ['a relative path out of a package', inServer(`import '../../auth/src/verify.js';`), /reaches out of its package/],
    ['a file beside another package', inServer(`new URL('../../auth/package.json', import.meta.url);`), /reaches out/],
    [
      'a test reaching into another package',
      planted('auth', { add: { 'test/a.test.ts': `import '../../core/src/chain.js';` } }),
      /reaches out of its package/,
    ],
    [
      'a test using what nobody declares',
      planted('core', { add: { 'test/a.test.ts': `import '${SCOPE}/auth';` } }),
      /test\/a\.test\.ts:1 uses .*auth, which neither/,
    ],
    [
      'a circle inside a package',
      planted('auth', { add: { 'src/a.ts': `import './b.js';`, 'src/b.ts': `import './a.js';` } }),
      /in a circle: packages\/auth\/src\/a\.ts → packages\/auth\/src\/b\.ts → packages\/auth\/src\/a\.ts/,
    ],
    [
      'a circle of types',
      planted('auth', {
        add: { 'src/a.ts': `import type { B } from './b.js';`, 'src/b.ts': `export type { A } from './a.js';` },
      }),
      /in a circle/,
    ],
    [
      'a circle between packages',
      planted('core', { sources: [{ path: 'src/index.ts', text: `import 'zod'; import '${SCOPE}/auth';` }] }),
      /in a circle: packages\/core\/src\/index\.ts → packages\/auth\/src\/index\.ts → packages\/core\/src\/index\.ts/,
    ],
    [
      'a test across packages reaching past an index',
      { ...sound, packages: [...sound.packages, acrossPackages(`import '../packages/core/src/chain.js';`)] },
      /test\/whole\.test\.ts:1 reaches out of its package/,
    ],
    ['an import nobody can read', inServer('const name = await import(`./${role}.js`);'), /cannot be read/],
    [
      'an undeclared dependency',
      planted('clinic', { add: { 'src/records.ts': `import '${SCOPE}/auth';` } }),
      /clinic\/src\/records\.ts:1 uses .*auth, which packages\/clinic\/package\.json does not declare/,
    ],
    [
      'a declared dependency nobody imports',
      planted('audit', { sources: [] }),
      /audit\/package\.json: declares .*core, which no module/,
    ],
    ['a missing project reference', planted('server', { references: ['packages/core'] }), /lacks a reference to packages\/auth/],
    [
      'a project reference too many',
      planted('audit', { references: ['packages/core', 'packages/auth'] }),
      /audit\/tsconfig\.json: references packages\/auth without depending/,
    ],
    [
      'a package outside the picture',
      { ...sound, packages: [...sound.packages, fixture('utils', [])] },
      /"@?[a-z]+\/utils" has no place in the picture/,
    ],
    [
      'a package outside the scope',
      planted('audit', { manifest: { name: '@elsewhere/audit' } }),
      /"@elsewhere\/audit" has no place in the picture/,
    ],
  ])('catches %s', (_, workspace, expected) => {
    expect(checkLayering(workspace).join('\n')).toMatch(expected);
  });
});
