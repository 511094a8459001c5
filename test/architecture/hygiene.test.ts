import { describe, expect, it } from 'vitest';
import { isNode, nodesOf, parseModule } from './module-links.js';
import { filesBelow, readText, readWorkspace } from './workspace.js';

const TEXT = /\.(ts|mts|js|mjs|cjs|json|md|html|css|ya?ml|jwk|sh)$|^[^.]+$/;
const texts = filesBelow('.').filter((path) => TEXT.test(path));

/** Folders that exist on one machine only: homes, drives, temporary and mounted ones. */
function machinePaths(text: string): string[] {
  const home = /(?:^|[\s"'`(=:])((?:\/(?:home|Users|root|work|workspace|mnt|tmp|var\/folders)\/|[A-Z]:\\Users\\)[\w.-]+)/gm;
  return [...text.matchAll(home)].map(([, path]) => String(path));
}

/** Lines of a module that write to the console. */
function consoleLines(text: string, path: string): number[] {
  const uses = [...nodesOf(parseModule(text, path))].filter(
    ({ type, callee }) =>
      type === 'CallExpression' && isNode(callee) && isNode(callee.object) && callee.object.name === 'console',
  );
  return uses.map(({ start }) => text.slice(0, start).split('\n').length);
}

describe('hygiene', () => {
  it('no file names a path of somebody’s machine', () => {
    const found = texts
      .filter((path) => path !== 'test/architecture/hygiene.test.ts')
      .flatMap((path) => machinePaths(readText(path)).map((machine) => `${path}: ${machine}`));
    expect(found).toEqual([]);
  });

  it.each([
    ['a home', `const data = '/home/ann/synthea';`],
    ['a Mac', 'see /Users/ann/hmcp'],
    ['a drive', 'C:\\Users\\ann'],
    ['a checkout', '"/work/main/x"'],
    ['a temporary folder', 'cd /tmp/story'],
  ])('would notice %s', (_, text) => {
    expect(machinePaths(text)).toHaveLength(1);
  });

  it.each(['https://ehr.example/home/ann', 'GET /Patient/A1', '/mcp/work', 'packages/core/src'])('leaves %s alone', (text) => {
    expect(machinePaths(text)).toEqual([]);
  });

  it('no package writes to the console: logs go through pino, a command writes to the stream it is given', () => {
    const packages = readWorkspace().packages.filter(({ folder }) => folder.startsWith('packages/'));
    const found = packages.flatMap(({ folder, sources }) =>
      sources.flatMap(({ path, text }) => consoleLines(text, path).map((line) => `${folder}/${path}:${line}`)),
    );
    expect(found).toEqual([]);
    expect(consoleLines('// console.log is not used\nconsole.error("x");', 'x.ts')).toEqual([2]);
  });

  it('no module is named for nothing in particular, and none is too long to be one idea', () => {
    const modules = readWorkspace().packages.flatMap(({ folder, sources }) => sources.map((file) => ({ ...file, folder })));
    const vague = /(^|\/)(utils?|types?|helpers?|commons?|shared|misc|constants)(\.[a-z]+)?(\/|$)/;
    expect(modules.filter(({ path }) => vague.test(path)).map(({ folder, path }) => `${folder}/${path}`)).toEqual([]);
    const long = modules.filter(({ text }) => text.split('\n').length > 600);
    expect(long.map(({ folder, path }) => `${folder}/${path}`)).toEqual([]);
  });
});
