import type { Agent } from '@hmcp/agent';
import { AuthorityUnavailable, type Grant, SmartError } from '@hmcp/auth';
import { HmcpError } from '@hmcp/core';
import { currentScope } from '@hmcp/core/request-scope';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Visit, VisitEnded } from '../src/visit.js';

const NOW = 1_770_000_000;
const EMPTY = { findings: [], considered: { results: 0, medications: 0 } };

/** An agent that answers, and tells which token each call was made with. */
function agentOf(answer: () => Promise<unknown> = async () => EMPTY) {
  const tokens: (string | undefined)[] = [];
  const call = async () => {
    tokens.push(currentScope()?.facts.accessToken);
    return answer();
  };
  return { tokens, agent: { by: 'portal', call } as unknown as Agent };
}

function grantOf(life: number, refresh: () => Promise<Grant> = () => Promise.reject(new SmartError('no_refresh_token'))) {
  const grant = {
    accessToken: `token-${life}`,
    expiresAt: NOW + life,
    scope: 'patient/hmcp:read',
    fhirServer: 'https://fhir.example/r4',
    patient: 'A1',
    revoked: 0,
    refresh,
    async revoke() {
      grant.revoked += 1;
    },
  };
  return grant as typeof grant & Grant;
}

const banner = { name: 'A', birthDate: '1970-01-01' };
const reason = 'cough';
const open = (grant: Grant, { agent }: { agent: Agent }) => Visit.open({ agent, grant, banner, now: () => NOW * 1000 });

describe('a visit', () => {
  it('uses the token of its sign-in while it outlives a call', async () => {
    const calls = agentOf();
    const visit = await open(grantOf(61), calls);
    await visit.ask({ reason });
    expect(calls.tokens).toEqual(['token-61']);
  });

  it('renews a grant that is about to end, once, and goes on with the new token', async () => {
    const calls = agentOf();
    let renewals = 0;
    const renewed = grantOf(3600);
    const first = grantOf(60, async () => {
      renewals += 1;
      return renewed;
    });
    const visit = await open(first, calls);
    await visit.ask({ reason });
    await visit.ask({ reason });
    expect(calls.tokens).toEqual(['token-3600', 'token-3600']);
    expect(renewals).toBe(1);
    await visit.close();
    expect([first.revoked, renewed.revoked]).toEqual([0, 1]);
  });

  it.each([
    ['cannot be renewed', new SmartError('no_refresh_token'), VisitEnded],
    ['was withdrawn', new SmartError('token_refused', 'invalid_grant'), VisitEnded],
    ['was renewed for another patient', new SmartError('patient_changed'), VisitEnded],
    ['cannot be renewed now', new AuthorityUnavailable('down'), AuthorityUnavailable],
  ])('whose grant %s asks nothing', async (_, error, thrown) => {
    const calls = agentOf();
    const visit = await open(
      grantOf(0, () => Promise.reject(error)),
      calls,
    );
    await expect(visit.ask({ reason })).rejects.toThrow(thrown);
    expect(calls.tokens).toEqual([]);
  });

  it('that was closed asks nothing, and its grant is revoked even where that fails', async () => {
    const calls = agentOf();
    const grant = grantOf(3600);
    const visit = await open({ ...grant, revoke: () => Promise.reject(new AuthorityUnavailable('down')) }, calls);
    await expect(visit.close()).resolves.toBeUndefined();
    await expect(visit.ask({ reason })).rejects.toThrow(HmcpError);
    expect(calls.tokens).toEqual([]);
  });

  it('settles a call that is under way when it is closed', async () => {
    let reached: () => void = () => undefined;
    const underWay = new Promise<void>((resolve) => {
      reached = resolve;
    });
    const calls = agentOf(async () => {
      const scope = currentScope();
      reached();
      await new Promise((resolve) => scope?.signal.addEventListener('abort', resolve));
      scope?.assertOpen();
      return EMPTY;
    });
    const visit = await open(grantOf(3600), calls);
    const asked = visit.ask({ reason });
    await underWay;
    await visit.close();
    await expect(asked).rejects.toMatchObject({ code: 40901 });
  });

  it('cannot be opened without a patient', async () => {
    const { patient: _, ...nobody } = grantOf(3600);
    await expect(open(nobody, agentOf())).rejects.toMatchObject({ code: 42801 });
  });
});

