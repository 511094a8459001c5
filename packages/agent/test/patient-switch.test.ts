import type { Grant } from '@hmcp/auth';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Session, SwitchDialog, SwitchRequest } from '../src/index.js';
import { LABS, type SessionWorld, sessionWorld, TYPED } from './support/session-world.js';
import { ANN, BO, gate, listResults, observation, refusalOf } from './support/world.js';

let bed: SessionWorld;
beforeEach(async () => {
  bed = await sessionWorld();
});
afterEach(() => bed.close());

const asked = (name: string) => bed.asked.filter((one) => one.method === name || one.name === name);
const results = (session: Session) => session.call('labs', listResults, {});
/** The person types what stands on the wristband. */
const rightly = async (dialog: SwitchDialog) => ({ ...TYPED[dialog.target.patient] });
const to = (grant: Grant, more: Partial<SwitchRequest> = {}): SwitchRequest => ({
  authorize: async () => grant,
  confirm: rightly,
  ...more,
});
/** A call of the session that waits at the server until opened. */
function held(session: Session) {
  const [arrived, door] = [gate(), gate()];
  bed.labs.onCall = async () => {
    arrived.open();
    await door.opened;
    return undefined;
  };
  const call = results(session);
  call.catch(() => undefined);
  return { call, arrived: arrived.opened, release: door.open };
}
/** Lets everything that can happen without time happen. */
const settled = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};
/** The next answer of the manager to a message that holds `text` is lost, after it was carried out or before. */
function lose(text: string, when: 'answer' | 'request', times = 1) {
  let left = times;
  bed.network = async (request, serve) => {
    const body = await request.clone().text();
    if (left === 0 || !body.includes(text)) return serve();
    left -= 1;
    if (when === 'answer') await serve();
    throw new TypeError('fetch failed');
  };
}

describe('a committed switch', () => {
  test('puts the session on the next patient, one epoch on', async () => {
    const [ann, bo] = [bed.grant(ANN), bed.grant(BO)];
    const session = await bed.open(ANN, { grant: ann });
    expect(await results(session)).toEqual({ results: [observation(ANN)] });
    const report = await session.switchPatient(to(bo));
    expect(report).toMatchObject({ result: 'committed', epoch: 2, revoked: true, evicted: [] });
    expect(session.epoch).toBe(2);
    expect(await results(session)).toEqual({ results: [observation(BO)] });
    expect(bed.labs.calls.at(-1)?.seal).toMatchObject({ epoch: 2, patient: BO });
    expect(bed.labs.calls.at(-1)?.token).toBe(`for ${LABS} from ${bo.accessToken}`);
  });

  test('revokes the grant of the patient before, and no other', async () => {
    const [ann, bo] = [bed.grant(ANN), bed.grant(BO)];
    const session = await bed.open(ANN, { grant: ann });
    await session.switchPatient(to(bo));
    expect([ann.revoked, bo.revoked]).toEqual([1, 0]);
  });

  test('holds though the old grant cannot be revoked, and says so', async () => {
    const grant = { ...bed.grant(ANN), revoke: () => Promise.reject(new Error('no answer')) };
    const session = await bed.open(ANN, { grant });
    expect(await session.switchPatient(to(bed.grant(BO)))).toMatchObject({ result: 'committed', revoked: false });
  });

  test('asks the person for two identifiers, and suggests none', async () => {
    const session = await bed.open(ANN);
    const dialogs: SwitchDialog[] = [];
    await session.switchPatient(
      to(bed.grant(BO), {
        confirm: async (dialog) => {
          dialogs.push(dialog);
          return rightly(dialog);
        },
      }),
    );
    expect(dialogs).toHaveLength(1);
    expect(dialogs[0]).toMatchObject({ round: 1, target: { patient: BO } });
    expect(dialogs[0]?.fields).toEqual([
      { name: 'birthDate', title: 'Date of birth', kind: 'date', required: true },
      {
        name: 'recordNumberLast4',
        title: 'Record number, last four characters',
        kind: 'text',
        required: true,
        minLength: 4,
        maxLength: 4,
      },
    ]);
    expect(JSON.stringify(dialogs)).not.toMatch(/1961|9B21/);
  });

  test('comes back: A, B, A are three epochs, and an answer of the first is dropped in the third', async () => {
    const session = await bed.open(ANN);
    const first = held(session);
    await first.arrived;
    await session.switchPatient(to(bed.grant(BO)));
    await session.switchPatient(to(bed.grant(ANN)));
    expect(session.epoch).toBe(3);
    const dropped: string[] = [];
    session.events.on('result-dropped', ({ intent }) => dropped.push(intent));
    expect(await refusalOf(first.call)).toMatchObject({ code: 40901, check: 'result' });
    first.release();
    await settled();
    expect(dropped).toEqual([bed.labs.calls[0]?.envelope.intent.id]);
    expect(await results(session)).toEqual({ results: [observation(ANN)] });
    expect(bed.labs.calls.map(({ seal }) => seal.epoch)).toEqual([1, 3]);
  });
});

