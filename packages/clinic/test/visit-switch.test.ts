import type { Agent, SwitchAnswer, SwitchDialog, SwitchReport, SwitchRequest } from '@hmcp/agent';
import { AuthorityUnavailable, type Grant } from '@hmcp/auth';
import { currentScope } from '@hmcp/core/request-scope';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Visit } from '../src/visit.js';
import { VisitSwitch } from '../src/visit-switch.js';

const NOW = 1_770_000_000;
const EMPTY = { findings: [], considered: { results: 0, medications: 0 } };
const [ANN, BO, CY] = ['Ann', 'Bo', 'Cy'].map((name) => ({ name, birthDate: '1970-01-01' })) as [Banner, Banner, Banner];
type Banner = { readonly name: string; readonly birthDate: string };

function grantOf(patient: string, more: Partial<Grant> = {}) {
  const grant = {
    accessToken: `token-${patient}`,
    expiresAt: NOW + 3600,
    scope: 'patient/hmcp:read',
    fhirServer: 'https://fhir.example/r4',
    issuer: 'https://as.example',
    clientId: 'portal',
    subject: 'alice',
    patient,
    revoked: 0,
    refresh: () => Promise.reject(new TypeError('not here')),
    async revoke() {
      grant.revoked += 1;
    },
    ...more,
  };
  return grant as typeof grant & Grant;
}

/** An agent whose calls tell the patient's token, and may be held. */
function agentOf(answer: () => Promise<unknown> = async () => EMPTY) {
  const tokens: (string | undefined)[] = [];
  const call = async () => {
    tokens.push(currentScope()?.facts.accessToken);
    const value = await answer();
    currentScope()?.assertOpen();
    return value;
  };
  return { tokens, agent: { by: 'portal', call } as unknown as Agent };
}

/** What the one dialog of a process session asks: a confirmation of its own. */
function rightAnswer({ fields }: SwitchDialog): SwitchAnswer {
  return Object.fromEntries(fields.map(({ name, kind, choices }) => [name, kind === 'yes-no' ? true : (choices?.[0] ?? 'x')]));
}

function dialogOf(round: number): SwitchDialog {
  return { message: 'm', fields: [], round, target: { patient: 'B', fhirServer: 'https://fhir.example/r4' } as never };
}

const REPORT: SwitchReport = {
  result: 'committed',
  switchId: 's',
  epoch: 2,
  saved: 0,
  lost: 0,
  indeterminate: [],
  evicted: [],
  revoked: true,
};

/** A session whose switch the test leads by hand. */
function led() {
  let begun: SwitchRequest | undefined;
  let end: (report: SwitchReport) => void = () => undefined;
  let fail: (error: unknown) => void = () => undefined;
  const session = {
    epoch: 1,
    switchPatient(request: SwitchRequest): Promise<SwitchReport> {
      begun = request;
      return new Promise((resolve, reject) => {
        [end, fail] = [resolve, reject];
      });
    },
  };
  return {
    session,
    ask: (round: number) => begun?.confirm(dialogOf(round)),
    authorize: () => begun?.authorize(),
    end: (report: Partial<SwitchReport>) => end({ ...REPORT, ...report }),
    fail: (error: unknown) => fail(error),
  };
}

afterEach(() => {
  vi.useRealTimers();
});

