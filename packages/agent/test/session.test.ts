import type { Grant } from '@hmcp/auth';
import { currentScope, type RequestScope } from '@hmcp/core/request-scope';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openSession } from '../src/index.js';
import { startPeer, type TestPeer } from './support/peer-server.js';
import { ANN, FHIR, listResults, NOW, observation, refusalOf, type World, world } from './support/world.js';

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

function grantOf(patient: string | undefined, more: Partial<Grant> = {}): Grant {
  return {
    accessToken: 'granted',
    expiresAt: NOW / 1000 + 3600,
    scope: 'patient/hmcp:read patient/Observation.rs patient/Patient.r',
    missing: [],
    ...(patient === undefined ? {} : { patient }),
    fhirServer: FHIR,
    issuer: 'https://as.example',
    clientId: 'portal-client',
    revoke: async () => undefined,
    refresh: () => Promise.reject(new Error('not here')),
    ...more,
  };
}

const envelopes = () => labs.calls().map(({ body }) => JSON.parse(body).params._meta['dev.hmcp/context']);

describe('a process session', () => {
  test('calls about its patient, one new intent for each call', async () => {
    const session = await openSession({ agent: made.agent, grant: grantOf(ANN) });
    const first = await session.call('labs', listResults, {});
    await session.call('labs', listResults, {});
    expect(session.assurance).toBe('process');
    expect(first).toEqual({ results: [observation(ANN)] });
    const [one, two] = envelopes();
    expect(one).toEqual({ version: '1', patient: ANN, intent: { id: expect.stringMatching(/^[0-9a-f-]{36}$/) } });
    expect(two.intent.id).not.toBe(one.intent.id);
    expect(labs.calls()[0]?.headers.authorization).toBe(`Bearer for-${new URL(labs.url).port}-from-granted`);
    expect(made.audit.records[0]).toMatchObject({ event: 'hop.call', hop: 0, by: 'https://triage.example/mcp' });
    expect(made.audit.records[0]?.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  });

  test('names tenant and encounter of its grant, and the intent it is given', async () => {
    const grant = grantOf(ANN, { tenant: 't1', encounter: 'e9' });
    const session = await openSession({ agent: made.agent, grant, id: () => 'intent-1' });
    // The server computes the binding without the tenant, so it answers for another person.
    expect(await refusalOf(session.call('labs', listResults, {}))).toMatchObject({ code: 40903, check: 'result' });
    expect(envelopes()).toEqual([{ version: '1', patient: ANN, tenant: 't1', encounter: 'e9', intent: { id: 'intent-1' } }]);
  });

  test('a dropped answer says that the orchestrator refused it, which is no hop', async () => {
    const session = await openSession({ agent: made.agent, grant: grantOf(ANN) });
    labs.behaviour = 'foreign-observation';
    const error = await refusalOf(session.call('labs', listResults, {}));
    expect([error.code, error.data.by, error.data.hop]).toEqual([40903, 'https://triage.example/mcp', undefined]);
  });

  test('closes the scope of each call with the call: nothing started in it goes on', async () => {
    const session = await openSession({ agent: made.agent, grant: grantOf(ANN) });
    const scopes: (RequestScope | undefined)[] = [];
    session.events.on('call', () => scopes.push(currentScope()));
    await session.call('labs', listResults, {});
    expect(scopes.map((scope) => scope?.closed)).toEqual([true]);
  });

  test('tells its own events, and only those', async () => {
    const [one, two] = [
      await openSession({ agent: made.agent, grant: grantOf(ANN), id: () => 'one' }),
      await openSession({ agent: made.agent, grant: grantOf(ANN), id: () => 'two' }),
    ];
    const seen: string[] = [];
    for (const event of ['call', 'result'] as const) one.events.on(event, ({ intent }) => seen.push(`${event} ${intent}`));
    const all: string[] = [];
    made.agent.events.on('result', ({ intent }) => all.push(intent));
    await one.call('labs', listResults, {});
    await two.call('labs', listResults, {});
    expect(seen).toEqual(['call one', 'result one']);
    expect(all).toEqual(['one', 'two']);
  });

  test('refuses calls after close with 41001, check "session", and sends nothing', async () => {
    const session = await openSession({ agent: made.agent, grant: grantOf(ANN) });
    await session.close();
    await session.close();
    const error = await refusalOf(session.call('labs', listResults, {}));
    expect([error.code, error.check, error.data.by]).toEqual([41001, 'session', 'https://triage.example/mcp']);
    expect(labs.received).toEqual([]);
  });

  test('settles what is under way when it closes with 40901, and the late answer is dropped', async () => {
    const session = await openSession({ agent: made.agent, grant: grantOf(ANN) });
    labs.behaviour = 'hangs';
    const dropped: number[] = [];
    session.events.on('result-dropped', ({ code }) => dropped.push(code));
    labs.onCall = () => session.close();
    const error = await refusalOf(session.call('labs', listResults, {}));
    expect([error.code, error.check]).toEqual([40901, 'result']);
    expect(dropped).toEqual([40901]);
  });

  test('closes with `await using`', async () => {
    const session = await openSession({ agent: made.agent, grant: grantOf(ANN) });
    await session[Symbol.asyncDispose]();
    expect((await refusalOf(session.call('labs', listResults, {}))).code).toBe(41001);
  });

  test('a grant that ends before the call could is refused before anything is sent: 40302', async () => {
    const session = await openSession({ agent: made.agent, grant: grantOf(ANN, { expiresAt: NOW / 1000 }) });
    expect(await refusalOf(session.call('labs', listResults, {}))).toMatchObject({ code: 40302, check: 'token' });
    expect(labs.received).toEqual([]);
  });

  test.each([
    ['no patient', undefined, {}],
    ['an empty patient', '', {}],
    ['a reference', 'Patient/pt-1', {}],
    ['an id of 65 characters', 'a'.repeat(65), {}],
    ['an id with a control character', 'pt\u0000', {}],
    ['no FHIR server', ANN, { fhirServer: '' }],
    ['an empty tenant', ANN, { tenant: '' }],
  ])('is not opened for a grant with %s: 42801', async (_, patient, more) => {
    const error = await refusalOf(openSession({ agent: made.agent, grant: grantOf(patient, more) }));
    expect([error.code, error.check]).toEqual([42801, 'session']);
  });
});
