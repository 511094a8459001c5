import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT, readText } from '../architecture/workspace.js';

const document = readText('docs/spec/requirements.md');
// | id | rule | source | `file` … | `test file`: a title as it stands there, or none |
const rows = [...document.matchAll(/^\| ([A-Z]+-\d+) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$/gm)].map(
  ([, id, , , files, tests]) => ({
    id: id ?? '',
    files: [...(files ?? '').matchAll(/`([^`]+)`/g)].map(([, path]) => path ?? ''),
    tests: (tests ?? '').split(' · ').map((text) => /^`([^`]+)`(?:: (.+))?$/.exec(text)),
  }),
);

/** Short paths of the table stand for files of packages; `examples/`, `test/` and `docs/` stand as they are. */
const place = (path: string): string => (/^(examples|test|docs)\//.test(path) ? path : `packages/${path}`);

describe('docs/spec/requirements.md', () => {
  it('has rows, each under its own id, and nothing that looks like one and is none', () => {
    expect(rows.length).toBeGreaterThan(50);
    expect(new Set(rows.map(({ id }) => id)).size).toBe(rows.length);
    expect(document.match(/^\| [A-Z]+-/gm)).toHaveLength(rows.length);
  });

  it.each(rows)('$id names files that exist', ({ files }) => {
    expect(files).not.toEqual([]);
    expect(files.filter((path) => !existsSync(join(ROOT, place(path))))).toEqual([]);
  });

  it.each(rows)('$id names tests that exist, by their titles', ({ tests }) => {
    for (const named of tests) {
      const [, path = '', title] = named ?? [];
      expect(existsSync(join(ROOT, place(path))), path).toBe(true);
      if (title !== undefined) expect(readText(place(path)).replaceAll("\\'", "'")).toContain(title);
    }
  });
});
