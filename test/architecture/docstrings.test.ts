import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ExportedName, exportsOf } from './declarations.js';
import { entriesOf, ROOT, readText, readWorkspace } from './workspace.js';

function undocumented(names: readonly ExportedName[]): string[] {
  return names.filter(({ docs }) => docs === undefined).map(({ name, file }) => `${file}: ${name} has no docstring`);
}

/** A built package in memory. */
function built(files: Readonly<Record<string, string>>): ExportedName[] {
  return exportsOf('dist/index.d.ts', (path) => files[path] ?? '');
}

describe('docstrings', () => {
  it.each(readWorkspace().packages.flatMap(entriesOf))('every export of $name says what it is for', ({ types }) => {
    if (!existsSync(join(ROOT, types))) expect.fail(`${types} is not there: build first, with \`npm run build\``);
    const missing = undocumented(exportsOf(types, readText));
    if (missing.length > 0) expect.fail(missing.join('\n'));
  });

  it('takes one docstring for a schema and its type, and for all overloads', () => {
    const names = built({
      'dist/index.d.ts': `export { Person, read } from './person.js'; export type { Json } from 'other';`,
      'dist/person.d.ts': `
        /** A person. */
        export declare const Person: z.ZodObject<{ id: z.ZodString }>;
        export type Person = z.infer<typeof Person>;
        /** Reads one. */
        export declare function read(text: string): Person;
        export declare function read(bytes: Uint8Array): Person;`,
    });
    expect(undocumented(names)).toEqual([]);
  });

  it.each([
    ['a constant', 'export declare const limit: number;'],
    ['a function', '/** Another. */\nexport type A = 1;\nexport declare function read(): void;'],
    ['a type', 'export type Person = string;'],
    ['an interface', '// not a docstring\nexport interface Person { /** Documented inside. */ id: string }'],
    ['a class', '/* not a docstring */\nexport declare class Person {}'],
    ['an empty docstring', '/** */\nexport declare const limit: number;'],
    ['an export below its declaration', 'declare const limit: number;\n/** Of the list only. */\nexport { limit };'],
    ['a re-export', `/** Of the list only. */\nexport { hidden } from './hidden.js';`],
    ['a default export', 'export default function read(): void;'],
  ])('catches %s without one', (_, text) => {
    const files = { 'dist/index.d.ts': text, 'dist/hidden.d.ts': 'export declare const hidden: number;' };
    expect(undocumented(built(files))).toHaveLength(1);
  });

  it('refuses `export *`', () => {
    expect(() => built({ 'dist/index.d.ts': `export * from './person.js';` })).toThrow('hides what is exported');
  });
});
