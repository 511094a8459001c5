import { describe, expect, it } from 'vitest';
import { begin } from '../src/machine.js';
import { grantedPermit, type PermitRequest, permit, redeem, release } from '../src/permits.js';
import type { Session } from '../src/session-row.js';
import { at, code, next, session, to } from './support/rows.js';

const asked: PermitRequest = {
  permit: 'p1',
  clientId: 'orders',
  epoch: 1,
  intent: { id: 'i1', epoch: 1 },
  operation: 'sign-order',
  effectKey: 'k1',
  ttlMs: 10_000,
};
const effector = (): Session => session(['effector', 'orders'], ['reader', 'labs']);
const granted = (): Session => next(permit(effector(), asked, at()));
const use = { permit: 'p1', epoch: 1, intent: { id: 'i1', epoch: 1 } };

describe('permit', () => {
  it('is granted to an effector while ACTIVE at this epoch, for at most ten seconds', () => {
    expect(granted().permits).toMatchObject([{ permit: 'p1', expiresAt: at(10_000).now, used: false, epoch: 1 }]);
    const short = next(permit(effector(), { ...asked, ttlMs: 1_000 }, at()));
    expect(short.permits[0]?.expiresAt).toBe(at(1_000).now);
  });

  it('of the same effect is the same one while it lives', () => {
    expect(permit(granted(), { ...asked, permit: 'p2' }, at(9_999)).is).toBe('same');
    expect(grantedPermit(granted(), { ...asked, permit: 'p2' }, at(9_999).now)?.permit).toBe('p1');
    expect(next(permit(granted(), { ...asked, permit: 'p2' }, at(10_000))).permits).toHaveLength(2);
    expect(next(permit(granted(), { ...asked, permit: 'p2', effectKey: 'k2' }, at())).permits).toHaveLength(2);
  });

  it.each([
    ['from prepare on', next(begin(effector(), to('B'), at())), asked, 42301],
    ['to a reader', effector(), { ...asked, clientId: 'labs' }, 40301],
    ['to a stranger', effector(), { ...asked, clientId: 'mallory' }, 40301],
    ['at an epoch gone by', { ...effector(), epoch: 2 }, asked, 40901],
    ['at an epoch that never was', effector(), { ...asked, epoch: 2, intent: { id: 'i1', epoch: 2 } }, 40903],
    ['for an intent of another epoch', effector(), { ...asked, intent: { id: 'i1', epoch: 0 } }, 40901],
    ['in a closed session', { ...effector(), state: 'closed' as const }, asked, 41001],
    ['a second time after it was redeemed', next(redeem(granted(), use, at())), { ...asked, permit: 'p2' }, 42802],
  ])('is refused %s', (_, row, request, expected) => {
    expect(code(permit(row, request, at()))).toBe(expected);
  });

  it('a session has at most 64 that can be alive; dead ones make room', () => {
    let row = effector();
    for (let i = 0; i < 64; i++) row = next(permit(row, { ...asked, permit: `p${i}`, effectKey: `k${i}` }, at()));
    const more = { ...asked, permit: 'pX', effectKey: 'kX' };
    expect(code(permit(row, more, at()))).toBe(50301);
    expect(next(permit(row, more, at(12_001))).permits).toHaveLength(1);
  });
});

describe('redeem', () => {
  it('uses it up, also while a switch waits for it', () => {
    expect(next(redeem(granted(), use, at())).permits[0]?.used).toBe(true);
    expect(next(redeem(next(begin(granted(), to('B'), at())), use, at())).permits[0]?.used).toBe(true);
  });

  it.each([
    ['twice', next(redeem(granted(), use, at())), use, at(), 42802],
    ['one that expired', granted(), use, at(10_000), 42802],
    ['one nobody granted', granted(), { ...use, permit: 'p9' }, at(), 42802],
    ['for another intent', granted(), { ...use, intent: { id: 'i2', epoch: 1 } }, at(), 42802],
    ['after it was given back', next(release(granted(), { permit: 'p1', clientId: 'orders' }, at())), use, at(), 42802],
    ['at an epoch gone by', { ...granted(), epoch: 2 }, use, at(), 40901],
    ['with an intent of another epoch', granted(), { ...use, intent: { id: 'i1', epoch: 0 } }, at(), 40901],
  ])('is refused %s', (_, row, given, when, expected) => {
    expect(code(redeem(row, given, when))).toBe(expected);
  });
});

describe('release', () => {
  it('gives it back, once; of somebody else’s nothing happens', () => {
    const given = { permit: 'p1', clientId: 'orders' };
    expect(next(release(granted(), given, at())).permits).toEqual([]);
    expect(code(release(effector(), given, at()))).toBe('same');
    expect(code(release(granted(), { ...given, clientId: 'labs' }, at()))).toBe('same');
  });
});
