import { AsyncResource } from 'node:async_hooks';
import { describe, expect, it } from 'vitest';
import { HmcpError } from '../src/index.js';
import { currentScope, outsideScope, RequestScope, type ScopeFacts } from '../src/request-scope.js';

const LABS = 'https://labs.example/mcp';
function open(patient: string, more: Partial<ScopeFacts> = {}): RequestScope {
  return new RequestScope({
    context: { fhirServer: 'https://ehr.example/r4', patient },
    token: undefined,
    accessToken: `token-of-${patient}`,
    envelope: { version: '1', patient, intent: { id: `intent-${patient}` } },
    by: LABS,
    hop: 2,
    ...more,
  });
}
const who = () => currentScope()?.facts.context.patient;
/** What a call downstream does: it needs an open scope, and delivers an object of its own. */
async function read(): Promise<{ patient: string | undefined; rows: { value: number }[] }> {
  const scope = currentScope();
  scope?.assertOpen();
  await Promise.resolve();
  const answer = { patient: who(), rows: [{ value: 7 }] };
  return scope ? scope.tag(answer) : answer;
}

/** A value that holds itself before it holds the row. */
function circle(row: object): object {
  const value: Record<string, unknown> = {};
  value.self = value;
  value.rows = [row];
  return value;
}

describe('a request scope', () => {
  it('is found through every await, and nowhere else', async () => {
    const [ann, bo] = [open('A1'), open('B7')];
    const seen = await Promise.all(
      [ann, bo].map((scope) =>
        scope.run(async () => {
          const first = who();
          await new Promise((done) => setImmediate(done));
          return [first, who(), await Promise.resolve().then(who)];
        }),
      ),
    );
    expect(seen).toEqual([
      ['A1', 'A1', 'A1'],
      ['B7', 'B7', 'B7'],
    ]);
    expect(currentScope()).toBeUndefined();
    expect(ann.run(() => outsideScope(who))).toBeUndefined();
  });

  it('closes once, aborts its signal, and makes no calls afterwards', async () => {
    const scope = open('A1');
    scope.assertOpen();
    expect(scope.closed).toBe(false);
    let aborts = 0;
    scope.signal.addEventListener('abort', () => {
      aborts += 1;
    });
    scope.close();
    scope.close();
    expect([scope.closed, scope.signal.aborted, aborts]).toEqual([true, true, 1]);
    const refusal = await scope.run(read).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(HmcpError);
    expect(refusal).toMatchObject({
      code: 40901,
      data: { by: LABS, hop: 2, check: 'epoch', intent: 'intent-A1', retry: 'after_user' },
    });
  });

  it('gives an aborted signal to whoever asks for it first after the end', () => {
    const scope = open('A1');
    scope.close();
    expect(scope.signal.aborted).toBe(true);
    expect(scope.signal.reason).toMatchObject({ name: 'AbortError' });
    expect(scope.signal).toBe(scope.signal);
  });

  it.each(['before', 'after'] as const)('ends with its caller for the caller’s reason, asked %s', (when) => {
    const caller = new AbortController();
    const scope = open('A1', { signal: caller.signal });
    const asked = when === 'before' ? scope.signal : undefined;
    caller.abort('gone');
    expect([scope.closed, (asked ?? scope.signal).reason]).toEqual([true, 'gone']);
    expect(open('A1', { signal: caller.signal }).signal.reason).toBe('gone');
  });

  it('leaves nothing on a caller’s signal once it has ended', () => {
    const caller = new AbortController();
    const kept = new Set<unknown>();
    const { addEventListener, removeEventListener } = caller.signal;
    caller.signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      kept.add(args[1]);
      addEventListener.apply(caller.signal, args);
    };
    caller.signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      kept.delete(args[1]);
      removeEventListener.apply(caller.signal, args);
    };
    const scope = open('A1', { signal: caller.signal });
    expect(kept.size).toBe(1);
    scope.close();
    expect(kept.size).toBe(0);
  });

  it.each([
    ['in a circle', circle],
    ['in a Map', (row: object) => new Map([['rows', [row]]])],
    ['as a key of a Map', (row: object) => ({ map: new Map([[row, 1]]) })],
    ['in a Set', (row: object) => [new Set([row])]],
    ['deeper than any stack', (row: object) => Array.from({ length: 50_000 }).reduce((inner) => ({ inner }), row)],
    [
      'in a part that stands in many places',
      (row: object) => Array.from({ length: 60 }).reduce((inner) => [inner, inner], [row] as unknown),
    ],
  ])('finds another request’s object %s', (_, wrap) => {
    const row = open('B7').tag({ value: 7 });
    expect(open('A1').holdsForeign(wrap(row))).toBe(true);
    expect(open('A1').holdsForeign(wrap({ value: 7 }))).toBe(false);
  });

  it('names no hop at an orchestrator', () => {
    const scope = open('A1', { hop: 0 });
    scope.close();
    expect(() => scope.assertOpen()).toThrow(expect.objectContaining({ data: expect.not.objectContaining({ hop: 0 }) }));
  });

  it.each([
    [
      'cancelled while it runs',
      (abort: () => void, make: () => RequestScope) => {
        const scope = make();
        abort();
        return scope;
      },
    ],
    [
      'cancelled before it began',
      (abort: () => void, make: () => RequestScope) => {
        abort();
        return make();
      },
    ],
  ])('ends when the request is %s', (_when, play) => {
    const controller = new AbortController();
    const reason = new Error('cancelled');
    const scope = play(
      () => controller.abort(reason),
      () => open('A1', { signal: controller.signal }),
    );
    expect([scope.closed, scope.signal.reason]).toEqual([true, reason]);
    expect(() => scope.assertOpen()).toThrow(HmcpError);
  });

  it('keeps the reason it ended with when the request is cancelled later', () => {
    const controller = new AbortController();
    const scope = open('A1', { signal: controller.signal });
    scope.close();
    controller.abort(new Error('late'));
    expect(scope.signal.reason).toMatchObject({ name: 'AbortError' });
  });
});

