import type { Agent, Session, SwitchReport } from '@hmcp/agent';
import type { Grant } from '@hmcp/auth';
import { HmcpError } from '@hmcp/core';
import { describe, expect, it, vi } from 'vitest';
import { portalPage } from '../src/portal-page.js';
import { Visit } from '../src/visit.js';

const NOW = 1_770_000_000;
const [ANN, BO] = [
  { name: 'Ann Example', birthDate: '1950-02-01' },
  { name: 'Bo Example', birthDate: '1961-11-23' },
];

/** A session whose switch ended without anybody knowing how, until `known` says. */
const manager: { known: 'nobody' | 'committed' | 'stayed'; calls: number } = { known: 'nobody', calls: 0 };
function undecidedSession(): Session {
  const session = {
    assurance: 'manager',
    sid: 'ctx',
    epoch: 1,
    async switchPatient({ authorize }: { authorize: () => Promise<Grant> }): Promise<SwitchReport> {
      await authorize();
      const nothing = { saved: 0, lost: 0, indeterminate: [], evicted: [], revoked: false };
      return { result: 'pending', reason: 'unavailable', switchId: 's', epoch: 1, ...nothing };
    },
    async call() {
      manager.calls += 1;
      return { findings: [], considered: { results: 0, medications: 0 } };
    },
    async act(fn: () => Promise<unknown>) {
      if (manager.known === 'nobody') throw new HmcpError(50301, { by: 'portal', check: 'session' });
      if (manager.known === 'stayed' || session.epoch === 2) return fn();
      session.epoch = 2;
      throw new HmcpError(40901, { by: 'portal', check: 'epoch' });
    },
    close: async () => undefined,
  };
  return session as unknown as Session;
}
vi.mock('@hmcp/agent', async (original) => ({
  ...(await original<typeof import('@hmcp/agent')>()),
  openSession: async () => undecidedSession(),
}));

function grantOf(patient: string) {
  const grant = {
    accessToken: patient,
    expiresAt: NOW + 3600,
    patient,
    revoked: 0,
    async revoke() {
      grant.revoked += 1;
    },
  };
  return grant as unknown as typeof grant & Grant;
}

async function undecided() {
  Object.assign(manager, { known: 'nobody', calls: 0 });
  const [a, b] = [grantOf('A'), grantOf('B')];
  const visit = await Visit.open({ agent: { by: 'portal' } as Agent, grant: a, banner: ANN, now: () => NOW * 1000 });
  const page = visit.page;
  expect(await visit.beginSwitch(b, BO)).toMatchObject({ report: { result: 'pending' } });
  return { visit, page, a, b };
}

describe('a visit whose switch nobody can say the end of', () => {
  it('shows neither patient, and asks about neither', async () => {
    const { visit } = await undecided();
    expect(visit.undecided).toBe(true);
    const html = portalPage({ visit });
    for (const { name, birthDate } of [ANN, BO]) {
      expect(html).not.toContain(name);
      expect(html).not.toContain(birthDate);
    }
    expect(html).not.toContain('action="/ask"');
    await expect(visit.ask({ reason: 'cough' })).rejects.toMatchObject({ code: 40901 });
    await visit.look();
    expect([visit.undecided, manager.calls]).toEqual([true, 0]);
  });

  it.each([
    ['committed', BO, false],
    ['stayed', ANN, true],
  ] as const)('goes on where it is once it is known: %s', async (known, banner, samePage) => {
    const { visit, page } = await undecided();
    manager.known = known;
    await Promise.all([visit.look(), visit.look()]);
    expect([visit.undecided, visit.banner, visit.page === page]).toEqual([false, banner, samePage]);
    await visit.ask({ reason: 'cough' });
    expect(manager.calls).toBe(1);
  });

  it('ends both grants when it is closed, once each', async () => {
    const { visit, a, b } = await undecided();
    await Promise.all([visit.close(), visit.close()]);
    expect([a.revoked, b.revoked]).toEqual([1, 1]);
  });
});