describe('a switch told in pages', () => {
  const settle = () => undefined;

  it('gives each round of the dialog to the person, and one answer to each round', async () => {
    const hand = led();
    const switching = new VisitSwitch({ session: hand.session, grant: grantOf('B'), banner: BO, settle });
    const first = hand.ask(1);
    expect(await switching.next()).toMatchObject({ dialog: { round: 1 } });
    const [one, two] = [switching.answer(1, { confirm: true }), switching.answer(1, 'decline')];
    expect(await first).toEqual({ confirm: true });
    expect(switching.dialog).toBeUndefined();
    void hand.ask(2);
    // Both tabs are told what came of it; the second one's answer was to a round that had one.
    expect([await one, await two]).toEqual([{ dialog: dialogOf(2) }, { dialog: dialogOf(2) }]);
  });

  it.each([1, 3, 0, -1, Number.NaN, Number.POSITIVE_INFINITY])('an answer to round %s is no answer to round 2', async (round) => {
    const hand = led();
    const switching = new VisitSwitch({ session: hand.session, grant: grantOf('B'), banner: BO, settle });
    let said: unknown = 'nothing';
    void hand.ask(2)?.then((answer) => {
      said = answer;
    });
    expect(await switching.answer(round, { confirm: true })).toMatchObject({ dialog: { round: 2 } });
    expect(said).toBe('nothing');
  });

  it('that nobody answers is declined when the manager no longer waits either', async () => {
    vi.useFakeTimers();
    const hand = led();
    const switching = new VisitSwitch({ session: hand.session, grant: grantOf('B'), banner: BO, settle });
    const asked = hand.ask(1);
    await vi.advanceTimersByTimeAsync(119_999);
    expect(switching.dialog).toBeDefined();
    await vi.advanceTimersByTimeAsync(1);
    expect(await asked).toBe('decline');
    expect(switching.dialog).toBeUndefined();
  });

  it('that is given up declines the dialog that waits and every later one', async () => {
    const hand = led();
    const switching = new VisitSwitch({ session: hand.session, grant: grantOf('B'), banner: BO, settle });
    const asked = hand.ask(1);
    const stopped = switching.stop();
    expect([await asked, await hand.ask(2)]).toEqual(['decline', 'decline']);
    hand.end({ result: 'aborted', reason: 'declined' });
    expect(await stopped).toMatchObject({ result: 'aborted' });
  });

  it('tells the visit how it ended before anybody who waits', async () => {
    const order: string[] = [];
    const hand = led();
    const options = { grant: grantOf('B'), banner: BO, settle: () => order.push('visit') };
    const switching = new VisitSwitch({ session: hand.session, ...options });
    const waits = switching.next().then(() => order.push('page'));
    hand.end({});
    await waits;
    expect(order).toEqual(['visit', 'page']);
  });

  it('whose session refuses before it took the grant revokes it once, and after it took it leaves that to the session', async () => {
    for (const [taken, revoked] of [
      [false, 1],
      [true, 0],
    ] as const) {
      const hand = led();
      const grant = grantOf('B');
      const switching = new VisitSwitch({ session: hand.session, grant, banner: BO, settle });
      if (taken) await hand.authorize();
      hand.fail(new TypeError('closed'));
      expect(await switching.ended).toMatchObject({ result: 'refused', revoked: !taken });
      expect(grant.revoked).toBe(revoked);
    }
  });

  it('whose grant cannot be revoked says so', async () => {
    const hand = led();
    const grant = grantOf('B', { revoke: () => Promise.reject(new AuthorityUnavailable('down')) });
    const switching = new VisitSwitch({ session: hand.session, grant, banner: BO, settle });
    hand.fail(new TypeError('closed'));
    expect(await switching.ended).toMatchObject({ result: 'refused', revoked: false });
  });
});

