import type { Agent, Session, SwitchReport } from '@hmcp/agent';
import type { Grant } from '@hmcp/auth';
import { HmcpError } from '@hmcp/core';
import { expect, it, vi } from 'vitest';
import { Visit } from '../src/visit.js';

/** A session whose manager could not say how a switch ended; its next call learns that it was committed. */
class UncertainSession {
  epoch = 1;
  readonly asked: number[] = [];

  async switchPatient({ authorize }: { authorize: () => Promise<Grant> }): Promise<SwitchReport> {
    await authorize();
    const nothing = { saved: 0, lost: 0, indeterminate: [], evicted: [], revoked: false };
    return { result: 'pending', reason: 'unavailable', switchId: 's1', epoch: 1, ...nothing };
  }

  /** Asks the manager, as any call does first. */
  async act(): Promise<never> {
    this.epoch = 2;
    throw new HmcpError(40901, { by: 'portal', check: 'epoch' }, { reason: 'the session went on' });
  }

  async call(): Promise<object> {
    this.asked.push(this.epoch);
    return {};
  }
}

const session = vi.hoisted(() => ({ current: undefined as unknown }));
vi.mock('@hmcp/agent', () => ({ openSession: async () => session.current as Session }));

const grant = (patient: string) => ({ patient, expiresAt: Number.MAX_SAFE_INTEGER, revoke: async () => undefined }) as Grant;

it('a visit whose switch nobody could say the end of shows the next patient once its session is on that patient', async () => {
  session.current = new UncertainSession();
  const banner = { name: 'A', birthDate: '1970-01-01' };
  const next = { name: 'B', birthDate: '1980-01-01' };
  const visit = await Visit.open({ agent: { by: 'portal' } as Agent, grant: grant('A1'), banner });
  const before = visit.page;
  expect(await visit.beginSwitch(grant('B2'), next)).toMatchObject({ report: { result: 'pending' } });
  expect([visit.banner, visit.page]).toEqual([banner, before]);
  await expect(visit.ask({ reason: 'about A' })).rejects.toMatchObject({ code: 40901 });
  expect(visit.undecided).toBe(true);
  await visit.look();
  expect(visit.undecided).toBe(false);
  expect([visit.banner, visit.page === before]).toEqual([next, false]);
});