describe('shared machinery between two requests', () => {
  it('a batcher that answers both from the first one’s call is noticed', async () => {
    const waiting: { patient: string | undefined; answer: (rows: unknown) => void }[] = [];
    async function flush(): Promise<void> {
      await Promise.resolve();
      const { rows } = await read(); // runs in whichever scope asked first
      for (const { answer } of waiting.splice(0)) answer(rows);
    }
    const load = () =>
      new Promise<unknown>((answer) => {
        if (waiting.push({ patient: who(), answer }) === 1) void flush();
      });
    const [ann, bo] = [open('A1'), open('B7')];
    const [forAnn, forBo] = await Promise.all([ann.run(load), bo.run(load)]);
    expect(ann.holdsForeign({ results: forAnn })).toBe(false);
    expect(bo.holdsForeign({ results: forBo })).toBe(true);
  });

  it('a memoized call is noticed when the second request returns it, or any part of it', async () => {
    let memo: ReturnType<typeof read> | undefined;
    const memoized = () => {
      memo ??= read();
      return memo;
    };
    const [ann, bo] = [open('A1'), open('B7')];
    const mine = await ann.run(memoized);
    const yours = await bo.run(memoized);
    expect(ann.holdsForeign(mine)).toBe(false);
    const shapes: unknown[] = [
      yours,
      [yours],
      { ...yours },
      { x: { y: yours.rows } },
      yours.rows[0],
      new Map([['k', yours]]),
      new Set([yours.rows]),
    ];
    shapes.push(
      new (class Answer {
        readonly row = yours.rows[0];
      })(),
    );
    for (const shape of shapes) expect(bo.holdsForeign(shape)).toBe(true);
    bo.tag(yours); // delivered again does not make it his
    expect(bo.holdsForeign(yours)).toBe(true);
    expect(bo.holdsForeign({ newest: yours.rows[0]?.value })).toBe(false); // a copied number leaves no trace
  });

  it('a timer of a request that has ended makes no call, and its late answer goes to nobody', async () => {
    const [ann, bo] = [open('A1'), open('B7')];
    const late = ann.run(() => AsyncResource.bind(() => read()));
    const held = await ann.run(read);
    ann.close();
    await expect(bo.run(() => late())).rejects.toMatchObject({ code: 40901 });
    expect(bo.holdsForeign(held)).toBe(true);
    await expect(bo.run(read)).resolves.toMatchObject({ patient: 'B7' });
  });
});

describe('tagging', () => {
  it('marks what is delivered, not what the process shares', () => {
    const [ann, bo] = [open('A1'), open('B7')];
    const shared = new (class Schema {
      readonly shape = { a: 1 };
    })();
    const answer = ann.tag({ schema: shared, when: new Date(0), rows: Object.assign(Object.create(null), { a: 1 }) });
    expect(bo.holdsForeign(shared)).toBe(false);
    expect(bo.holdsForeign(shared.shape)).toBe(false);
    expect(bo.holdsForeign(answer.rows)).toBe(true);
  });

  it('follows cycles to their end and takes anything', () => {
    const [ann, bo] = [open('A1'), open('B7')];
    const ring: Record<string, unknown> = { list: [] };
    ring.self = ring;
    expect(ann.tag(ring)).toBe(ring);
    expect(bo.holdsForeign([ring])).toBe(true);
    for (const value of [undefined, null, 'x', 7, true, Symbol.iterator]) {
      expect(ann.tag(value)).toBe(value);
      expect(bo.holdsForeign(value)).toBe(false);
    }
  });

  it('belongs to the first scope it was delivered in', () => {
    const [ann, bo] = [open('A1'), open('B7')];
    const row = { value: 7 };
    ann.tag(row);
    bo.tag([row]);
    expect([ann.holdsForeign(row), bo.holdsForeign(row)]).toEqual([false, true]);
  });
});
