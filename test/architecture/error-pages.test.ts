import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { HmcpErrorCode } from '@hmcp/core';
import { describe, expect, it } from 'vitest';
import { CODES, checkIndex, checkPage, pageOf, protocolChecks } from './error-pages.js';
import { ROOT, readText } from './workspace.js';

const read = (path: string) => (existsSync(join(ROOT, path)) ? readText(path) : undefined);
const checks = protocolChecks(readText('docs/spec/protocol.md'));
const page = (code: HmcpErrorCode) => readText(pageOf(code));

describe('docs/errors', () => {
  it.each(CODES)('%i has a page that says what the table says, with a refused and a mended example', (code) => {
    expect(checkPage(code, read(pageOf(code)), checks.get(String(code)), read)).toEqual([]);
  });

  it('holds one page for each code, an index of all, and nothing else', () => {
    expect(readdirSync(join(ROOT, 'docs/errors')).sort()).toEqual([...CODES.map((code) => `${code}.md`), 'README.md'].sort());
    expect(checkIndex(readText('docs/errors/README.md'))).toEqual([]);
    expect([...checks.keys()].map(Number).sort()).toEqual([...CODES].sort());
  });
});

describe('a page is caught', () => {
  const sound = page(40903);
  const caught = (text: string | undefined) => checkPage(40903, text, checks.get('40903'), read).join('\n');

  it.each<[string, string | undefined, RegExp]>([
    ['that is missing', undefined, /has no page/],
    ['of another name', sound.replace('patient_mismatch', 'mismatch'), /does not say: # 40903/],
    ['of another meaning', sound.replace('do not name the same', 'do name the same'), /does not say: \| means/],
    ['of another retry rule', sound.replace('never: Do not retry.', 'same: The same request may be repeated.'), /\| retry/],
    ['of another mend', sound.replace('| mend | leave', '| mend | keep'), /\| mend/],
    ['of other checks', sound.replace('| check | seal, equality', '| check | equality'), /\| check/],
    ['that lost a check of its own', sound.replace(/\| header \|.*\n/, ''), /does not say: \| header/],
    ['that says not who refuses', sound.replace(/\| refused by .*\n/, ''), /who refuses/],
    ['without its refused example', sound.replace('#40903-refused', '#40901-refused'), /no refused example/],
    ['without its mended example', sound.replace('#40903-mended', '#nothing'), /no mended example/],
    ['with an example that is no test', sound.replace('pipelines.test.ts#40903-m', 'agents.ts#40903-m'), /no mended example/],
  ])('%s', (_, text, expected) => {
    expect(caught(sound)).toBe('');
    expect(caught(text)).toMatch(expected);
  });

  it('whose example refuses with another code, or expects nothing', () => {
    const swapped = (path: string) => read(path)?.replaceAll('toHaveRefused(40903', 'toHaveRefused(41201');
    expect(checkPage(40903, sound, checks.get('40903'), swapped).join()).toMatch(/not what its example refuses with/);
    const silent = (path: string) => read(path)?.replaceAll('expect(', 'ignore(');
    expect(checkPage(40903, sound, checks.get('40903'), silent).join()).toMatch(/expects nothing/);
  });

  it('and an index that lacks a code, or says of it something else', () => {
    const index = readText('docs/errors/README.md');
    expect(checkIndex(index.replace(/\| \[40901\].*\n/, ''))).not.toEqual([]);
    expect(checkIndex(index.replace('| never |', '| same |'))).not.toEqual([]);
  });
});