describe('a visit that goes to the next patient', () => {
  const opened = async (calls = agentOf(), grant = grantOf('A'), now = () => NOW * 1000) => ({
    ...calls,
    grant,
    visit: await Visit.open({ agent: calls.agent, grant, banner: ANN, now }),
  });
  const answerRight = async (visit: Visit) => {
    const { switching } = visit;
    const dialog = switching?.dialog;
    if (switching === undefined || dialog === undefined) throw new TypeError('no dialog waits');
    return visit.answerSwitch(switching.id, dialog.round, rightAnswer(dialog));
  };

  it('shows the next one with other pages, asks with the new grant, and ends each grant once', async () => {
    const { visit, grant, tokens } = await opened();
    const [before, b] = [visit.page, grantOf('B')];
    expect(await visit.beginSwitch(b, BO)).toMatchObject({ dialog: { round: 1 } });
    expect([visit.banner, visit.page, visit.undecided]).toEqual([ANN, before, false]);
    expect(await answerRight(visit)).toMatchObject({ report: { result: 'committed' } });
    expect(visit.banner).toBe(BO);
    expect(visit.page).not.toBe(before);
    await visit.ask({ reason: 'cough' });
    expect(tokens).toEqual(['token-B']);
    await visit.close();
    await visit.close();
    expect([grant.revoked, b.revoked]).toEqual([1, 1]);
  });

  it('stays where it was, with its pages, when the person declines', async () => {
    const { visit, grant } = await opened();
    const [before, b] = [visit.page, grantOf('B')];
    await visit.beginSwitch(b, BO);
    const step = await visit.answerSwitch(visit.switching?.id ?? '', 1, 'decline');
    expect(step).toMatchObject({ report: { result: 'aborted' } });
    expect([visit.banner, visit.page, visit.switching]).toEqual([ANN, before, undefined]);
    expect([grant.revoked, b.revoked]).toEqual([0, 1]);
  });

  it.each([
    ['no id', ''],
    ['another id', crypto.randomUUID()],
    ['a name of an object', '__proto__'],
  ])('takes no answer with %s', async (_, id) => {
    const { visit } = await opened();
    await visit.beginSwitch(grantOf('B'), BO);
    expect(await visit.answerSwitch(id, 1, 'decline')).toBeUndefined();
    expect(visit.switching?.dialog).toBeDefined();
    await visit.close();
  });

  it.each([
    ['of another person', { subject: 'mallory' }],
    ['of another client', { clientId: 'other' }],
    ['of another server', { fhirServer: 'https://other.example/r4' }],
    ['of nobody', { patient: '' }],
  ])('takes no grant %s, and revokes it once', async (_, more) => {
    const { visit, grant } = await opened();
    const b = grantOf('B', more);
    expect(await visit.beginSwitch(b, BO)).toMatchObject({ report: { result: 'aborted', reason: 'authorization' } });
    expect([visit.banner, visit.undecided, grant.revoked, b.revoked]).toEqual([ANN, false, 0, 1]);
  });

  it('a second switch gives up the one that waits; the third of three wins', async () => {
    const { visit, grant } = await opened();
    const [b, c, again] = [grantOf('B'), grantOf('C'), grantOf('B2')];
    const first = await visit.beginSwitch(b, BO);
    expect(first).toHaveProperty('dialog');
    await Promise.all([visit.beginSwitch(c, CY), visit.beginSwitch(again, BO)]);
    expect(visit.switching?.grant).toBe(again);
    await answerRight(visit);
    expect(visit.banner).toBe(BO);
    expect([grant.revoked, b.revoked, c.revoked, again.revoked]).toEqual([1, 1, 1, 0]);
  });

  it('settles a call that is under way, and asks nothing about the next patient in its place', async () => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const calls = agentOf(async () => {
      await held;
      return EMPTY;
    });
    const { visit } = await opened(calls);
    const late = visit.ask({ reason: 'cough' });
    const refused = expect(late).rejects.toMatchObject({ code: 40901 });
    await visit.beginSwitch(grantOf('B'), BO);
    await answerRight(visit);
    release();
    await refused;
    expect(calls.tokens).toEqual(['token-A']);
  });

  it('settles a call of a session whose grant was renewed since: its answer does not outlive the patient either', async () => {
    let [release, reached]: (() => void)[] = [() => undefined, () => undefined];
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const underWay = new Promise<void>((resolve) => {
      reached = resolve;
    });
    let count = 0;
    const calls = agentOf(async () => {
      count += 1;
      if (count === 1) {
        reached?.();
        await held;
      }
      return EMPTY;
    });
    let now = NOW * 1000;
    const renewed = grantOf('A', { accessToken: 'token-renewed', expiresAt: NOW + 9_000 });
    const { visit } = await opened(calls, grantOf('A', { refresh: async () => renewed }), () => now);
    const late = visit.ask({ reason: 'cough' });
    const refused = expect(late).rejects.toMatchObject({ code: 40901 });
    await underWay;
    now += 3_590_000;
    await visit.ask({ reason: 'cough' });
    await visit.beginSwitch(grantOf('B', { expiresAt: NOW + 9_000 }), BO);
    await answerRight(visit);
    release?.();
    await refused;
    expect(calls.tokens).toEqual(['token-A', 'token-renewed']);
    expect(visit.banner).toBe(BO);
  });

  it('a renewal under way ends before a switch begins, so that it cannot bring the patient before back', async () => {
    let renew: (grant: Grant) => void = () => undefined;
    const calls = agentOf();
    const refresh = () =>
      new Promise<Grant>((resolve) => {
        renew = resolve;
      });
    const { visit } = await opened(calls, grantOf('A', { expiresAt: NOW + 1, refresh }));
    const asked = visit.ask({ reason: 'cough' });
    const begun = visit.beginSwitch(grantOf('B'), BO);
    await new Promise((resolve) => setImmediate(resolve));
    expect(visit.switching).toBeUndefined();
    renew(grantOf('A', { accessToken: 'token-renewed' }));
    await asked.catch(() => undefined);
    await begun;
    await answerRight(visit);
    await visit.ask({ reason: 'cough' });
    expect(visit.banner).toBe(BO);
    expect(calls.tokens.at(-1)).toBe('token-B');
  });

  it('closed in the middle of a dialog ends both grants, once each, and answers the page that waits', async () => {
    const { visit, grant } = await opened();
    const b = grantOf('B');
    await visit.beginSwitch(b, BO);
    const { switching } = visit;
    await Promise.all([visit.close(), visit.close()]);
    expect(await switching?.ended).toMatchObject({ result: 'aborted' });
    expect([grant.revoked, b.revoked]).toEqual([1, 1]);
    const c = grantOf('C');
    expect(await visit.beginSwitch(c, CY)).toMatchObject({ report: { result: 'refused' } });
    expect(c.revoked).toBe(1);
  });
});
