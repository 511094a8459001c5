import { Vote } from '@hmcp/core';
import { describe, expect, it } from 'vitest';
import { abort, answer, ask, begin, commit, drained, expire, join, outcomeOf, proceed, progress, vote } from '../src/machine.js';
import { messages } from '../src/messages.js';
import { permit, release } from '../src/permits.js';
import type { Session } from '../src/session-row.js';
import { at, code, next, session, subject, to } from './support/rows.js';

const accept = Vote.parse({ vote: 'accept' });
const S1 = { switchId: 's1' };
const dialog = (nonceHash = 'n1') => ({ ...S1, nonceHash });
const right = (nonceHash = 'n1') => ({ ...S1, nonceHash, right: true });
const wrong = (nonceHash = 'n1') => ({ ...S1, nonceHash, right: false });
const drain = (clientId: string) => ({ ...S1, clientId, drained: { saved: [], cancelled: 0, completed: 0, indeterminate: [] } });

const preparing = (...members: Parameters<typeof session>): Session => next(begin(session(...members), to('B'), at()));
const confirming = (): Session => next(ask(preparing(), dialog(), at()));
const draining = (): Session => next(answer(confirming(), right(), at(100)));
const committed = (): Session => next(commit(draining(), S1, at(200)));
const closedSession = (): Session => {
  const proposed = next(begin(session(), to(null, { switchId: 'c1' }), at()));
  return next(commit(next(proceed(proposed, { switchId: 'c1' }, at())), { switchId: 'c1' }, at()));
};

describe('begin', () => {
  it('proposes at the expected epoch: PREPARING, with a deadline, nothing else moved', () => {
    const row = preparing(['reader', 'labs']);
    expect(row).toMatchObject({ state: 'preparing', epoch: 1, rev: 2, subject: subject('A') });
    expect(row.pending).toMatchObject({ switchId: 's1', asked: ['labs'], deadline: at(180_000).now, voteBy: at(5_000).now });
  });

  it.each([
    ['another epoch is 41201', session(), to('B', { expectedEpoch: 2 }), 41201],
    ['an earlier epoch is 41201', session(), to('B', { expectedEpoch: 0 }), 41201],
    ['another switch holds the session: 40902', preparing(), to('C', { switchId: 's2' }), 40902],
    ['another switch holds it while confirming: 40902', confirming(), to('C', { switchId: 's2' }), 40902],
    ['another switch holds it while draining: 40902', draining(), to('C', { switchId: 's2' }), 40902],
    ['a close during a switch: 40902', preparing(), to(null, { switchId: 's2' }), 40902],
    ['the same id for another patient: 40904', preparing(), to('C'), 40904],
    ['the same id for another encounter: 40904', preparing(), to(subject('B', 'E1')), 40904],
    ['the same id at another epoch: 40904', preparing(), to('B', { expectedEpoch: 2 }), 40904],
    ['the same id for another patient after the decision: 40904', committed(), to('C'), 40904],
    ['the same id for a close after the decision: 40904', committed(), to(null), 40904],
    ['a closed session: 41001', closedSession(), to('B', { expectedEpoch: 2 }), 41001],
  ])('%s', (_, row, proposal, expected) => {
    expect(code(begin(row, proposal, at()))).toBe(expected);
  });

  it('the same switchId twice is the same switch, pending or decided', () => {
    expect(begin(preparing(), to('B'), at(1))).toEqual({ is: 'same', session: preparing() });
    expect(code(begin(committed(), to('B'), at(300)))).toBe('same');
    expect(outcomeOf(committed(), 's1')).toMatchObject({ result: 'committed', epoch: 2 });
  });

  it('the current patient as target changes nothing and is written down', () => {
    const row = next(begin(session(), to('A'), at()));
    expect(row).toMatchObject({ epoch: 1, rev: 1, state: 'active' });
    expect(outcomeOf(row, 's1')).toMatchObject({ result: 'unchanged', epoch: 1 });
  });

  it('another encounter of the same patient asks nobody', () => {
    const row = next(begin(session(), to(subject('A', 'E2')), at()));
    expect(row.pending?.parameters.kind).toBe('encounter');
    const done = next(commit(next(proceed(row, S1, at())), S1, at()));
    expect(done).toMatchObject({ epoch: 2, subject: subject('A', 'E2') });
  });
});

