import { AuthorityUnavailable, createSealVerifier, createTokenVerifier, type TokenVerifier } from '@hmcp/auth';
import { MANAGER_METHODS, MANAGER_TOOLS, meaningOf } from '@hmcp/core';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createContextManager, type MemoryStore, memoryStore } from '../src/index.js';
import { agent, B_RIGHT, type Claims, FHIR, ISSUER, itself, MANAGER, portal, type World, world } from './support/world.js';

let bed: World;
let store: MemoryStore;
afterEach(() => bed.close());

async function start(verifier?: TokenVerifier): Promise<void> {
  store = memoryStore();
  bed = await world({ store, verifier });
}

/** One raw 2025-era request, without any client in between. */
async function post(message: unknown, claims: Claims | undefined, headers: Record<string, string> = {}): Promise<Response> {
  const authorization = claims ? { authorization: `Bearer ${await bed.mint(claims)}` } : {};
  return bed.manager.fetch(
    new Request(MANAGER, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...authorization,
        ...headers,
      },
      body: JSON.stringify(message),
    }),
  );
}
const call = (method: string, params: unknown = {}) => ({ jsonrpc: '2.0', id: 1, method, params });
async function errorOf(response: Response): Promise<{ code: number; message: string; data?: unknown }> {
  const text = await response.text();
  const json = text.startsWith('{') ? text : (/^data: (.*)$/m.exec(text)?.[1] ?? '{}');
  return (JSON.parse(json) as { error: { code: number; message: string } }).error;
}