describe('a call under way when the session goes on', () => {
  test('is rejected at once with 40901, check "result"; its answer is dropped when it comes', async () => {
    const session = await bed.open(ANN);
    const late = held(session);
    await late.arrived;
    const told: [string, number | string][] = [];
    session.events.on('result-dropped', ({ code, reason }) => told.push([reason, code]));
    await session.switchPatient(to(bed.grant(BO)));
    const error = await refusalOf(late.call);
    expect([error.code, error.check, error.data.intent]).toEqual([40901, 'result', bed.labs.calls[0]?.envelope.intent.id]);
    expect([bed.labs.answered, told]).toEqual([0, []]);
    late.release();
    await settled();
    expect(bed.labs.answered).toBe(1);
    expect(told).toEqual([['the answer came after the session went on to another patient', 40901]]);
    expect(bed.audit.records.map(({ event, code, epoch }) => [event, code, epoch])).toEqual([
      ['hop.call', undefined, 1],
      ['hop.refused', 40901, 1],
      ['hop.dropped', 40901, 1],
    ]);
  });

  test('is never sent again: no request holds its intent with the next epoch', async () => {
    const session = await bed.open(ANN);
    const late = held(session);
    await late.arrived;
    await session.switchPatient(to(bed.grant(BO)));
    late.release();
    await late.call.catch(() => undefined);
    await results(session);
    const pairs = bed.labs.calls.map(({ envelope: { intent }, seal }) => [intent.id, intent.epoch, seal.epoch]);
    expect(new Set(pairs.map(([id]) => id)).size).toBe(2);
    for (const [, meant, sealed] of pairs) expect(meant).toBe(sealed);
  });

  test('delivers nothing from the confirmation to the outcome; after an abort it delivers what it held', async () => {
    const session = await bed.open(ANN);
    const late = held(session);
    await late.arrived;
    const [confirmed, answer] = [gate(), gate()];
    bed.network = async (request, serve) => {
      const body = await request.clone().text();
      if (!body.includes('"accept"')) return serve();
      confirmed.open();
      await answer.opened;
      // The right to open the patient was withdrawn while the dialog was open.
      return Response.json({ jsonrpc: '2.0', id: JSON.parse(body).id, error: refusedBy(40302) });
    };
    let delivered = false;
    const call = late.call.then((value) => {
      delivered = true;
      return value;
    });
    const switching = session.switchPatient(to(bed.grant(BO)));
    await confirmed.opened;
    late.release();
    await settled();
    expect([bed.labs.answered, delivered]).toEqual([1, false]);
    answer.open();
    expect(await switching).toMatchObject({ result: 'aborted', epoch: 1 });
    expect(await call).toEqual({ results: [observation(ANN)] });
  });

  test('held back by the confirmation is dropped by the commit', async () => {
    const session = await bed.open(ANN);
    const late = held(session);
    await late.arrived;
    const [confirmed, answer] = [gate(), gate()];
    bed.network = async (request, serve) => {
      const body = await request.clone().text();
      if (!body.includes('"accept"')) return serve();
      confirmed.open();
      await answer.opened;
      return serve();
    };
    const dropped: number[] = [];
    session.events.on('result-dropped', ({ code }) => dropped.push(code));
    const switching = session.switchPatient(to(bed.grant(BO)));
    await confirmed.opened;
    late.release();
    await settled();
    answer.open();
    expect(await switching).toMatchObject({ result: 'committed' });
    expect(await refusalOf(late.call)).toMatchObject({ code: 40901, check: 'result' });
    expect(dropped).toEqual([40901]);
  });

  test('made after the confirmation waits for the outcome, and is not done for the next patient', async () => {
    const session = await bed.open(ANN);
    const [confirmed, answer] = [gate(), gate()];
    bed.network = async (request, serve) => {
      if (!(await request.clone().text()).includes('"accept"')) return serve();
      confirmed.open();
      await answer.opened;
      return serve();
    };
    const switching = session.switchPatient(to(bed.grant(BO)));
    await confirmed.opened;
    const call = refusalOf(results(session));
    await settled();
    expect(bed.labs.calls).toEqual([]);
    answer.open();
    await switching;
    expect((await call).code).toBe(40901);
    expect(bed.labs.calls).toEqual([]);
  });
});

