import { describe, expect, it } from 'vitest';
import { surfaceOf } from './surface.js';
import { readWorkspace } from './workspace.js';

const surface = await surfaceOf(readWorkspace());

/** Setting names that sound as if they turned a check off or let something by. */
function offSwitches(names: readonly string[]): string[] {
  const suspicious = /skip|disable|bypass|ignore|insecure|unsafe|unchecked|permissive|trustall|without|force/i;
  const negative = /^no[-A-Z]|(?:Off|-off)$/;
  return names.filter((name) => {
    const last = name.replace(/^--/, '').replace(/^.*\./, '');
    return suspicious.test(last) || negative.test(last);
  });
}

describe('the surface', () => {
  it('is the pinned one; a change on purpose is written down with `npm run surface`', async () => {
    await expect(`${JSON.stringify(surface, null, 2)}\n`).toMatchFileSnapshot('./surface.json');
  });

  it('has no setting and no option that turns a check off', () => {
    const { settings, commands } = surface;
    expect(offSwitches([...Object.values(settings), ...Object.values(commands)].flat())).toEqual([]);
  });

  it.each([
    'skipChecks',
    'disableAudit',
    'checks.bypass',
    '--insecure',
    '--no-audit',
    'noAudit',
    'auditOff',
    'ignorePatient',
  ])('would notice a setting named %s', (name) => {
    expect(offSwitches(['resource', name])).toEqual([name]);
  });
});