describe('the door', () => {
  it('is shut without a token, with a challenge that says where to go', async () => {
    await start();
    const response = await post(call(MANAGER_METHODS.get, { sid: 'x' }), undefined);
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toContain('resource_metadata=');
  });

  it.each([
    ['for another audience', portal('A1', { aud: 'https://labs.example/mcp' })],
    ['of an unknown issuer', portal('A1', { iss: 'https://mallory.example' })],
    ['with patient scopes and no patient', portal('A1', { patient: undefined })],
    ['that expired', portal('A1', { exp: 1_700_000_000 })],
  ])('is shut to a token %s', async (_, claims) => {
    await start();
    expect((await post(call(MANAGER_METHODS.get, { sid: 'x' }), claims)).status).toBe(401);
  });

  it('that closes records the request it still decides on first, and lets nobody in any more', async () => {
    let goOut: (error: Error) => void = () => undefined;
    const verify = vi.fn(() => new Promise<never>((_, reject) => (goOut = reject)));
    await start({ resource: MANAGER, verify });
    const asked = post(call(MANAGER_METHODS.get, { sid: 'x' }), portal('A1'));
    await vi.waitFor(() => expect(verify).toHaveBeenCalledOnce());
    let recordedAtClose: unknown;
    const closed = bed.manager.close().then(() => {
      recordedAtClose = store.records.at(-1);
    });
    expect((await post(call('ping'), portal('A1'))).status).toBe(503);
    expect(store.records).toEqual([]);
    goOut(new AuthorityUnavailable('keys'));
    await closed;
    expect(recordedAtClose).toMatchObject({ event: 'request.refused', code: 503, check: 'token' });
    expect((await asked).status).toBe(503);
  });

  it('that closes keeps its process alive until it has, for what it waits for may not', async () => {
    let goOut: (error: Error) => void = () => undefined;
    const verify = vi.fn(() => new Promise<never>((_, reject) => (goOut = reject)));
    await start({ resource: MANAGER, verify });
    const timers = () => process.getActiveResourcesInfo().filter((what) => what === 'Timeout').length;
    const asked = post(call('ping'), portal('A1'));
    await vi.waitFor(() => expect(verify).toHaveBeenCalledOnce());
    const before = timers();
    const closed = bed.manager.close();
    expect(timers()).toBe(before + 1);
    goOut(new AuthorityUnavailable('keys'));
    await closed;
    expect(timers()).toBe(before);
    await asked;
  });

  it('takes no batch', async () => {
    await start();
    expect((await post([call('ping')], portal('A1'))).status).toBe(400);
  });

  it('a seal is no token', async () => {
    await start();
    const { seal } = await (await bed.caller(portal('A1'))).open();
    const response = await bed.manager.fetch(
      new Request(MANAGER, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${seal}` },
        body: JSON.stringify(call(MANAGER_METHODS.get, { sid: 'x' })),
      }),
    );
    expect(response.status).toBe(401);
  });
});

describe('the class of traffic', () => {
  it('is four tools and the vendor methods', async () => {
    await start();
    const { client } = await bed.caller(portal('A1'));
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name)).toEqual(Object.values(MANAGER_TOOLS));
    expect(JSON.stringify(tools)).not.toContain('default":"');
  });

  it.each([
    'resources/list',
    'resources/read',
    'prompts/list',
    'completion/complete',
    'sampling/createMessage',
    'subscriptions/listen',
    'dev.hmcp/context.onward',
    'dev.hmcp/context.view',
    'dev.hmcp/context.open',
    'dev.hmcp/context.switch',
    'dev.hmcp/context.prepare',
    'hmcp-context-switch',
    '__proto__',
  ])('%s is nothing here: -32601', async (method) => {
    await start();
    expect(await errorOf(await post(call(method), portal('A1')))).toMatchObject({ code: -32601, message: 'Method not found' });
  });

  it.each([
    ['an unknown tool', 'tools/call', { name: 'list-results', arguments: {} }],
    ['no session', MANAGER_METHODS.get, {}],
    ['a session that is no text', MANAGER_METHODS.get, { sid: 7 }],
    ['a member nobody knows', MANAGER_METHODS.get, { sid: 'x', patient: 'A1-secret' }],
    ['parameters that are a list', MANAGER_METHODS.get, ['A1-secret']],
    ['a vote nobody knows', MANAGER_METHODS.vote, { sid: 'x', switchId: 's', vote: 'A1-secret' }],
    ['a patient that is a reference', 'tools/call', open({ target: { patient: 'Patient/A1-secret' } })],
    ['an epoch that is text', 'tools/call', { name: MANAGER_TOOLS.switch, arguments: { sid: 'x', expectedEpoch: 'A1-secret' } }],
    ['too many participants', 'tools/call', open({ participants: Array(33).fill('labs') })],
  ])('%s is -32602 or -32600, and nothing of it is repeated', async (_, method, params) => {
    await start();
    const response = await post(call(method, params), portal('A1'));
    const text = await response.clone().text();
    expect([-32602, -32600]).toContain((await errorOf(response)).code);
    expect(text).not.toContain('secret');
    expect(JSON.stringify(store.records)).not.toContain('secret');
  });

  it('a refusal is an error with its data, and a record', async () => {
    await start();
    const error = await errorOf(await post(call(MANAGER_METHODS.get, { sid: 'ctx_none' }), itself('labs')));
    expect(error).toEqual({
      code: 40301,
      message: `switch_forbidden: ${meaningOf(40301, 'session').says}`,
      data: { by: MANAGER, hop: 1, check: 'session', retry: 'never' },
    });
    expect(store.records.at(-1)).toMatchObject({ event: 'request.refused', code: 40301, method: MANAGER_METHODS.get });
  });

  it('a header that names another patient is refused 40903', async () => {
    await start();
    const response = await post(call(MANAGER_METHODS.get, { sid: 'x' }), portal('A1'), { 'x-hmcp-patient': 'B7' });
    expect(await errorOf(response)).toMatchObject({ code: 40903, data: { check: 'header' } });
  });

  it('answers nothing that could not be recorded: 50302', async () => {
    await start();
    const { sid } = await (await bed.caller(portal('A1'))).open();
    store.audit.append = () => Promise.reject(new Error('disk'));
    expect(await errorOf(await post(call(MANAGER_METHODS.get, { sid }), portal('A1')))).toMatchObject({ code: 50302 });
  });

  it('a store that does not answer is 50301, with nothing of its error', async () => {
    await start();
    store.read = () => Promise.reject(new Error('secret of the store'));
    const response = await post(call(MANAGER_METHODS.get, { sid: 'x' }), portal('A1'));
    const text = await response.clone().text();
    expect(await errorOf(response)).toMatchObject({ code: 50301 });
    expect(text).not.toContain('secret');
  });
});

describe('opening', () => {
  it('the same key opens once; with another patient or other participants it is 40904', async () => {
    await start();
    const person = await bed.caller(portal('A1'));
    const { sid } = await person.open();
    expect((await person.open()).sid).toBe(sid);
    await expect(person.open({ participants: ['labs'] })).rejects.toMatchObject({ code: 40904 });
    await expect((await bed.caller(portal('B7'))).open()).rejects.toMatchObject({ code: 40904 });
    expect((await (await bed.caller(portal('A1', { sub: 'bob' }))).open()).sid).not.toBe(sid);
    expect(store.records.filter(({ event }) => event === 'session.opened')).toHaveLength(2);
  });

  it.each([
    ['an agent', agent('triage', 'A1', { scope: 'hmcp:context.switch patient/Patient.r' }), {}, 40301],
    ['a client that acts for itself', itself('labs', { scope: 'hmcp:context.switch' }), {}, 40301],
    ['a token without the scope', portal('A1', { scope: 'patient/Patient.r' }), {}, 40301],
    ['another patient than the token’s', portal('A1'), { target: { patient: 'B7' } }, 40903],
    [
      'another encounter than the token’s',
      portal('A1', { encounter: 'E1' }),
      { target: { patient: 'A1', encounter: 'E2' } },
      40903,
    ],
    ['participants nobody registered', portal('A1'), { participants: ['mallory'] }, 40301],
    [
      'a patient the policy does not allow',
      portal('A1', { patient: undefined, scope: 'hmcp:context.switch user/Patient.r' }),
      { target: { patient: 'A1' } },
      40302,
    ],
  ])('%s opens nothing', async (_, claims, args, code) => {
    await start();
    const caller = await bed.caller(claims);
    await expect(caller.open({ target: { patient: 'A1' }, ...args })).rejects.toMatchObject({ code });
    expect(store.records.some(({ event }) => event === 'session.opened')).toBe(false);
  });

  it('names nobody in the audit: patients and people as keyed hashes', async () => {
    await start();
    const person = await bed.caller(portal('A1'), []);
    const { sid } = await person.open();
    await (await bed.caller(portal('B7'), [B_RIGHT])).switch({
      sid,
      switchId: 's1',
      expectedEpoch: 1,
      target: { patient: 'B7' },
    });
    expect(JSON.stringify(store.records)).not.toMatch(/"A1"|"B7"|alice|EXAMPLE,|1961-11|"9b21/);
  });
});

describe('trust', () => {
  it('publishes the key its seals are signed with, and what a trust list needs', async () => {
    await start();
    const response = await bed.manager.fetch(new Request(bed.manager.jwksUri));
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).not.toContain('"d"');
    const { jwksUri: _, ...trusted } = bed.manager.trusted([ISSUER]);
    const seals = createSealVerifier({ managers: [{ ...trusted, keys: JSON.parse(text) }], now: bed.clock.now });
    const { seal = '', sid } = await (await bed.caller(portal('A1'))).open();
    expect((await seals.verify(seal)).claims).toMatchObject({
      sid,
      epoch: 1,
      patient: 'A1',
      azp: 'portal',
      sub: 'alice',
      fhirServer: FHIR,
    });
    expect((await bed.manager.fetch(new Request(bed.manager.jwksUri, { method: 'POST' }))).status).toBe(405);
  });

  it('says where its tokens come from', async () => {
    await start();
    const response = await bed.manager.fetch(new Request('https://manager.example/.well-known/oauth-protected-resource/mcp'));
    expect(await response.json()).toMatchObject({ resource: MANAGER, authorization_servers: [ISSUER] });
  });

  it.each([
    [
      'verifier',
      { verifier: createTokenVerifier({ resource: 'https://x.example', issuers: [{ issuer: ISSUER, fhirServer: FHIR }] }) },
    ],
    ['tenantKey', { tenantKey: '' }],
    ['tenantKey', { tenantKey: 'short' }],
    ['pseudonymKey', { pseudonymKey: '' }],
    ['pseudonymKey', { pseudonymKey: 'short' }],
    ['fhirServers', { fhirServers: [] }],
    [
      'clients',
      {
        clients: [
          { clientId: 'a', name: 'A' },
          { clientId: 'a', name: 'B' },
        ],
      },
    ],
    ['timing.permitMs', { timing: { permitMs: 10_001 } }],
    ['timing.voteMs', { timing: { voteMs: Number.NaN } }],
    ['key', { sealKey: { kty: 'EC', kid: 'k' } }],
  ])('an unusable option is named: %s', async (named, more) => {
    await start();
    const made = createContextManager({
      resource: MANAGER,
      clientId: 'manager',
      trustDomain: 'd',
      authorizationServers: [ISSUER],
      fhirServers: [FHIR],
      verifier: createTokenVerifier({ resource: MANAGER, issuers: [{ issuer: ISSUER, fhirServer: FHIR }] }),
      store,
      sealKey: {},
      tenantKey: 'tenant-key-of-tests',
      pseudonymKey: 'pseudonym-key-of-tests',
      clients: [],
      tokens: { exchange: () => Promise.reject(new Error('not asked')) },
      ...more,
    });
    await expect(made).rejects.toThrow(`"${named}"`);
  });
});

function open(more: Claims): Claims {
  return { name: MANAGER_TOOLS.open, arguments: { idempotencyKey: 'k', target: { patient: 'A1' }, ...more } };
}