describe('a switch that does not happen leaves the session where it was', () => {
  /** The session still serves its patient, and the grant that was not used is revoked. */
  async function stillOnAnn(session: Session, bo: { revoked: number }) {
    expect([session.epoch, bo.revoked]).toEqual([1, 1]);
    expect(await results(session)).toEqual({ results: [observation(ANN)] });
    expect(bed.labs.calls.at(-1)?.seal).toMatchObject({ epoch: 1, patient: ANN });
  }

  test.each<[string, SwitchRequest['confirm'], string]>([
    ['the person declines', async () => 'decline', 'declined'],
    ['the dialog breaks', () => Promise.reject(new Error('page closed')), 'declined'],
    ['the dialog answers nothing', async () => undefined as never, 'declined'],
    ['the person never knows', async () => ({ birthDate: '1900-01-01', recordNumberLast4: '0000' }), 'confirmation'],
    ['nothing is typed', async () => ({}), 'confirmation'],
    ['what is typed is no text', async () => ({ birthDate: 1961, recordNumberLast4: true }), 'confirmation'],
  ])('%s', async (_, confirm, reason) => {
    const [session, bo] = [await bed.open(ANN), bed.grant(BO)];
    expect(await session.switchPatient(to(bo, { confirm }))).toMatchObject({ result: 'aborted', reason, epoch: 1 });
    await stillOnAnn(session, bo);
  });

  test('the person gives it up while the dialog is open', async () => {
    const [session, bo, stop] = [await bed.open(ANN), bed.grant(BO), new AbortController()];
    const confirm = () => {
      stop.abort();
      return new Promise<never>(() => undefined);
    };
    expect(await session.switchPatient(to(bo, { confirm, signal: stop.signal }))).toMatchObject({ result: 'aborted' });
    await stillOnAnn(session, bo);
  });

  test('the launch fails: nothing is asked of the manager', async () => {
    const session = await bed.open(ANN);
    const cause = new Error('access_denied');
    const report = await session.switchPatient({ authorize: () => Promise.reject(cause), confirm: rightly });
    expect(report).toMatchObject({ result: 'aborted', reason: 'authorization', error: cause });
    expect(asked('hmcp-context-switch')).toEqual([]);
  });

  test.each<[string, Partial<Grant>]>([
    ['another person', { subject: 'dr-house' }],
    ['nobody', { subject: undefined }],
    ['another client', { clientId: 'kiosk' }],
    ['another issuer', { issuer: 'https://else.example' }],
    ['another FHIR server', { fhirServer: 'https://else.example/r4' }],
    ['no patient', { patient: undefined }],
    ['a patient that is none', { patient: 'Patient/pt-bo-0815' }],
  ])('the new grant is of %s: nothing is asked of the manager', async (_, more) => {
    const [session, bo] = [await bed.open(ANN), bed.grant(BO, more)];
    expect(await session.switchPatient(to(bo))).toMatchObject({ result: 'aborted', reason: 'authorization' });
    expect(asked('hmcp-context-switch')).toEqual([]);
    await stillOnAnn(session, bo);
  });

  test('the target is the patient the session is on: unchanged, and nobody is asked', async () => {
    const [session, again] = [await bed.open(ANN), bed.grant(ANN)];
    const confirm = () => Promise.reject(new Error('asked'));
    expect(await session.switchPatient(to(again, { confirm }))).toMatchObject({ result: 'unchanged', epoch: 1 });
    await stillOnAnn(session, again);
  });

  test('the same grant is given again: it is not revoked', async () => {
    const ann = bed.grant(ANN);
    const session = await bed.open(ANN, { grant: ann });
    expect(await session.switchPatient(to(ann))).toMatchObject({ result: 'unchanged', revoked: false });
    expect(ann.revoked).toBe(0);
  });

  test('the patient cannot be read: refused', async () => {
    const [session, nobody] = [await bed.open(ANN), bed.grant('pt-nobody')];
    expect(await session.switchPatient(to(nobody))).toMatchObject({ result: 'refused', reason: 'patient_not_authorized' });
    await stillOnAnn(session, nobody);
  });

  test('the new grant lacks a scope of a session: refused with 40301 before the manager is asked, and still on the first', async () => {
    const session = await bed.open(ANN);
    const before = bed.asked.length;
    const poor = bed.grant(BO, { scope: 'patient/Patient.r hmcp:context.switch' });
    const report = await session.switchPatient(to(poor));
    expect(report).toMatchObject({
      result: 'refused',
      reason: 'switch_forbidden',
      epoch: 1,
      error: { code: 40301, check: 'scope' },
    });
    expect([bed.asked.length, poor.revoked]).toEqual([before, 1]);
  });

  test('the token for the manager is refused: refused', async () => {
    const [session, bo] = [await bed.open(ANN), bed.grant(BO)];
    bed.dead.add(bo.accessToken);
    expect(await session.switchPatient(to(bo))).toMatchObject({ result: 'refused', reason: 'patient_not_authorized' });
    await stillOnAnn(session, bo);
  });

  test.each([
    ['two requests', { a: elicitation({}), b: elicitation({}) }],
    ['none', {}],
    ['a page to open', { a: { method: 'elicitation/create', params: { mode: 'url', url: 'https://x.example', message: 'm' } } }],
    ['a model to be asked', { a: { method: 'sampling/createMessage', params: {} } }],
  ])('the dialog cannot be shown: %s', async (_, inputRequests) => {
    const [session, bo] = [await bed.open(ANN), bed.grant(BO)];
    bed.network = async (request, serve) => {
      const body = await request.clone().text();
      const response = await serve();
      if (!body.includes('hmcp-context-switch')) return response;
      const answer = JSON.parse(await response.text());
      return Response.json({ ...answer, result: { ...answer.result, inputRequests } });
    };
    const confirm = () => Promise.reject(new Error('asked'));
    expect((await session.switchPatient(to(bo, { confirm }))).result).toMatch(/aborted|refused/);
    await stillOnAnn(session, bo);
  });
});

