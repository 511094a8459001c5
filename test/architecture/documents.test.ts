import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { hmcp } from '@hmcp/cli';
import { describe, expect, it } from 'vitest';
import { checkCommands, checkFences, checkLinks, fencesOf, regionOf } from './documents.js';
import { filesBelow, ROOT, ROOT_MANIFEST, readText } from './workspace.js';

const documents = filesBelow('.').filter((path) => path.endsWith('.md'));
const exists = (path: string) => existsSync(join(ROOT, path));
const read = (path: string) => (exists(path) ? readText(path) : undefined);
const scripts = Object.keys(ROOT_MANIFEST.scripts ?? {});
const isGuide = (document: string) => document.startsWith('docs/guide/');
/** The guides' reader has their programs in one folder. */
const programOf = (path: string) => {
  const [, name] = /^dist\/([\w-]+)\.js$/.exec(path) ?? [];
  return [`examples/guide/${name}.ts`, `examples/ecosystem/${name}.ts`].find(exists) ?? 'nowhere';
};

let help = '';
const stdout = { write: (text: string) => (help += text) };
await hmcp(['--help'], { stdin: (async function* () {})(), stdout, stderr: stdout, env: {}, now: () => 0 });
const commands = [...help.matchAll(/^ {2}hmcp ([a-z]+) {2}/gm)].map(([, name]) => String(name));

describe('the documents', () => {
  it.each(documents)('%s shows code as it stands in its source', (document) => {
    // Code at the front door and in the guides is run code; deeper documents may sketch.
    const all = !document.includes('/') || isGuide(document);
    expect(checkFences(document, readText(document), read, all)).toEqual([]);
  });

  it.each(documents)('%s names commands that exist', (document) => {
    const there = isGuide(document) ? (path: string) => exists(path) || exists(programOf(path)) : exists;
    expect(checkCommands(document, readText(document), there, scripts, commands)).toEqual([]);
  });

  it.each(documents)('%s links to files that exist', (document) => {
    expect(checkLinks(document, readText(document), exists)).toEqual([]);
  });

  it.each([
    ['README.md', 150],
    ['ARCHITECTURE.md', 120],
    ['CONTRIBUTING.md', 60],
  ])('%s has at most %i lines', (document, most) => {
    expect((read(document) ?? '').split('\n').length).toBeLessThanOrEqual(most);
  });
});

describe('a block with a source', () => {
  const source = [
    'const before = 1;',
    'function story() {',
    '  // #region call',
    '  const a = 1;',
    '  // #region inner',
    '  if (a) {',
    '    act();',
    '  }',
    '  // #endregion inner',
    '',
    '  // #endregion',
    '}',
  ].join('\n');
  const files = (path: string) => (path === 'examples/story.ts' ? source : undefined);
  const block = (code: string, from = 'examples/story.ts#call') => `# Title\n\n\`\`\`ts source="${from}"\n${code}\n\`\`\`\n`;
  const shown = 'const a = 1;\nif (a) {\n  act();\n}';

  it('is equal to its region, less the indentation', () => {
    expect(checkFences('README.md', block(shown), files, true)).toEqual([]);
    expect(checkFences('README.md', block('if (a) {\n  act();\n}', 'examples/story.ts#inner'), files)).toEqual([]);
    expect(checkFences('README.md', block(shown).replaceAll('\n', '\r\n'), files)).toEqual([]);
  });

  it.each([
    ['a changed word', block(shown.replace('act', 'skip')), /README\.md:3 differs from examples\/story\.ts#call/],
    ['a line too few', block('const a = 1;'), /differs/],
    ['a changed indentation', block(shown.replace('  act', 'act')), /differs/],
    ['a region that is gone', block(shown, 'examples/story.ts#gone'), /the region "gone"/],
    ['a file that is gone', block(shown, 'examples/gone.ts#call'), /examples\/gone\.ts, which is not there/],
    ['code from nowhere', '```ts\nconst a = 1;\n```', /README\.md:1 code without source/],
  ])('is caught with %s', (_, markdown, expected) => {
    expect(checkFences('README.md', markdown, files, true).join('\n')).toMatch(expected);
  });

  it.each([
    ['a region without an end', '// #region a\nx'],
    ['a region that stands there twice', '// #region a\nx\n// #endregion\n// #region a\ny\n// #endregion'],
  ])('has no text for %s', (_, text) => {
    expect(regionOf(text, 'a')).toBeUndefined();
  });

  it('refuses a fence that does not close', () => {
    expect(() => fencesOf('```ts\nconst a = 1;')).toThrow('line 1 does not close');
  });
});

describe('a command in a document', () => {
  const check = (text: string) =>
    checkCommands(
      'README.md',
      text,
      (path) => path === '.ci/run' || path === 'packages/cli/src/main.ts',
      ['start', 'dev'],
      ['explain'],
    );

  it.each([
    '`npm start`, `npm run dev`, `npx hmcp explain 40903`, `bash .ci/run`',
    'npm start --silent -- --json',
    'node packages/cli/dist/main.js explain',
    'the node that answers, the bash of the reader, an hmcp peer',
  ])('may be: %s', (text) => {
    expect(check(text)).toEqual([]);
  });

  it.each([
    ['npm test', /no "npm test"/],
    ['npm run --silent deploy', /no script "npm run deploy"/],
    ['npx hmcp conformance', /no command "hmcp conformance"/],
    ['`hmcp doctor`', /no command "hmcp doctor"/],
    ['node packages/cli/dist/gone.js', /no file packages\/cli\/dist\/gone\.js/],
    ['bash .ci/gone', /no file \.ci\/gone/],
  ])('is caught when it would not run: %s', (text, expected) => {
    expect(check(text).join('\n')).toMatch(expected);
  });

  it('and a link to a file that is gone is caught', () => {
    const text = 'See [the spec](docs/spec/) and [more](docs/gone.md#part), or [the web](https://example.org/x).';
    expect(checkLinks('README.md', text, (path) => path === 'docs/spec/')).toEqual([
      'README.md:1 links to docs/gone.md, which is not there',
    ]);
  });
});
