import { explain, META, SealClaims } from '@hmcp/core';
import type { Transport } from '@modelcontextprotocol/server';
import { decodeJwt, SignJWT } from 'jose';
import { describe, expect, test } from 'vitest';
import { fenceOf } from '../src/fence.js';
import { guardTransport } from '../src/guard.js';
import { type PatientToolContext, serve } from '../src/index.js';
import { Declarations } from '../src/operations.js';
import { held } from './support/labs.js';
import { facts, MANAGER, PK, SID, sealed, signer, trusted, ward } from './support/ward.js';
import { ask, request } from './support/wire.js';
import { ANN, BO, envelope, NEVER, observation } from './support/world.js';

const turns = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** Waits until something has happened, a bounded number of turns. */
async function until(happened: () => boolean): Promise<void> {
  for (let turn = 0; turn < 10_000 && !happened(); turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe('a request inside a session', () => {
  test('is served, bound to session and epoch by the seal’s patient key, and recorded with it', async () => {
    const w = await ward({ read: () => [observation(ANN)] });
    const { result } = await w.call('read');
    expect(result?._meta).toMatchObject({
      [META.context]: { version: '1', sid: SID, epoch: 1, pk: PK, intent: { id: 'intent-1' }, patients: [PK] },
    });
    expect((result?._meta as Record<string, object>)[META.context]).not.toHaveProperty('pkScope');
    expect(w.audit.records).toMatchObject([{ event: 'request.served', sid: SID, epoch: 1, pk: PK, contextMethod: 'claim' }]);
    expect(w.audit.last).not.toHaveProperty('pkScope');
    await w.handler.close();
  });

  test('tells its handler the session; one without a seal has none', async () => {
    const known: unknown[] = [];
    const read = ({ session }: PatientToolContext) => {
      known.push(session);
      return [];
    };
    const w = await ward({ read });
    await w.call('read');
    await w.call('read', { token: w.token(), meta: envelope(ANN) });
    expect(known).toEqual([{ sid: SID, epoch: 1 }, undefined]);
    await w.handler.close();
  });

  test('is served over a socket as well', async () => {
    const w = await ward({ read: () => [observation(ANN)] });
    await using served = await serve({ name: 'ward', create: () => w.handler }, w.env);
    const body = JSON.stringify(request('tools/call', { name: 'read', arguments: {}, _meta: sealed(await w.seal()) }, 'legacy'));
    const answer = await new Promise<string>((resolve, reject) => {
      // `fetch` would send the host of the socket; the server answers to its own name.
      import('node:http').then(({ request: send }) => {
        const headers = {
          host: '127.0.0.1:4810',
          authorization: `Bearer ${w.own}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
        };
        const sent = send({ port: served.port, method: 'POST', path: '/mcp', headers }, (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => {
            text += chunk;
          });
          response.once('end', () => resolve(text));
        });
        sent.once('error', reject).end(body);
      }, reject);
    });
    expect(answer).toContain(`"sid":"${SID}"`);
  });

  test('with a `user/` token is about the patient of the seal, if the policy agrees', async () => {
    const asked: string[] = [];
    let verdict: 'allow' | 'deny' = 'allow';
    const policy = {
      decide: async ({ patient }: { patient: string }) => {
        asked.push(patient);
        return verdict;
      },
    };
    const w = await ward({ read: () => [observation(ANN)] }, { policy });
    const token = w.token({ sid: SID, scope: 'user/*.rs', patient: undefined });
    expect((await w.call('read', { token })).result).toMatchObject({ structuredContent: {} });
    expect(w.audit.last).toMatchObject({ contextMethod: 'envelope', pk: PK });
    verdict = 'deny';
    expect((await w.call('read', { token })).error).toMatchObject({ code: 40302, data: { check: 'policy' } });
    expect(asked).toEqual([ANN, ANN]);
  });

  test('without a session in its token may still bring a seal', async () => {
    const w = await ward();
    expect((await w.call('read', { token: w.token() })).error).toBeUndefined();
  });

  test('is one of an encounter when token or seal says so, and of another never', async () => {
    const w = await ward();
    const seal = await w.seal({ encounter: 'E1' });
    expect((await w.call('read', { seal })).error).toBeUndefined();
    expect((await w.call('read', { seal, token: w.token({ sid: SID, encounter: 'E1' }) })).error).toBeUndefined();
    const other = await w.call('read', { seal, token: w.token({ sid: SID, encounter: 'E2' }) });
    expect(other.error).toMatchObject({ code: 40903, data: { check: 'equality' } });
  });

  test('asks nobody else when the seal was verified before', async () => {
    const keys = await signer();
    let fetched = 0;
    const fetch = async () => {
      fetched += 1;
      return Response.json(keys.jwks);
    };
    const { keys: _, ...manager } = trusted(keys);
    const w = await ward({}, { managers: [{ ...manager, jwksUri: `${MANAGER}/jwks` }], fetch: fetch as typeof globalThis.fetch });
    const seal = await keys.sign(facts());
    expect((await w.call('read', { seal })).error).toBeUndefined();
    expect((await w.call('read', { seal })).error).toBeUndefined();
    expect(fetched).toBe(1);
  });
});

describe('a seal that proves nothing is refused before any handler', () => {
  const tampered = (seal: string) => {
    const [header, , signature] = seal.split('.');
    const claims = { ...decodeJwt(seal), patient: BO };
    return `${header}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${signature}`;
  };

  test.each<[string, (w: Awaited<ReturnType<typeof ward>>) => Promise<Parameters<typeof w.call>[1]>, number, string]>([
    ['changed after sealing', async (w) => ({ seal: tampered(await w.seal()) }), 40903, 'seal'],
    ['signed by somebody else', async () => ({ seal: await (await signer()).sign(facts()) }), 40903, 'seal'],
    ['of an unlisted manager', async () => ({ seal: await (await signer('https://evil.example')).sign(facts()) }), 40903, 'seal'],
    [
      'an access token',
      async () => {
        const key = new TextEncoder().encode('x'.repeat(32));
        const claims = SealClaims.parse({ ...facts(), iss: MANAGER, aud: 'ward', iat: 1, exp: 31, jti: 'j' });
        return {
          seal: await new SignJWT({ ...claims }).setProtectedHeader({ alg: 'HS256', typ: 'at+jwt', kid: 'seal-1' }).sign(key),
        };
      },
      40903,
      'seal',
    ],
    ['no JWS', async () => ({ seal: 'x' }), 40903, 'seal'],
    ['with two dots and nothing', async () => ({ seal: '..' }), 40903, 'seal'],
    [
      'expired beyond leeway',
      async (w) => {
        const seal = await w.seal();
        w.clock.now += 33_000;
        return { seal };
      },
      40101,
      'seal',
    ],
    ['of another person', async (w) => ({ seal: await w.seal({ sub: 'dr-no' }) }), 40903, 'equality'],
    [
      'of a person of another issuer',
      async (w) => ({ token: w.token({ sid: SID, issuer: 'https://as2.example' }) }),
      40903,
      'equality',
    ],
    ['of another client', async (w) => ({ seal: await w.seal({ azp: 'app' }) }), 40903, 'equality'],
    ['brought by another first client', async (w) => ({ token: w.token({ sid: SID, firstClient: 'app' }) }), 40903, 'equality'],
    ['of another patient', async (w) => ({ seal: await w.seal({ patient: BO }) }), 40903, 'equality'],
    ['of a tenant', async (w) => ({ seal: await w.seal({ tenant: 't1' }) }), 40903, 'equality'],
    ['of no tenant', async (w) => ({ token: w.token({ sid: SID, tenant: 't1' }) }), 40903, 'equality'],
    [
      'of another FHIR server',
      async (w) => ({ token: w.token({ sid: SID, fhirServer: 'https://other.example' }) }),
      40302,
      'equality',
    ],
    ['of another session than the token', async (w) => ({ seal: await w.seal({ sid: 'ctx_2' }) }), 42801, 'seal'],
    ['of a later epoch than the intent', async (w) => ({ seal: await w.seal({ epoch: 2 }) }), 40901, 'epoch'],
    ['of an earlier epoch than the intent', async () => ({ more: { intent: { id: 'intent-1', epoch: 2 } } }), 40901, 'epoch'],
    ['against the header', async () => ({ headers: { 'x-hmcp-patient': BO } }), 40903, 'header'],
  ])('%s', async (_name, make, code, check) => {
    const w = await ward({ read: () => [observation(ANN)] });
    const answer = await w.call('read', await make(w));
    expect(answer.error).toMatchObject({ code, data: { check, hop: 1, intent: 'intent-1' } });
    expect(w.ran).toEqual([]);
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(w.audit.records).toMatchObject([{ event: 'request.refused', code, check }]);
    expect(w.audit.last?.pk).toBeUndefined();
    expect(JSON.stringify([w.audit.records, w.logged])).not.toMatch(new RegExp(NEVER.join('|')));
  });

  test.each([
    ['detached work', { detach: 'dt_1' }],
    ['an unknown member', { patient: ANN }],
    ['no epoch', { intent: { id: 'intent-1' } }],
    ['an epoch that is no count', { intent: { id: 'intent-1', epoch: -1 } }],
    ['an epoch in words', { intent: { id: 'intent-1', epoch: '1' } }],
    ['no seal', { seal: undefined }],
    ['an empty seal', { seal: '' }],
    ['a seal with members', { seal: { sid: SID } }],
    ['a seal too long', { seal: 'x'.repeat(6145) }],
    ['permit and detach', { permit: 'pm_1', detach: 'dt_1' }],
  ])('%s in the envelope is -32602', async (_name, more) => {
    const w = await ward();
    const answer = await w.call('read', { more });
    expect(answer.error).toMatchObject({ code: -32602 });
    expect(w.ran).toEqual([]);
    expect(w.audit.last).toMatchObject({ event: 'request.refused', check: 'envelope' });
  });

  test('where no manager is trusted, every one: 42801', async () => {
    const w = await ward({}, { managers: [] });
    expect((await w.call('read')).error).toMatchObject({ code: 42801, data: { check: 'seal', retry: 'never' } });
  });

  test('while the keys of the manager cannot be had: 50301', async () => {
    const { keys: _, ...manager } = trusted(await signer());
    const fetch = async () => Promise.reject(new Error('no route'));
    const w = await ward({}, { managers: [{ ...manager, jwksUri: `${MANAGER}/jwks` }], fetch });
    expect((await w.call('read')).error).toMatchObject({ code: 50301, data: { check: 'seal', retry: 'same' } });
  });

  test.each([
    'token',
    'envelope',
    'session',
  ] as const)('a token of a session without a seal is 42801 in mode %s', async (context) => {
    const w = await ward({}, { context });
    for (const meta of [{}, envelope(ANN)]) {
      const answer = await w.call('read', { meta });
      expect(answer.error).toMatchObject({ code: 42801, data: { retry: 'never' } });
    }
    expect(w.ran).toEqual([]);
  });

  test('a server cannot be made with managers that cannot be trusted', async () => {
    const manager = trusted(await signer());
    for (const bad of [{ issuer: 'http://cm.example' }, { fhirServers: [] }, { trustDomain: '' }, { keys: undefined }]) {
      await expect(ward({}, { managers: [{ ...manager, ...bad }] })).rejects.toThrow(TypeError);
    }
    await expect(ward({}, { managers: [manager, manager] })).rejects.toThrow('listed twice');
  });
});

describe('the epoch fence', () => {
  test('refuses an epoch below the highest that was verified, whoever brought it', async () => {
    const w = await ward();
    const old = await w.seal();
    expect((await w.call('read', { seal: old })).error).toBeUndefined();
    // Of another person's token: refused, and yet the manager said it.
    await w.call('read', { seal: await w.seal({ epoch: 2, sub: 'dr-no' }), more: { intent: { id: 'i', epoch: 2 } } });
    const answer = await w.call('read', { seal: old });
    expect(answer.error).toMatchObject({ code: 40901, data: { check: 'epoch', retry: 'after_user' } });
    expect(w.audit.last).toMatchObject({ event: 'request.refused', code: 40901, sid: SID, epoch: 1 });
    expect(w.ran).toEqual(['read']);
  });

  test('knows sessions apart', async () => {
    const w = await ward();
    await w.call('read', {
      seal: await w.seal({ sid: 'ctx_2', epoch: 9 }),
      token: w.token(),
      more: { intent: { id: 'i', epoch: 9 } },
    });
    expect((await w.call('read')).error).toBeUndefined();
  });

  test('A, B, A again: an answer of the first A is refused in the third epoch', async () => {
    const go = held();
    const reached = held<AbortSignal>();
    let first = true;
    const w = await ward({
      read: async ({ signal }) => {
        if (!first) return [];
        first = false;
        reached.release(signal);
        await go.promise;
        return [observation(ANN)];
      },
    });
    const late = w.call('read');
    const signal = await reached.promise;
    const again = { seal: await w.seal({ epoch: 3 }), more: { intent: { id: 'intent-3', epoch: 3 } } };
    expect((await w.call('read', again)).error).toBeUndefined();
    expect(signal.aborted).toBe(true);
    go.release();
    const answer = await late;
    expect(answer.error).toMatchObject({ code: 40901, data: { check: 'epoch', retry: 'after_user', intent: 'intent-1' } });
    expect(answer.text).not.toContain('Potassium');
    expect(w.audit.of('result.withheld')).toMatchObject([{ code: 40901, check: 'epoch', sid: SID, epoch: 1, pk: PK }]);
  });

  test('a handler that fails because its epoch passed is 40901 too, and no failure of a tool', async () => {
    const reached = held();
    const w = await ward({
      read: ({ signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
          reached.release();
        }),
    });
    const late = w.call('read');
    await reached.promise;
    await w.call('sign-order', { seal: await w.seal({ epoch: 2 }), more: { intent: { id: 'i', epoch: 2 } } });
    expect((await late).error).toMatchObject({ code: 40901, data: { check: 'epoch' } });
  });

  test('looks again once the answer is recorded: what passed meanwhile is not released', async () => {
    const w = await ward({ read: () => [observation(ANN)] });
    const durable = held();
    w.audit.hold = durable.promise;
    const late = w.call('read');
    await until(() => w.ran.length > 0);
    await turns();
    w.audit.hold = undefined;
    await w.call('read', { seal: await w.seal({ epoch: 2 }), more: { intent: { id: 'i', epoch: 2 } } });
    durable.release();
    expect((await late).error).toMatchObject({ code: 40901 });
    expect(w.audit.records.map(({ event }) => event)).toContain('result.withheld');
  });

  test('looks again once the policy has answered', async () => {
    const go = held();
    let asked = 0;
    const policy = {
      decide: async () => {
        asked += 1;
        if (asked === 1) await go.promise;
        return 'allow' as const;
      },
    };
    const w = await ward({}, { policy });
    const token = w.token({ sid: SID, scope: 'user/*.rs', patient: undefined });
    const late = w.call('read', { token });
    await until(() => asked > 0);
    await w.call('read', { token, seal: await w.seal({ epoch: 2 }), more: { intent: { id: 'i', epoch: 2 } } });
    go.release();
    expect((await late).error).toMatchObject({ code: 40901, data: { check: 'epoch' } });
    expect(w.audit.last).toMatchObject({ event: 'request.refused', reason: 'the epoch of the seal has passed' });
  });

  test('ends a listen stream', async () => {
    const w = await ward({}, { operations: { resources: { 'chart://current': { scope: 'patient/Observation.rs' } } } });
    const params = { notifications: { resourceSubscriptions: ['chart://current'] }, _meta: sealed(await w.seal()) };
    const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'subscriptions/listen' };
    const stream = ask(w.handler, 'subscriptions/listen', params, { token: w.own, headers });
    await until(() => w.audit.records.length > 0);
    expect(w.audit.of('request.served')).toMatchObject([{ method: 'subscriptions/listen', sid: SID, epoch: 1, pk: PK }]);
    let ended = false;
    void stream.then(() => {
      ended = true;
    });
    await w.call('read');
    expect(ended).toBe(false);
    await w.call('read', { seal: await w.seal({ epoch: 2 }), more: { intent: { id: 'i', epoch: 2 } } });
    expect((await stream).text).toContain('acknowledged');
  });

  test('ends listening and subscriptions on a pipe', async () => {
    const operations = { resources: { 'chart://current': { scope: 'patient/Observation.rs' } } };
    const w = await ward({}, { operations });
    const { epochs } = fenceOf(w.env);
    const sent: Record<string, unknown>[] = [];
    const delivered: Record<string, unknown>[] = [];
    const pipe: Transport = guardTransport(
      { start: async () => {}, close: async () => {}, send: async (message) => void sent.push({ ...message }) },
      { env: w.env, declarations: () => new Declarations(operations) },
    );
    pipe.onmessage = (message) => void delivered.push({ ...message });
    const _meta = { ...sealed(await w.seal()), [META.authorization]: w.own };
    const send = (id: number, method: string, params: object) =>
      pipe.onmessage?.({ jsonrpc: '2.0', id, method, params: { ...params, _meta } });
    const updated = () =>
      pipe.send({ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri: 'chart://current' } });

    send(1, 'resources/subscribe', { uri: 'chart://current' });
    await until(() => delivered.length > 0);
    await updated();
    expect(sent).toEqual([]);
    await pipe.send({ jsonrpc: '2.0', id: 1, result: {} });
    await updated();
    expect(sent).toMatchObject([{ id: 1 }, { method: 'notifications/resources/updated' }]);

    send(2, 'subscriptions/listen', { notifications: { resourceSubscriptions: ['chart://current'] } });
    await until(() => delivered.length > 1);
    // The third is decided while the epoch passes.
    const durable = held();
    w.audit.hold = durable.promise;
    send(3, 'subscriptions/listen', { notifications: { resourceSubscriptions: ['chart://current'] } });
    await until(() => w.audit.waiting > 0);
    epochs.learn({ iss: MANAGER, sid: SID }, 2);
    durable.release();
    await until(() => delivered.length > 4);
    expect(delivered.slice(2)).toMatchObject([
      { method: 'notifications/cancelled', params: { requestId: 2 } },
      { method: 'subscriptions/listen', id: 3 },
      { method: 'notifications/cancelled', params: { requestId: 3 } },
    ]);
    await updated();
    expect(sent).toHaveLength(2);
  });

  test('keeps what is remembered until 60 s after its last use', async () => {
    const w = await ward();
    const seal = async (epoch: number) => ({ seal: await w.seal({ epoch }), more: { intent: { id: 'i', epoch } } });
    await w.call('read', await seal(5));
    w.clock.now += 59_999;
    expect((await w.call('read', await seal(4))).error).toMatchObject({ code: 40901 });
    w.clock.now += 59_999;
    expect((await w.call('read', await seal(4))).error).toMatchObject({ code: 40901 });
    w.clock.now += 60_000;
    expect((await w.call('read', await seal(4))).error).toBeUndefined();
  });
});

describe('an effect without a session', () => {
  test('is 42802 where a manager is trusted', async () => {
    const w = await ward();
    const answer = await w.call('sign-order', { meta: envelope(ANN), token: w.token() });
    expect(answer.error).toMatchObject({ code: 42802, data: { check: 'seal', retry: 'after_user' } });
    expect(explain(answer.error)).toContain('Mend: open the session with `manager`');
    expect(w.ran).toEqual([]);
    expect(w.audit.last).toMatchObject({ event: 'request.refused', code: 42802, check: 'seal' });
    expect(w.audit.last).not.toHaveProperty('compared');
  });

  test('is allowed by token and policy where none is, and says so', async () => {
    const w = await ward({}, { managers: [] });
    const answer = await w.call('sign-order', { meta: envelope(ANN), token: w.token() });
    expect(answer.result).toMatchObject({ structuredContent: { signed: 'signed' } });
    expect(w.audit.records).toMatchObject([
      { event: 'effect.intent', fence: 'none' },
      { event: 'effect.outcome', outcome: 0, fence: 'none' },
      { event: 'request.served', fence: 'none' },
    ]);
    expect(w.permits.bearers).toEqual([]);
  });

  test('a token without its scope is a 403, permit or not', async () => {
    const w = await ward();
    const token = w.token({ sid: SID, scope: 'patient/*.rs' });
    expect((await w.call('sign-order', { token })).status).toBe(403);
    expect(w.permits.bearers).toEqual([]);
  });
});