describe('a wrong answer', () => {
  test('is asked again without saying what was wrong, then a right one commits', async () => {
    const session = await bed.open(ANN);
    const rounds: number[] = [];
    const confirm = async (dialog: SwitchDialog) => {
      rounds.push(dialog.round);
      return dialog.round === 1 ? { birthDate: '1961-11-23', recordNumberLast4: '0000' } : rightly(dialog);
    };
    expect(await session.switchPatient(to(bed.grant(BO), { confirm }))).toMatchObject({ result: 'committed' });
    expect(rounds).toEqual([1, 2]);
  });

  test('lets calls go on while the person thinks again', async () => {
    const session = await bed.open(ANN);
    const seen: unknown[] = [];
    const confirm = async (dialog: SwitchDialog) => {
      if (dialog.round === 1) return {};
      seen.push(await results(session));
      return rightly(dialog);
    };
    await session.switchPatient(to(bed.grant(BO), { confirm }));
    expect(seen).toEqual([{ results: [observation(ANN)] }]);
  });
});

describe('what was lost on the way', () => {
  test('the reply of the commit: the row tells, and the session is on the next patient', async () => {
    const [session, bo] = [await bed.open(ANN), bed.grant(BO)];
    lose('"accept"', 'answer');
    const report = await session.switchPatient(to(bo));
    expect(report).toMatchObject({ result: 'committed', epoch: 2 });
    expect(asked('dev.hmcp/context.get').length).toBeGreaterThan(0);
    expect(await results(session)).toEqual({ results: [observation(BO)] });
    expect(bed.store.records.filter(({ event }) => event === 'switch.committed')).toHaveLength(1);
  });

  test('the confirmation itself: the row says that nothing is decided, and the switch is given up', async () => {
    const [session, bo] = [await bed.open(ANN), bed.grant(BO)];
    lose('"accept"', 'request');
    expect(await session.switchPatient(to(bo))).toMatchObject({ result: 'aborted', epoch: 1 });
    expect(bo.revoked).toBe(1);
    expect(await results(session)).toEqual({ results: [observation(ANN)] });
  });

  test.each(['request', 'answer'] as const)('the first %s: repeated with the same switch id', async (when) => {
    const session = await bed.open(ANN);
    lose('hmcp-context-switch', when);
    expect(await session.switchPatient(to(bed.grant(BO)))).toMatchObject({ result: 'committed', epoch: 2 });
    const ids = asked('hmcp-context-switch').map(({ body }) => JSON.parse(body).params.arguments.switchId);
    expect(new Set(ids).size).toBe(1);
    expect(bed.store.records.filter(({ event }) => event === 'switch.begun')).toHaveLength(1);
  });

  test('everything after the confirmation: pending, and the session delivers nothing until somebody can say', async () => {
    const [ann, bo] = [bed.grant(ANN), bed.grant(BO)];
    const session = await bed.open(ANN, { grant: ann });
    const late = held(session);
    await late.arrived;
    bed.network = async (request, serve) => {
      if ((await request.clone().text()).includes('"accept"')) {
        await serve();
        bed.network = () => Promise.reject(new TypeError('fetch failed'));
      } else return serve();
      throw new TypeError('fetch failed');
    };
    const report = await session.switchPatient(to(bo));
    expect(report).toMatchObject({ result: 'pending', reason: 'unavailable', epoch: 1, revoked: false });
    late.release();
    let delivered = false;
    late.call.then(
      () => {
        delivered = true;
      },
      () => undefined,
    );
    expect(await refusalOf(results(session))).toMatchObject({ code: 50301, check: 'session' });
    expect(await refusalOf(session.act(async () => 1))).toMatchObject({ code: 50301, check: 'session' });
    await settled();
    expect([delivered, ann.revoked, bo.revoked]).toEqual([false, 0, 0]);

    bed.network = (_, serve) => serve();
    // What the person asks for now was meant for nobody: it is refused once more, on the next patient.
    expect(await refusalOf(results(session))).toMatchObject({ code: 40901, check: 'epoch' });
    expect(await refusalOf(late.call)).toMatchObject({ code: 40901, check: 'result' });
    expect([session.epoch, ann.revoked, bo.revoked]).toEqual([2, 1, 0]);
    bed.labs.onCall = () => undefined;
    expect(await results(session)).toEqual({ results: [observation(BO)] });
  });

  test('the seal in the outcome: the next call asks for one', async () => {
    const session = await bed.open(ANN);
    bed.network = async (request, serve) => {
      const body = await request.clone().text();
      const response = await serve();
      if (!body.includes('"accept"')) return response;
      const answer = JSON.parse(await response.text());
      answer.result.structuredContent.seal = 'a.b.c';
      return Response.json(answer);
    };
    expect(await session.switchPatient(to(bed.grant(BO)))).toMatchObject({ result: 'committed', epoch: 2 });
    expect(await results(session)).toEqual({ results: [observation(BO)] });
  });
});

