import { describe, expect, test } from 'vitest';
import { type } from './terminal.js';

describe('hmcp', () => {
  test('says what it can do, and its exit codes', async () => {
    for (const help of ['--help', '-h', 'help']) {
      const { code, stdout, stderr } = await type([help]);
      expect([code, stderr]).toEqual([0, '']);
      for (const word of ['hmcp explain', 'hmcp audit', 'hmcp token', 'Exit codes: 0 ', ' 64 ']) expect(stdout).toContain(word);
    }
  });

  test.each(['patients', 'explain', 'doctor', 'audit', 'token'])('%s --help names its exit codes', async (command) => {
    const { code, stdout } = await type([command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Exit codes: 0 .* 64 /s);
  });

  test('says its version', async () => {
    expect(await type(['--version'])).toEqual({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: '' });
  });

  test('without a command shows its help where errors go', async () => {
    const { code, stdout, stderr } = await type([]);
    expect([code, stdout]).toEqual([64, '']);
    expect(stderr).toContain('hmcp explain');
  });

  test.each([
    ['nonsense'],
    ['constructor'],
    ['__proto__'],
    ['--nonsense'],
    [''],
  ])('refuses the command %j in a sentence', async (name) => {
    const { code, stdout, stderr } = await type([name]);
    expect([code, stdout]).toEqual([64, '']);
    expect(stderr).toMatch(/^hmcp: there is no command of this name/);
  });

  test.each([
    ['patients', 'nonsense'],
    ['patients', '--nonsense'],
    ['audit', '--nonsense'],
    ['audit', 'verify', '--eyJhbGciOiJFUzI1NiJ9.e30.sig'],
    ['audit'],
    ['audit', 'verify'],
    ['audit', 'repair', 'x'],
    ['token'],
    ['token', 'inspect', 'a', 'b'],
    ['token', 'inspect', '--show-patient=yes'],
    ['explain'],
    ['explain', 'a', 'b'],
    ['explain', 'x'],
    ['explain', 'tricky\u202Eid'],
    ['explain', 'abcd', '--state'],
  ])('refuses the arguments %s %s %s in one sentence that does not repeat them', async (...argv) => {
    const { code, stdout, stderr } = await type(argv);
    expect([code, stdout]).toEqual([64, '']);
    expect(stderr).toMatch(/^hmcp [a-z]+: [^\n]+; try hmcp [a-z]+ --help\n$/);
    expect(stderr).not.toMatch(/eyJ|nonsense|repair|\u202E/);
  });
});
