import { MANAGER_METHODS } from '@hmcp/core';
import { afterEach, describe, expect, it } from 'vitest';
import { agent, B_RIGHT, portal, type World, world } from './support/world.js';

let bed: World | undefined;
afterEach(async () => {
  await bed?.close();
  bed = undefined;
});

describe('a switch over MCP', () => {
  it('two identifiers typed by the person commit it, one epoch on, with a seal of the next patient', async () => {
    bed = await world();
    const { sid, epoch, seal } = await (await bed.caller(portal('A1'))).open();
    expect({ epoch, seal: typeof seal }).toEqual({ epoch: 1, seal: 'string' });
    const person = await bed.caller(portal('B7'), [B_RIGHT]);
    const result = await person.switch({ sid, switchId: 's1', expectedEpoch: 1, target: { patient: 'B7' } });
    expect(result).toMatchObject({ result: 'committed', epoch: 2, kind: 'switch' });
    expect(result.seal).toBeTypeOf('string');
    expect(JSON.stringify(bed.dialogs)).not.toMatch(/1961|9b21|"default"|"enum"/i);
  });

  it('an agent that was told to switch is refused 40301, and its proposal is written down', async () => {
    bed = await world();
    const { sid } = await (await bed.caller(portal('A1'))).open();
    const model = await bed.caller(agent('triage', 'A1'));
    await expect(
      model.tool('hmcp-context-switch', { sid, switchId: 's1', expectedEpoch: 1, target: { patient: 'B7' } }),
    ).rejects.toMatchObject({ code: 40301 });
    expect((await (await bed.caller(portal('A1'))).get({ sid })).state).toBe('active');
    void MANAGER_METHODS;
  });
});