describe('a session that is closed while it is switched is closed at its manager', () => {
  const atManager = async ({ sid }: Session) => (await bed.store.read(sid ?? ''))?.state;

  test('while the dialog is open', async () => {
    const [session, shown] = [await bed.open(ANN), gate()];
    const confirm = () => {
      shown.open();
      return new Promise<never>(() => undefined);
    };
    const switching = session.switchPatient(to(bed.grant(BO), { confirm }));
    await shown.opened;
    await session.close();
    expect(await atManager(session)).toBe('closed');
    expect(await switching).toMatchObject({ result: 'aborted' });
  });

  test('after the confirmation went out, on whichever patient it is then', async () => {
    const [session, confirmed, answer] = [await bed.open(ANN), gate(), gate()];
    bed.network = async (request, serve) => {
      if (!(await request.clone().text()).includes('"accept"')) return serve();
      confirmed.open();
      const response = await serve();
      await answer.opened;
      return response;
    };
    const switching = session.switchPatient(to(bed.grant(BO)));
    await confirmed.opened;
    const closed = session.close();
    await settled();
    answer.open();
    await closed;
    expect(await atManager(session)).toBe('closed');
    expect(await switching).toMatchObject({ result: 'committed', epoch: 2 });
  });

  test('while the person signs in for the next patient, whom nobody waits for', async () => {
    const [session, bo, asked, signedIn] = [await bed.open(ANN), bed.grant(BO), gate(), gate()];
    const authorize = async () => {
      asked.open();
      await signedIn.opened;
      return bo;
    };
    const switching = session.switchPatient(to(bo, { authorize }));
    await asked.opened;
    await session.close();
    expect(await atManager(session)).toBe('closed');
    signedIn.open();
    expect(await switching).toMatchObject({ result: 'aborted', revoked: true });
  });
});