describe('vote', () => {
  const asked = (): Session => preparing(['reader', 'labs'], ['effector', 'orders']);
  const says = (clientId: string, said = accept) => ({ ...S1, clientId, vote: said });

  it('the last one ends the survey; until then it waits', () => {
    const one = next(vote(asked(), says('labs'), at()));
    expect(progress(one, at().now, at().timing)).toEqual({ can: 'wait', until: at(5_000).now });
    const both = next(vote(one, says('orders'), at()));
    expect(progress(both, at().now, at().timing)).toEqual({ can: 'ask' });
  });

  it('silence ends the survey too, and evicts at the commit', () => {
    const one = next(vote(asked(), says('labs'), at()));
    expect(progress(one, at(5_000).now, at().timing)).toEqual({ can: 'ask' });
    let row = next(ask(one, dialog(), at(5_000)));
    row = next(answer(row, right(), at(6_000)));
    row = next(drained(row, drain('labs'), at(6_001)));
    row = next(commit(row, S1, at(6_002)));
    expect(row.members.map(({ clientId }) => clientId)).toEqual(['labs']);
    expect(outcomeOf(row, 's1')?.evicted).toEqual(['orders']);
  });

  it('whoever cannot follow leaves with the commit, and may join again', () => {
    const cannot = Vote.parse({ vote: 'cannot_follow' });
    let row = next(vote(preparing(['reader', 'labs']), says('labs', cannot), at()));
    row = next(commit(next(answer(next(ask(row, dialog(), at())), right(), at())), S1, at()));
    expect(row.members).toEqual([]);
    expect(next(join(row, { clientId: 'labs', role: 'reader', delivery: 'pull' }, at())).members).toHaveLength(1);
  });

  it('a veto gives the switch up, also after an accept; a close goes on', () => {
    const veto = Vote.parse({ vote: 'veto' });
    const row = next(vote(next(vote(asked(), says('labs'), at())), says('labs', veto), at()));
    const over = next(expire(row, at()) as never);
    expect(over).toMatchObject({ state: 'active', epoch: 1, subject: subject('A') });
    expect(outcomeOf(over, 's1')).toMatchObject({ result: 'aborted', reason: 'vetoed' });
    const closing = next(begin(session(['reader', 'labs']), to(null), at()));
    expect(progress(next(vote(closing, says('labs', veto), at())), at().now, at().timing)).toEqual({ can: 'drain' });
  });

  it('the first vote counts; a later accept takes no warning back', () => {
    const warned = Vote.parse({ vote: 'accept_with_warning', unsaved: [{ id: 'd1', savable: true }] });
    const row = next(vote(asked(), says('orders', warned), at()));
    expect(code(vote(row, says('orders'), at()))).toBe('same');
  });

  it.each([
    ['of somebody who was not asked is 40301', asked(), { ...S1, clientId: 'mallory', vote: accept }, 40301],
    ['for another switch changes nothing', asked(), { switchId: 's0', clientId: 'labs', vote: accept }, 'same'],
    ['after the survey changes nothing', confirming(), { ...S1, clientId: 'labs', vote: accept }, 'same'],
    ['without a switch changes nothing', session(), { ...S1, clientId: 'labs', vote: accept }, 'same'],
    ['after the commit changes nothing', committed(), { ...S1, clientId: 'labs', vote: accept }, 'same'],
  ])('a vote %s', (_, row, said, expected) => {
    expect(code(vote(row, said, at()))).toBe(expected);
  });
});

describe('confirm', () => {
  it('C1 without effectors, C2 with one that is a member or was only named', () => {
    expect(confirming().pending?.level).toBe('C1');
    const row = next(vote(preparing(['effector', 'orders']), { ...S1, clientId: 'orders', vote: accept }, at()));
    expect(next(ask(row, dialog(), at())).pending?.level).toBe('C2');
    const named = next(begin(session(), to('B', { effectors: true }), at()));
    expect(next(ask(named, dialog(), at())).pending?.level).toBe('C2');
  });

  it('is not asked for before the survey is over', () => {
    expect(code(ask(preparing(['reader', 'labs']), dialog(), at()))).toBe('same');
  });

  it('a right answer begins to drain and uses the nonce up', () => {
    expect(draining()).toMatchObject({ state: 'draining', epoch: 1 });
    expect(draining().pending?.nonceHash).toBeUndefined();
    expect(code(answer(draining(), right(), at(101)))).toBe('same');
  });

  it('a wrong answer may be given again to a new dialog, three times in all; then the switch is given up', () => {
    let row = next(answer(confirming(), wrong(), at()));
    expect(row).toMatchObject({ state: 'confirming', pending: { tries: 1 } });
    expect(code(answer(row, right(), at()))).toBe(42201);
    row = next(answer(next(ask(row, dialog('n2'), at())), wrong('n2'), at()));
    row = next(answer(next(ask(row, dialog('n3'), at())), wrong('n3'), at()));
    expect(row).toMatchObject({ state: 'active', epoch: 1 });
    expect(outcomeOf(row, 's1')).toMatchObject({ result: 'aborted', reason: 'confirmation' });
  });

  it.each([
    ['with a nonce nobody gave', confirming(), right('n0'), 42201],
    ['with a nonce a newer dialog replaced', next(ask(confirming(), dialog('n2'), at())), right('n1'), 42201],
    ['before any dialog', preparing(), right(), 42201],
    ['for another switch', confirming(), { ...right(), switchId: 's0' }, 'same'],
    ['without a switch', session(), right(), 'same'],
    ['after the commit', committed(), right(), 'same'],
  ])('an answer %s decides nothing', (_, row, given, expected) => {
    expect(code(answer(row, given, at()))).toBe(expected);
  });

  it('a person who thinks for too long decided nothing: aborted, whoever looks', () => {
    expect(expire(confirming(), at(119_999))).toBeUndefined();
    expect(next(expire(confirming(), at(120_000)) as never)).toMatchObject({ state: 'active', epoch: 1 });
  });

  it('a new dialog does not give the person more time', () => {
    const again = next(ask(confirming(), dialog('n2'), at(100_000)));
    expect(again.pending?.confirmBy).toBe(confirming().pending?.confirmBy);
  });
});

