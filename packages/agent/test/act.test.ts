import { currentScope } from '@hmcp/core/request-scope';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openSession, type Session, type SwitchDialog } from '../src/index.js';
import { startPeer, type TestPeer } from './support/peer-server.js';
import { type SessionWorld, sessionWorld, type TestGrant, TYPED } from './support/session-world.js';
import { ANN, BO, gate, listResults, observation, refusalOf, type World, world } from './support/world.js';

/** Both kinds of session keep the same promises: only who counts the epoch differs. */
describe.each(['process', 'manager'] as const)('in a session of kind %s', (kind) => {
  let bed: SessionWorld;
  let labs: TestPeer;
  let here: World;
  let session: Session;
  let ann: TestGrant;
  beforeEach(async () => {
    bed = await sessionWorld();
    labs = await startPeer();
    here = world([{ name: 'labs', resource: labs.url, kind: 'hmcp' }], { now: bed.clock.now });
    ann = bed.grant(ANN);
    session = kind === 'manager' ? await bed.open(ANN, { grant: ann }) : await openSession({ agent: here.agent, grant: ann });
  });
  afterEach(async () => {
    await here.agent.close();
    await labs.close();
    await bed.close();
  });

  const agent = () => (kind === 'manager' ? bed.agent : here.agent);
  const call = () => session.call('labs', listResults, {});
  const intents = (): string[] =>
    kind === 'manager'
      ? bed.labs.calls.map(({ envelope }) => envelope.intent.id)
      : labs.calls().map(({ body }) => JSON.parse(body).params._meta['dev.hmcp/context'].intent.id);
  const confirm = async ({ fields, target }: SwitchDialog) =>
    fields[0]?.kind === 'yes-no' ? { [fields[0].name]: true } : { ...TYPED[target.patient] };
  const switchTo = (patient: string) => session.switchPatient({ authorize: async () => bed.grant(patient), confirm });
  /** The next call at the server waits until opened. */
  function hold() {
    const [arrived, door] = [gate(), gate()];
    const wait = async () => {
      arrived.open();
      await door.opened;
    };
    bed.labs.onCall = wait;
    labs.onCall = wait;
    return { arrived: arrived.opened, open: door.open };
  }

  test('an act is one intent, whoever calls in it', async () => {
    const value = await session.act(async () => {
      const one = await call();
      const two = await agent().call('labs', listResults, {});
      return [one, two, await session.act(call)];
    });
    expect(value).toEqual([1, 2, 3].map(() => ({ results: [observation(ANN)] })));
    expect(new Set(intents()).size).toBe(1);
  });

  test('two acts are two intents', async () => {
    await session.act(call);
    await session.act(call);
    expect(new Set(intents()).size).toBe(2);
  });

  test('an act that a switch overtakes rejects at once: 40901, check "result"; its signal aborts, what it calls later is refused', async () => {
    const [begun, goOn] = [gate(), gate()];
    let later: Promise<unknown> | undefined;
    let aborted: boolean | undefined;
    const act = refusalOf(
      session.act(async (signal) => {
        begun.open();
        await goOn.opened;
        aborted = signal.aborted;
        later = refusalOf(call());
        await later;
        return 'about Ann';
      }),
    );
    await begun.opened;
    expect(await switchTo(BO)).toMatchObject({ result: 'committed', epoch: 2 });
    const error = await act;
    expect([error.code, error.check]).toEqual([40901, 'result']);
    goOn.open();
    await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    expect(aborted).toBe(true);
    expect(await later).toMatchObject({ code: 40901, check: 'epoch' });
    expect(intents()).toEqual([]);
  });

  test('a call of an act that a switch overtakes is settled with 40901, and its answer dropped', async () => {
    const dropped: number[] = [];
    session.events.on('result-dropped', ({ code }) => dropped.push(code));
    const { arrived, open } = hold();
    const inner: unknown[] = [];
    const act = session.act(async () => call().catch((error: unknown) => inner.push(error)));
    act.catch(() => undefined);
    await arrived;
    await switchTo(BO);
    expect(await refusalOf(act)).toMatchObject({ code: 40901, check: 'result' });
    const seen = new Promise<void>((resolve) => session.events.on('result-dropped', () => resolve()));
    open();
    await seen;
    expect(dropped).toEqual([40901]);
    expect(inner).toMatchObject([{ code: 40901, check: 'result' }]);
  });

  test('an act keeps the error of its own work', async () => {
    await expect(session.act(() => Promise.reject(new Error('mine')))).rejects.toThrow('mine');
    await expect(
      session.act(() => {
        throw new Error('at once');
      }),
    ).rejects.toThrow('at once');
  });

  test('an act may not hand over what another act was given: 40903', async () => {
    const before = await session.act(call);
    expect(await refusalOf(session.act(async () => ({ before })))).toMatchObject({ code: 40903, check: 'result' });
  });

  test('an act is over when it returns: what it left behind calls nothing', async () => {
    const goOn = gate();
    let late: Promise<unknown> | undefined;
    await session.act(async () => {
      late = goOn.opened.then(call);
      late.catch(() => undefined);
    });
    goOn.open();
    expect(await refusalOf(late ?? Promise.resolve())).toMatchObject({ code: 40901, check: 'epoch' });
  });

  test('an act is refused after close: 41001', async () => {
    await session.close();
    expect(await refusalOf(session.act(call))).toMatchObject({ code: 41001, check: 'session' });
  });

  test('after a switch, calls are about the next patient and the old grant is revoked', async () => {
    await call();
    await switchTo(BO);
    expect(await call()).toEqual({ results: [observation(BO)] });
    expect([session.epoch, ann.revoked]).toEqual([2, 1]);
  });

  test('no model switches: inside an act 40301', async () => {
    expect(await refusalOf(session.act(() => switchTo(BO)))).toMatchObject({ code: 40301, check: 'session' });
    expect(session.epoch).toBe(1);
  });

  test('the scope of an act is the session’s own', async () => {
    expect(await session.act(async () => currentScope()?.facts.context.patient)).toBe(ANN);
    expect(currentScope()).toBeUndefined();
  });
});