const next = { name: 'B', birthDate: '1980-01-01' };
/** A grant for the next patient. */
const nextGrant = () => Object.assign(grantOf(7200), { patient: 'B2' });
/** Lets everything that can happen without time happen. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** Something that waits until it is opened. */
function gate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

async function beginning(visit: Visit, grant: Grant) {
  await visit.beginSwitch(grant, next);
  const id = visit.switching?.id ?? '';
  return { id, confirm: () => visit.answerSwitch(id, 1, { confirm: true }) };
}

describe('a visit that goes to another patient', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it('shows nobody from the moment its calls are about the next patient until that patient is shown', async () => {
    const calls = agentOf();
    const revoking = gate();
    const visit = await open({ ...grantOf(3600), revoke: () => revoking.opened }, calls);
    const before = visit.page;
    const { confirm } = await beginning(visit, nextGrant());
    const confirmed = confirm();
    await settled();
    expect([visit.session.epoch, visit.undecided]).toEqual([2, true]);
    revoking.open();
    await confirmed;
    expect([visit.banner, visit.page === before, visit.undecided]).toEqual([next, false, false]);
  });

  it('does not go back to a session of the patient before by a renewal that was under way', async () => {
    const calls = agentOf();
    const refreshing = gate();
    const first = grantOf(60, async () => {
      await refreshing.opened;
      return grantOf(3600);
    });
    const visit = await open(first, calls);
    const asked = visit.ask({ reason }).catch((error: unknown) => error);
    const begun = beginning(visit, nextGrant());
    await settled();
    refreshing.open();
    await (await begun).confirm();
    await asked;
    await visit.ask({ reason });
    expect(visit.banner).toEqual(next);
    expect(calls.tokens.at(-1)).toBe('token-7200');
  });

  it('asks nothing about the next patient that was asked about the one before', async () => {
    const calls = agentOf();
    const visit = await open(grantOf(3600), calls);
    const { confirm } = await beginning(visit, nextGrant());
    const confirmed = confirm();
    const drafted = visit.draft({ kind: 'medication', text: 'for A' }).catch((error: unknown) => error);
    await confirmed;
    await drafted;
    expect(calls.tokens).not.toContain('token-7200');
  });

  it('answers everybody who sent the same form twice', async () => {
    const revoking = gate();
    const visit = await open({ ...grantOf(3600), revoke: () => revoking.opened }, agentOf());
    const { confirm } = await beginning(visit, nextGrant());
    const both = [confirm(), confirm()];
    await settled();
    revoking.open();
    const steps = await Promise.race([Promise.all(both), settled().then(settled)]);
    expect(steps).toMatchObject([{ report: { result: 'committed' } }, { report: { result: 'committed' } }]);
  });

  it('is on the next patient though another switch was begun while the first was being committed', async () => {
    const revoking = gate();
    const visit = await open({ ...grantOf(3600), revoke: () => revoking.opened }, agentOf());
    const { confirm } = await beginning(visit, nextGrant());
    const confirmed = confirm();
    const third = visit.beginSwitch(Object.assign(grantOf(9000), { patient: 'C3' }), { name: 'C', birthDate: '1990-01-01' });
    await settled();
    revoking.open();
    await third;
    await Promise.race([confirmed, settled()]);
    expect([visit.session.epoch, visit.banner]).toEqual([2, next]);
  });

  it('renews its grant again after a dialog that nobody answered', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const calls = agentOf();
    const visit = await open(
      grantOf(60, async () => grantOf(3600)),
      calls,
    );
    await visit.beginSwitch(nextGrant(), next);
    vi.advanceTimersByTime(121_000);
    await settled();
    await visit.ask({ reason });
    expect([visit.banner, calls.tokens]).toEqual([banner, ['token-3600']]);
  });

  it('stays in its session when its grant is renewed, so that drafts of that session can still be signed', async () => {
    const visit = await open(
      grantOf(60, async () => grantOf(3600)),
      agentOf(),
    );
    const { session } = visit;
    await visit.ask({ reason });
    expect(visit.session).toBe(session);
  });

  it('renews once for questions asked at the same time', async () => {
    const calls = agentOf();
    let renewals = 0;
    const first = grantOf(60, async () => {
      renewals += 1;
      return grantOf(3600);
    });
    const visit = await open(first, calls);
    await Promise.all([visit.ask({ reason }), visit.ask({ reason })]);
    expect([renewals, calls.tokens]).toEqual([1, ['token-3600', 'token-3600']]);
  });
});