describe('drain and commit', () => {
  const withMembers = (): Session => {
    let row = preparing(['reader', 'labs'], ['effector', 'orders']);
    const unsaved = [
      { id: 'd1', savable: true },
      { id: 'd2', savable: false },
    ];
    row = next(vote(row, { ...S1, clientId: 'labs', vote: accept }, at()));
    row = next(vote(row, { ...S1, clientId: 'orders', vote: { ...accept, vote: 'accept_with_warning', unsaved } }, at()));
    return next(answer(next(ask(row, dialog(), at())), right(), at()));
  };

  it('waits for those that follow, then raises the epoch by one with the record of it', () => {
    expect(code(commit(withMembers(), S1, at()))).toBe('same');
    let row = next(drained(withMembers(), drain('labs'), at()));
    row = next(drained(row, { ...drain('orders'), drained: { ...drain('orders').drained, saved: ['d1', 'dX'] } }, at()));
    const step = commit(row, S1, at(50));
    expect(step).toMatchObject({
      is: 'moved',
      record: { event: 'switch.committed', epoch: 2, fromPk: subject('A').pk, pk: subject('B').pk, waitedMs: 50 },
    });
    expect(next(step)).toMatchObject({ state: 'active', epoch: 2, subject: subject('B'), permits: [] });
    expect(next(step).pending).toBeUndefined();
    expect(outcomeOf(next(step), 's1')).toMatchObject({ saved: 1, lost: 1, evicted: [] });
  });

  it('does not wait for ever: after the drain time whoever did not answer is evicted', () => {
    const row = next(commit(withMembers(), S1, at(5_000)));
    expect(outcomeOf(row, 's1')).toMatchObject({ result: 'committed', evicted: ['labs', 'orders'], saved: 0, lost: 2 });
  });

  it('waits for a permit until it is given back, or dead by anybody’s clock', () => {
    const granted = next(
      permit(
        session(['effector', 'orders']),
        {
          permit: 'p1',
          clientId: 'orders',
          epoch: 1,
          intent: { id: 'i', epoch: 1 },
          operation: 'sign',
          effectKey: 'k',
          ttlMs: 10_000,
        },
        at(),
      ),
    );
    let row = next(begin(granted, to('B'), at(100)));
    row = next(vote(row, { ...S1, clientId: 'orders', vote: accept }, at(100)));
    row = next(answer(next(ask(row, dialog(), at(100))), right(), at(100)));
    row = next(drained(row, drain('orders'), at(100)));
    expect(progress(row, at(100).now, at().timing)).toEqual({ can: 'wait', until: at(12_001).now });
    expect(code(commit(row, S1, at(12_000)))).toBe('same');
    expect(next(commit(row, S1, at(12_001)))).toMatchObject({ epoch: 2 });
    expect(next(commit(next(release(row, { permit: 'p1', clientId: 'orders' }, at(200))), S1, at(200)))).toMatchObject({
      epoch: 2,
    });
  });

  it.each([
    ['before confirmation', confirming(), S1],
    ['while preparing', preparing(), S1],
    ['of another switch', draining(), { switchId: 's2' }],
    ['twice', committed(), S1],
    ['without a switch', session(), S1],
  ])('nothing is committed %s', (_, row, given) => {
    expect(code(commit(row, given, at(200)))).toBe('same');
  });

  it('a grant that ends before the commit ends the switch; while the dialog is open the next call brings its own', () => {
    let row = next(begin(session(['reader', 'labs']), to('B', { grantExpiresAt: at(1_000).now }), at()));
    row = next(ask(next(vote(row, { ...S1, clientId: 'labs', vote: accept }, at())), dialog(), at()));
    expect(expire(row, at(60_000))).toBeUndefined();
    row = next(answer(row, { ...right(), grantExpiresAt: at(61_000).now }, at(60_000)));
    expect(expire(row, at(60_999))).toBeUndefined();
    expect(outcomeOf(next(expire(row, at(61_000)) as never), 's1')).toMatchObject({ result: 'aborted', reason: 'authorization' });
  });

  it('undecided at the deadline means abort, also when draining', () => {
    const row = next(expire(draining(), at(180_000)) as never);
    expect(row).toMatchObject({ state: 'active', epoch: 1, subject: subject('A') });
    expect(code(commit(draining(), S1, at(180_000)))).toBe('same');
  });
});

