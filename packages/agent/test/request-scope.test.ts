import { HmcpError } from '@hmcp/core';
import { currentScope, type RequestScope } from '@hmcp/core/request-scope';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { patientCache } from '../src/index.js';
import { startPeer, type TestPeer } from './support/peer-server.js';
import {
  ANN,
  BO,
  FHIR,
  gate,
  listResults,
  NOW,
  observation,
  refusalOf,
  scopeOf,
  verifiedToken,
  type World,
  world,
} from './support/world.js';

let labs: TestPeer;
let made: World;
beforeEach(async () => {
  labs = await startPeer();
  made = world([{ name: 'labs', resource: labs.url, kind: 'hmcp' }]);
});
afterEach(async () => {
  await made.agent.close();
  await labs.close();
});

const fetchResults = () => made.agent.call('labs', listResults, {});

/** As a server's guard does: the handler's answer may hold no object of another request. */
async function serve(scope: RequestScope, handler: () => Promise<unknown>): Promise<'served' | 'withheld'> {
  const answer = await scope.run(handler);
  return scope.holdsForeign(answer) ? 'withheld' : 'served';
}

describe('code that two requests share', () => {
  test("a batcher that answers both with one request's call: the other's answer is found to be foreign", async () => {
    // Like DataLoader: loads asked in one turn are fetched once, by whoever dispatches.
    let batch: { key: string; resolve: (value: unknown) => void }[] = [];
    const load = (key: string) =>
      new Promise<unknown>((resolve) => {
        batch.push({ key, resolve });
        if (batch.length > 1) return;
        queueMicrotask(async () => {
          const asked = batch;
          batch = [];
          const value = await fetchResults();
          for (const { resolve: settle } of asked) settle(value);
        });
      });
    const verdicts = await Promise.all([serve(scopeOf(ANN), () => load('results')), serve(scopeOf(BO), () => load('results'))]);
    expect(verdicts).toEqual(['served', 'withheld']);
    expect(labs.calls()).toHaveLength(1);
  });

  test("a batcher wrapped in an object of the handler's own, or a part of the answer, is found too", async () => {
    const memo = await scopeOf(ANN).run(fetchResults);
    expect(await serve(scopeOf(BO), async () => ({ summary: [memo] }))).toBe('withheld');
    expect(await serve(scopeOf(BO), async () => memo.results[0])).toBe('withheld');
  });

  test('an object that the contract made of the answer belongs to the request as well', async () => {
    const output = listResults.output.transform(({ results }) => ({ count: results.length }));
    const count = await scopeOf(ANN).run(() => made.agent.call('labs', { ...listResults, output }, {}));
    expect(count).toEqual({ count: 1 });
    expect(await serve(scopeOf(BO), async () => count)).toBe('withheld');
  });

  test('a request that ends while its answer is parsed gets 40901', async () => {
    const scope = scopeOf(ANN);
    const output = listResults.output.refine(async () => {
      scope.close();
      return true;
    });
    const error = await refusalOf(scope.run(() => made.agent.call('labs', { ...listResults, output }, {})));
    expect(error.code).toBe(40901);
  });

  test('a memoized call serves the request that made it, and is withheld from every other', async () => {
    let memo: Promise<unknown> | undefined;
    const memoized = () => {
      memo ??= fetchResults();
      return memo;
    };
    const ann = scopeOf(ANN);
    expect(await serve(ann, memoized)).toBe('served');
    expect(await serve(ann, memoized)).toBe('served');
    expect(await serve(scopeOf(BO), memoized)).toBe('withheld');
  });

  test('work that outlives its request makes no calls: 40901, and the server hears nothing', async () => {
    const timer = gate();
    const scope = scopeOf(ANN);
    let late: Promise<unknown> | undefined;
    await scope.run(async () => {
      late = timer.opened.then(fetchResults);
    });
    scope.close();
    timer.open();
    const error = await refusalOf(late ?? Promise.resolve());
    expect([error.code, error.check]).toEqual([40901, 'epoch']);
    expect(labs.received).toEqual([]);
    expect(made.audit.records).toMatchObject([{ event: 'hop.refused', code: 40901 }]);
  });

  test('a handler that swallows the refusal leaves it in the scope for the guard', async () => {
    labs.behaviour = 'foreign-observation';
    const scope = scopeOf(ANN);
    const answer = await scope.run(async () => fetchResults().catch(() => ({ results: [] })));
    expect(answer).toEqual({ results: [] });
    expect(scope.refusals).toMatchObject([{ code: 40903, check: 'result' }]);
  });

  test('each request keeps its own scope through awaits of the call', async () => {
    const seen = await Promise.all(
      [ANN, BO].map((patient) =>
        scopeOf(patient).run(async () => {
          await fetchResults();
          return currentScope()?.facts.context.patient;
        }),
      ),
    );
    expect(seen).toEqual([ANN, BO]);
  });
});