describe('who may switch', () => {
  test('nobody inside an act, where a model is at work: 40301, and nothing is asked of the manager', async () => {
    const session = await bed.open(ANN);
    const error = await refusalOf(session.act(() => session.switchPatient(to(bed.grant(BO)))));
    expect([error.code, error.check]).toEqual([40301, 'session']);
    expect(asked('hmcp-context-switch')).toEqual([]);
  });

  test('one at a time: 40902', async () => {
    const session = await bed.open(ANN);
    const first = session.switchPatient(to(bed.grant(BO)));
    expect(await refusalOf(session.switchPatient(to(bed.grant(BO))))).toMatchObject({ code: 40902 });
    expect(await first).toMatchObject({ result: 'committed' });
  });

  test('nobody after the session is closed: 41001', async () => {
    const session = await bed.open(ANN);
    await session.close();
    expect(await refusalOf(session.switchPatient(to(bed.grant(BO))))).toMatchObject({ code: 41001, check: 'session' });
  });

  test('the dialog and the launch run outside every request', async () => {
    const { currentScope } = await import('@hmcp/core/request-scope');
    const session = await bed.open(ANN);
    const scopes: unknown[] = [];
    await session.switchPatient({
      authorize: async () => {
        scopes.push(currentScope());
        return bed.grant(BO);
      },
      confirm: async (dialog) => {
        scopes.push(currentScope());
        return rightly(dialog);
      },
    });
    expect(scopes).toEqual([undefined, undefined]);
  });
});

function refusedBy(code: number) {
  return { code, message: 'refused', data: { retry: 'never', by: 'https://manager.example/mcp', check: 'policy' } };
}

function elicitation(properties: object) {
  return { method: 'elicitation/create', params: { message: 'm', requestedSchema: { type: 'object', properties } } };
}