describe('abort', () => {
  it.each([
    ['preparing', preparing()],
    ['confirming', confirming()],
    ['draining', draining()],
  ])('while %s leaves epoch and patient as they were', (_, row) => {
    expect(next(abort(row, { ...S1, reason: 'aborted' }, at()))).toMatchObject({
      epoch: 1,
      subject: subject('A'),
      state: 'active',
    });
  });

  it('after the commit changes nothing: the outcome stays committed', () => {
    expect(code(abort(committed(), { ...S1, reason: 'aborted' }, at()))).toBe('same');
  });

  it('of a switch nobody knows is 41201', () => {
    expect(code(abort(session(), { ...S1, reason: 'aborted' }, at()))).toBe(41201);
  });
});

describe('close', () => {
  it('ends at the next epoch with nobody in it, for good', () => {
    const row = closedSession();
    expect(row).toMatchObject({ state: 'closed', epoch: 2, subject: null, members: [] });
    expect(code(join(row, { clientId: 'labs', role: 'reader', delivery: 'pull' }, at()))).toBe(41001);
    expect(code(begin(row, to(null, { switchId: 'c1' }), at()))).toBe('same');
    expect(code(begin(row, to(null, { switchId: 'c2', expectedEpoch: 2 }), at()))).toBe(41001);
    expect(code(abort(row, { ...S1, reason: 'aborted' }, at()))).toBe(41001);
  });
});

describe('join', () => {
  it('is for those named at the opening', () => {
    expect(code(join(session(), { clientId: 'labs', role: 'reader', delivery: 'pull' }, at()))).toBe(40301);
  });

  it('again replaces role and delivery; the same again changes nothing', () => {
    const row = session(['reader', 'labs']);
    expect(code(join(row, { clientId: 'labs', role: 'reader', delivery: 'pull' }, at()))).toBe('same');
    expect(next(join(row, { clientId: 'labs', role: 'effector', delivery: 'push' }, at())).members).toMatchObject([
      { clientId: 'labs', role: 'effector', delivery: 'push' },
    ]);
  });

  it('during a switch is not waited for, and stays', () => {
    const named = { ...session(), participants: ['labs'] };
    const row = next(join(next(begin(named, to('B'), at())), { clientId: 'labs', role: 'reader', delivery: 'pull' }, at()));
    const done = next(commit(next(answer(next(ask(row, dialog(), at())), right(), at())), S1, at()));
    expect(done.members).toHaveLength(1);
  });
});

describe('messages', () => {
  it('tell pushed members what is asked, what to save, and how it ended; nobody else', () => {
    const before: Session = {
      ...session(['reader', 'labs'], ['effector', 'orders']),
      members: session(['reader', 'labs'], ['effector', 'orders']).members.map((member) =>
        member.clientId === 'orders' ? { ...member, delivery: 'push' } : member,
      ),
    };
    const asked = next(begin(before, to('B'), at()));
    expect(messages(before, asked)).toMatchObject([{ to: 'orders', method: 'dev.hmcp/context.prepare', params: { epoch: 1 } }]);
    const unsaved = [
      { id: 'd1', savable: true },
      { id: 'd2', savable: false },
    ];
    const voted = next(vote(asked, { ...S1, clientId: 'orders', vote: { ...accept, unsaved } }, at()));
    const shown = next(ask(voted, dialog(), at(5_000)));
    expect(messages(voted, shown)).toEqual([]);
    const drains = next(answer(shown, right(), at(5_000)));
    expect(messages(shown, drains)).toMatchObject([{ to: 'orders', method: 'dev.hmcp/context.drain', params: { save: ['d1'] } }]);
    const ended = next(commit(drains, S1, at(10_000)));
    expect(messages(drains, ended)).toMatchObject([
      { to: 'orders', method: 'dev.hmcp/context.decided', params: { result: 'committed', epoch: 2 } },
    ]);
    expect(JSON.stringify([messages(before, asked), messages(shown, drains)])).not.toContain('"B"');
  });
});