describe('patientCache', () => {
  const get = (cache: ReturnType<typeof patientCache<unknown>>, scope: RequestScope, key = 'k') =>
    scope.run(() => cache.get(key));
  const set = (cache: ReturnType<typeof patientCache<unknown>>, scope: RequestScope, value: unknown, key = 'k') =>
    scope.run(() => cache.set(key, value));

  test('serves the same patient and authority again, as a copy of the request that asks', async () => {
    const cache = patientCache<unknown>();
    const value = await scopeOf(ANN).run(async () => {
      const results = await fetchResults();
      cache.set('k', results);
      return results;
    });
    const second = scopeOf(ANN);
    const copy = get(cache, second);
    expect(copy).toEqual(value);
    expect(copy).not.toBe(value);
    expect(second.holdsForeign(copy)).toBe(false);
    expect(scopeOf(ANN).holdsForeign(copy)).toBe(true);
  });

  test.each([
    ['another patient', scopeOf(BO)],
    ['the same id on another server', scopeOf(ANN, { context: { fhirServer: 'https://other.example/r4', patient: ANN } })],
    ['the same id in another tenant', scopeOf(ANN, { context: { fhirServer: FHIR, tenant: 't2', patient: ANN } })],
    ['another encounter', scopeOf(ANN, { context: { fhirServer: FHIR, patient: ANN, encounter: 'e2' } })],
    ['another person', scopeOf(ANN, { token: verifiedToken(ANN, { subject: 'nurse-2' }) })],
    ['another client', scopeOf(ANN, { token: verifiedToken(ANN, { clientId: 'app-2' }) })],
    ['another issuer', scopeOf(ANN, { token: verifiedToken(ANN, { issuer: 'https://as2.example' }) })],
    ['a narrower token', scopeOf(ANN, { token: verifiedToken(ANN, { scope: 'patient/Patient.r' }) })],
    ['an orchestrator', scopeOf(ANN, { token: undefined })],
  ])('keeps nothing for %s', (_, scope) => {
    const cache = patientCache<unknown>();
    set(cache, scopeOf(ANN), { value: 1 });
    expect(get(cache, scope)).toBeUndefined();
    expect(get(cache, scopeOf(ANN))).toEqual({ value: 1 });
  });

  test('takes no object of another request', async () => {
    const cache = patientCache<unknown>();
    const anns = await scopeOf(ANN).run(fetchResults);
    const error = await refusalOf((async () => set(cache, scopeOf(BO), { anns }))());
    expect([error.code, error.check]).toEqual([40903, 'result']);
    expect(get(cache, scopeOf(BO))).toBeUndefined();
  });

  test('refuses to guess a patient outside a request, or after it ended', () => {
    const cache = patientCache<unknown>();
    const ended = scopeOf(ANN);
    ended.close();
    expect(() => cache.get('k')).toThrow(expect.objectContaining({ code: 42801 }));
    expect(() => cache.set('k', 1)).toThrow(HmcpError);
    expect(() => get(cache, ended)).toThrow(expect.objectContaining({ code: 40901 }));
  });

  test('is bounded in number and time, and can be emptied', () => {
    let now = NOW;
    const cache = patientCache<unknown>({ max: 2, ttlMs: 100, now: () => now });
    const scope = scopeOf(ANN);
    for (const key of ['a', 'b', 'c']) set(cache, scope, key, key);
    expect(['a', 'b', 'c'].map((key) => get(cache, scope, key))).toEqual([undefined, 'b', 'c']);
    now += 100;
    expect(get(cache, scope, 'b')).toBeUndefined();
    set(cache, scope, observation(ANN), 'd');
    cache.clear();
    expect(get(cache, scope, 'd')).toBeUndefined();
  });
});