describe('a process session', () => {
  let labs: TestPeer;
  let here: World;
  let bed: SessionWorld;
  beforeEach(async () => {
    bed = await sessionWorld();
    labs = await startPeer();
    here = world([{ name: 'labs', resource: labs.url, kind: 'hmcp' }]);
  });
  afterEach(async () => {
    await here.agent.close();
    await labs.close();
    await bed.close();
  });
  const open = (patient: string) => openSession({ agent: here.agent, grant: bed.grant(patient) });

  test('asks for one yes, with nothing filled in', async () => {
    const session = await open(ANN);
    const dialogs: SwitchDialog[] = [];
    const confirm = async (dialog: SwitchDialog) => {
      dialogs.push(dialog);
      return { confirm: true };
    };
    await session.switchPatient({ authorize: async () => bed.grant(BO), confirm });
    expect(dialogs).toMatchObject([{ fields: [{ name: 'confirm', kind: 'yes-no', required: true }], target: { patient: BO } }]);
  });

  test.each<[string, unknown]>([
    ['declines', 'decline'],
    ['does not say yes', {}],
    ['says no', { confirm: false }],
    ['says "true" as text', { confirm: 'true' }],
    ['says nothing', undefined],
    ['answers with a list', [true]],
  ])('stays where it was when the person %s', async (_, answer) => {
    const [session, bo] = [await open(ANN), bed.grant(BO)];
    const report = await session.switchPatient({ authorize: async () => bo, confirm: async () => answer as 'decline' });
    expect(report).toMatchObject({ result: 'aborted', reason: 'declined', epoch: 1, revoked: true });
    expect(await session.call('labs', listResults, {})).toEqual({ results: [observation(ANN)] });
  });

  test('moves to another encounter of the same patient without a question', async () => {
    const session = await open(ANN);
    const confirm = () => Promise.reject(new Error('asked'));
    const report = await session.switchPatient({ authorize: async () => bed.grant(ANN, { encounter: 'e2' }), confirm });
    expect(report).toMatchObject({ result: 'committed', epoch: 2 });
  });

  test('sends no epoch: it stays in the orchestrator', async () => {
    const session = await open(ANN);
    await session.switchPatient({ authorize: async () => bed.grant(BO), confirm: async () => ({ confirm: true }) });
    await session.call('labs', listResults, {});
    expect(labs.calls().map(({ body }) => body)).toEqual([expect.not.stringContaining('epoch')]);
  });
});
