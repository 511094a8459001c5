import { createSealSigner, type Grant } from '@hmcp/auth';
import { META, meaningOf, type SealClaims } from '@hmcp/core';
import { decodeJwt, exportJWK, generateKeyPair } from 'jose';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openSession } from '../src/index.js';
import type { BindingFault } from './support/sealed-peer.js';
import { LABS, MANAGER, type SessionWorld, sessionWorld, TRUST_DOMAIN, TYPED } from './support/session-world.js';
import { ANN, BO, FHIR, gate, listResults, observation, refusalOf, verifiedToken } from './support/world.js';

let bed: SessionWorld;
beforeEach(async () => {
  bed = await sessionWorld();
});
afterEach(() => bed.close());

const asked = (method: string) => bed.asked.filter((one) => one.method === method || one.name === method);
const seconds = (s: number) => bed.clock.advance(s * 1000);

/** The manager's next answers to `name` hold this seal instead. */
function forge(name: string, seal: (genuine: SealClaims) => Promise<string> | string) {
  bed.network = async (request, serve) => {
    const body = await request.clone().text();
    const response = await serve();
    if (!body.includes(name)) return response;
    const text = await response.text();
    const genuine = /eyJ[\w-]+\.[\w-]+\.[\w-]+/.exec(text)?.[0] ?? '';
    const forged = await seal(decodeJwt(genuine) as unknown as SealClaims);
    return new Response(text.replaceAll(genuine, forged), response);
  };
}

const factsOf = ({ iss: _1, aud: _2, iat: _3, exp: _4, jti: _5, ...facts }: SealClaims) => facts;
const signed = (more: Partial<SealClaims>) => (genuine: SealClaims) => bed.signer.sign({ ...factsOf(genuine), ...more });

/** Seals of a session that are not of it; `valid` ones are signed by the manager itself. */
const FOREIGN_SEALS: readonly [string, (genuine: SealClaims) => Promise<string> | string][] = [
  ['of another patient', (genuine) => signed({ patient: BO })(genuine)],
  ['of another session', (genuine) => signed({ sid: 'ctx_other' })(genuine)],
  ['of another epoch', (genuine) => signed({ epoch: genuine.epoch + 1 })(genuine)],
  ['of another person', (genuine) => signed({ sub: 'dr-house' })(genuine)],
  ['of another client', (genuine) => signed({ azp: 'kiosk' })(genuine)],
  ['of a tenant', (genuine) => signed({ tenant: 't2' })(genuine)],
  ['of an encounter', (genuine) => signed({ encounter: 'e2' })(genuine)],
  ['that is no seal', () => 'a.b.c'],
  [
    'of somebody else with the same name',
    async (genuine) => {
      const { privateKey } = await generateKeyPair('ES256', { extractable: true });
      const key = { ...(await exportJWK(privateKey)), kid: 'seal', alg: 'ES256' };
      const issuer = new URL(MANAGER).origin;
      return (await createSealSigner({ issuer, trustDomain: TRUST_DOMAIN, key, now: bed.clock.now })).sign(factsOf(genuine));
    },
  ],
  [
    'of another trust domain',
    async (genuine) => {
      const { privateKey } = await generateKeyPair('ES256', { extractable: true });
      const key = { ...(await exportJWK(privateKey)), kid: 'seal', alg: 'ES256' };
      return (await createSealSigner({ issuer: genuine.iss, trustDomain: 'https://else.example', key })).sign(factsOf(genuine));
    },
  ],
];

describe('a session with a manager', () => {
  test('is opened with a token exchanged for the manager, and names who may join', async () => {
    const session = await bed.open(ANN);
    expect(session).toMatchObject({ assurance: 'manager', epoch: 1, sid: expect.stringMatching(/^ctx_/) });
    expect(bed.exchanges[0]).toMatchObject({ resource: MANAGER, scope: 'hmcp:context.switch patient/Patient.r' });
    const { params } = JSON.parse(asked('hmcp-context-open')[0]?.body ?? '');
    expect(params.arguments).toMatchObject({ target: { patient: ANN }, participants: ['labs', 'orders'] });
    expect(params._meta?.[META.context]).toBeUndefined();
  });

  test('calls with seal, intent and epoch, and a token of the session', async () => {
    const session = await bed.open(ANN);
    expect(await session.call('labs', listResults, {})).toEqual({ results: [observation(ANN)] });
    const [call] = bed.labs.calls;
    expect(call?.envelope).toEqual({ version: '1', seal: expect.any(String), intent: { id: expect.any(String), epoch: 1 } });
    expect(call?.seal).toMatchObject({ sid: session.sid, epoch: 1, patient: ANN, azp: 'portal', sub: 'dr-grey' });
    const { sid } = session;
    const exchange = bed.exchanges.find(({ resource }) => resource === LABS);
    expect(exchange).toMatchObject({ sid, seal: call?.envelope.seal });
    expect(exchange?.scope.split(' ')).toContain('hmcp:context.participate');
  });

  test('its records name session, epoch and the key of the manager', async () => {
    const session = await bed.open(ANN);
    await session.call('labs', listResults, {});
    const { pk } = bed.labs.calls[0]?.seal ?? {};
    expect(bed.audit.records).toHaveLength(2);
    for (const record of bed.audit.records) expect(record).toMatchObject({ sid: session.sid, epoch: 1, pk });
    expect(bed.audit.records.map(({ pkScope }) => pkScope)).toEqual([undefined, undefined]);
  });

  test('an open whose answer is lost is repeated with the same key: one session', async () => {
    let lost = 0;
    bed.network = async (request, serve) => {
      const body = await request.clone().text();
      const response = await serve();
      if (!body.includes('hmcp-context-open') || lost++ > 0) return response;
      throw new TypeError('fetch failed');
    };
    const session = await bed.open(ANN);
    await session.call('labs', listResults, {});
    expect(asked('hmcp-context-open')).toHaveLength(2);
    expect(bed.store.records.filter(({ event }) => event === 'session.opened')).toHaveLength(1);
  });

  test.each(FOREIGN_SEALS)('is not opened with a seal %s: 40903, check "seal"', async (_, seal) => {
    forge('hmcp-context-open', seal);
    const error = await refusalOf(bed.open(ANN));
    expect([error.code, error.check]).toEqual([40903, 'seal']);
    expect(bed.labs.calls).toEqual([]);
  });

  const SESSION = ['hmcp:context.switch', 'hmcp:context.participate', 'patient/Patient.r'] as const;
  test.each([
    ['the scopes of a session', SESSION.join(' ')],
    ['wider ones', 'hmcp:context.participate hmcp:context.switch patient/*.cruds'],
    ['one of them in the words of SMART v1', 'hmcp:context.participate hmcp:context.switch patient/Patient.read'],
  ])('is opened with a grant of %s', async (_, scope) => {
    const session = await bed.open(ANN, { grant: bed.grant(ANN, { scope }) });
    expect(session.assurance).toBe('manager');
  });

  test.each<readonly [string, string]>([
    ...SESSION.map((lacked) => [`without ${lacked}`, SESSION.filter((one) => one !== lacked).join(' ')] as const),
    ['of no scope', ''],
    ['of launch scopes alone', 'launch/patient openid patient/Observation.rs'],
    ['of the wrong level', 'hmcp:context.switch hmcp:context.participate user/Patient.r'],
    ['of other case', 'HMCP:context.switch hmcp:context.participate patient/Patient.r'],
    ['of a longer name', 'hmcp:context.switch2 hmcp:context.participate patient/Patient.r'],
    ['of a patient scope that is narrowed', 'hmcp:context.switch hmcp:context.participate patient/Patient.r?active=true'],
  ])('is not opened with a grant %s: 40301, check "scope", and nothing is sent', async (_, scope) => {
    const error = await refusalOf(bed.open(ANN, { grant: bed.grant(ANN, { scope }) }));
    expect([error.code, error.check, error.data.by]).toEqual([40301, 'scope', bed.agent.by]);
    expect([bed.asked, bed.exchanges]).toEqual([[], []]);
    const { says, mend } = meaningOf(40301, 'scope');
    expect(error.message).toBe(`switch_forbidden: ${says}`);
    for (const needed of SESSION) expect(mend).toContain(needed);
  });

  test('needs no such scope without a manager', async () => {
    const session = await openSession({ agent: bed.agent, grant: bed.grant(ANN, { scope: 'patient/Observation.rs' }) });
    expect(session.assurance).toBe('process');
  });

  test('is not opened while the manager does not answer: 50301', async () => {
    bed.network = () => Promise.reject(new TypeError('fetch failed'));
    expect(await refusalOf(bed.open(ANN))).toMatchObject({ code: 50301, check: 'session' });
  });

  test('is not opened when the token is refused on the way: 40302, check "peer"', async () => {
    bed.network = async () => new Response('the token of pt-ann-4711', { status: 401 });
    const error = await refusalOf(bed.open(ANN));
    expect([error.code, error.check, JSON.stringify(error)]).toEqual([40302, 'peer', expect.not.stringContaining(ANN)]);
  });

  test('a manager that nobody listed is a mistake of the program', async () => {
    const opened = openSession({ agent: bed.agent, grant: bed.grant(ANN), manager: 'https://else.example/mcp' });
    await expect(opened).rejects.toThrow(TypeError);
    await expect(opened).rejects.toThrow(`Mend: ${meaningOf(40903, 'seal').mend}.`);
  });

  test.each<[BindingFault, number]>([
    ['sid', 40901],
    ['epoch', 40901],
    ['plain', 40901],
    ['pk', 40903],
    ['intent', 40903],
    ['by', 40903],
    ['none', 40903],
  ])('an answer whose binding is wrong in %s is dropped: %i, check "result"', async (fault, code) => {
    const session = await bed.open(ANN);
    bed.labs.fault = fault;
    const dropped: number[] = [];
    session.events.on('result-dropped', (event) => dropped.push(event.code));
    const error = await refusalOf(session.call('labs', listResults, {}));
    expect([error.code, error.check, dropped]).toEqual([code, 'result', [code]]);
  });

  test('a permit goes with the one call it was obtained for', async () => {
    const session = await bed.open(ANN);
    await session.act(async () => {
      await session.call('labs', listResults, {}, { permit: 'pm_1' });
      await session.call('labs', listResults, {});
    });
    expect(bed.labs.calls.map(({ envelope }) => envelope.permit)).toEqual(['pm_1', undefined]);
  });

  test('goes on with a renewed grant of its patient: the same session, the next calls with the new token', async () => {
    const session = await bed.open(ANN);
    const { sid } = session;
    await session.call('labs', listResults, {});
    const renewed = bed.grant(ANN);
    session.renew(renewed);
    await session.call('labs', listResults, {});
    expect([session.sid, session.epoch]).toEqual([sid, 1]);
    expect(bed.labs.calls.map(({ seal, token }) => [seal.sid, token])).toEqual([
      [sid, `for ${LABS} from grant-1`],
      [sid, `for ${LABS} from ${renewed.accessToken}`],
    ]);
    expect(asked('hmcp-context-open')).toHaveLength(1);
  });

  test('keeps its seal when its grant is renewed while one is fetched', async () => {
    const session = await bed.open(ANN);
    const [asking, answer] = [gate(), gate()];
    bed.network = async (request, serve) => {
      const body = await request.clone().text();
      if (body.includes('"accept"')) {
        // A seal that does not fit is not used, and the next call asks for another.
        const text = await (await serve()).text();
        return Response.json(JSON.parse(text.replaceAll(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g, 'a.b.c')));
      }
      if (!body.includes('context.get')) return serve();
      asking.open();
      await answer.opened;
      return serve();
    };
    await session.switchPatient({
      authorize: async () => bed.grant(BO),
      confirm: async ({ target }) => ({ ...TYPED[target.patient] }),
    });
    const call = session.call('labs', listResults, {});
    await asking.opened;
    session.renew(bed.grant(BO));
    answer.open();
    await call;
    expect(bed.labs.calls[0]?.seal).toMatchObject({ sid: session.sid, epoch: 2, patient: BO });
  });

  test.each<[string, string, object]>([
    ['another patient', BO, {}],
    ['another person', ANN, { subject: 'dr-house' }],
    ['another encounter', ANN, { encounter: 'e2' }],
    ['nobody', ANN, { patient: undefined }],
  ])('does not go on with a grant of %s: 40903, and nothing changes', async (_, patient, more) => {
    const session = await bed.open(ANN);
    expect(() => session.renew(bed.grant(patient, more))).toThrow(expect.objectContaining({ code: 40903, check: 'session' }));
    await session.call('labs', listResults, {});
    expect(bed.labs.calls[0]?.token).toBe(`for ${LABS} from grant-1`);
  });

  test('closes at its manager', async () => {
    const session = await bed.open(ANN);
    await session.close();
    await session.close();
    expect(bed.store.records.filter(({ event }) => event === 'switch.committed')).toHaveLength(1);
    expect(await refusalOf(session.call('labs', listResults, {}))).toMatchObject({ code: 41001, check: 'session' });
    expect(asked('hmcp-context-close')).toHaveLength(1);
  });
});

describe('a seal', () => {
  test('is used as it is until ten seconds before it expires, then renewed once for all calls at once', async () => {
    const session = await bed.open(ANN);
    seconds(19);
    await session.call('labs', listResults, {});
    expect(asked('dev.hmcp/context.renew')).toHaveLength(0);
    seconds(2);
    await Promise.all([1, 2, 3].map(() => session.call('labs', listResults, {})));
    expect(asked('dev.hmcp/context.renew')).toHaveLength(1);
    const [first, ...later] = bed.labs.calls.map(({ seal }) => seal.exp);
    expect(later).toEqual([1, 2, 3].map(() => (first ?? 0) + 21));
  });

  test('is renewed from the renewal, again and again', async () => {
    const session = await bed.open(ANN);
    for (let round = 0; round < 4; round += 1) {
      seconds(25);
      await session.call('labs', listResults, {});
    }
    expect(asked('dev.hmcp/context.renew')).toHaveLength(4);
    expect(bed.labs.calls.map(({ seal }) => seal.epoch)).toEqual([1, 1, 1, 1]);
  });

  test('that expired an hour ago is asked for anew', async () => {
    const session = await bed.open(ANN, { grant: bed.grant(ANN, { expiresAt: bed.clock.now() / 1000 + 9000 }) });
    seconds(3600);
    await session.call('labs', listResults, {});
    expect([asked('dev.hmcp/context.renew').length, asked('dev.hmcp/context.get').length]).toEqual([0, 1]);
  });

  test('that cannot be renewed because the manager is away is told of in the log, once a minute', async () => {
    const told: string[] = [];
    await bed.close();
    bed = await sessionWorld({ agent: { log: { warn: (_, message) => told.push(message) } } });
    const session = await bed.open(ANN);
    const call = () => session.call('labs', listResults, {});
    seconds(25);
    await call();
    expect(told).toEqual([]);
    bed.network = () => Promise.reject(new TypeError('fetch failed'));
    seconds(25);
    await call();
    await call();
    seconds(6);
    expect(await refusalOf(call())).toMatchObject({ code: 50301 });
    expect(told).toEqual(['a context manager did not answer']);
    seconds(54);
    expect(await refusalOf(call())).toMatchObject({ code: 50301 });
    expect(told).toHaveLength(2);
  });

  test.each(FOREIGN_SEALS)('is not replaced by one %s: 40903, check "seal"', async (_, seal) => {
    const session = await bed.open(ANN);
    forge('dev.hmcp/context.renew', seal);
    seconds(25);
    const error = await refusalOf(session.call('labs', listResults, {}));
    expect([error.code, error.check]).toEqual([40903, 'seal']);
    expect(bed.labs.calls).toEqual([]);
  });

  test('still lives while the manager is away, and no longer than it says', async () => {
    const session = await bed.open(ANN);
    bed.network = () => Promise.reject(new TypeError('fetch failed'));
    seconds(29);
    await session.call('labs', listResults, {});
    seconds(2);
    expect(await refusalOf(session.call('labs', listResults, {}))).toMatchObject({ code: 50301 });
    expect(bed.labs.calls).toHaveLength(1);
  });

  test('of an epoch that passed is not renewed: 40901, and nothing is sent', async () => {
    const session = await bed.open(ANN);
    const other = bed.another({ clientId: 'portal' }).agent;
    // Somebody else in the person's name closes the session.
    const token = await bed.mint({
      sub: 'dr-grey',
      client_id: 'portal',
      scope: 'hmcp:context.switch patient/Patient.r',
      patient: ANN,
    });
    const body = {
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'hmcp-context-close', arguments: { sid: session.sid, switchId: 'x', expectedEpoch: 1 } },
    };
    await bed.manager().fetch(
      new Request(MANAGER, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
        },
        body: JSON.stringify(body),
      }),
    );
    seconds(25);
    const error = await refusalOf(session.call('labs', listResults, {}));
    expect(error.code).toBe(41001);
    expect(bed.labs.calls).toEqual([]);
    await other.close();
  });

  test('an intent of another epoch than the seal is refused before it is sent: 40901, check "epoch"', async () => {
    const session = await bed.open(ANN);
    let sent: { seal: string } | undefined;
    bed.labs.onCall = ({ envelope }) => {
      sent = envelope;
    };
    await session.call('labs', listResults, {});
    const { RequestScope } = await import('@hmcp/core/request-scope');
    const scope = new RequestScope({
      context: { fhirServer: FHIR, patient: ANN },
      token: undefined,
      accessToken: 'granted',
      envelope: { version: '1', seal: sent?.seal ?? '', intent: { id: 'i', epoch: 2 } },
      by: LABS,
      hop: 1,
    });
    const error = await refusalOf(scope.run(() => bed.agent.call('labs', listResults, {})));
    expect([error.code, error.check, error.data.hop]).toEqual([40901, 'epoch', 1]);
    expect(bed.labs.calls).toHaveLength(1);
  });
});

describe('a middle agent in a session', () => {
  /** What the second hop does inside its request: its own process, with the envelope it was sent. */
  async function atHopTwo(work: (call: () => Promise<unknown>) => Promise<unknown>, grant: Partial<Grant> = {}) {
    const session = await bed.open(ANN, { grant: bed.grant(ANN, grant) });
    const { agent, audit } = bed.another({ clientId: 'labs', resource: LABS });
    const { RequestScope } = await import('@hmcp/core/request-scope');
    let inner: unknown;
    bed.labs.onCall = async ({ envelope, seal, token }) => {
      if (bed.labs.calls.length > 1) return undefined;
      const scope = new RequestScope({
        context: { fhirServer: FHIR, patient: seal.patient },
        token: verifiedToken(ANN, { expiresAt: bed.clock.now() / 1000 + 300, sid: seal.sid, audience: LABS }),
        accessToken: token,
        envelope: { ...envelope, permit: 'pm_of_the_caller' },
        by: LABS,
        hop: 1,
      });
      inner = await scope.run(() => work(() => agent.call('labs', listResults, {}))).catch((error: unknown) => error);
      return undefined;
    };
    const outer = await session.call('labs', listResults, {}, { timeoutMs: 110_000 }).catch((error: unknown) => error);
    await agent.close();
    return { session, outer, inner, audit };
  }

  test('a 90-second handler goes on to the third hop: the renewal of the seal carries it', async () => {
    const { outer, inner } = await atHopTwo(async (call) => {
      seconds(90);
      return call();
    });
    expect([outer, inner]).toEqual([{ results: [observation(ANN)] }, { results: [observation(ANN)] }]);
    expect(bed.exchanges.find(({ resource }) => resource === LABS)).toMatchObject({ lifeSeconds: 110 });
    const [second, third] = bed.labs.calls;
    expect(third?.envelope.intent).toEqual(second?.envelope.intent);
    expect(third?.seal).toMatchObject({ sid: second?.seal.sid, epoch: 1, pk: second?.seal.pk });
    expect((third?.seal.exp ?? 0) - (second?.seal.exp ?? 0)).toBe(90);
    expect(asked('dev.hmcp/context.renew')).toHaveLength(1);
  });

  test('asks for its renewal with a token of its own for the manager', async () => {
    await atHopTwo(async (call) => {
      seconds(25);
      return call();
    });
    const exchange = bed.exchanges.filter(({ resource }) => resource === MANAGER).at(-1);
    expect(exchange).toMatchObject({ scope: 'hmcp:context.participate' });
    expect(exchange?.subjectToken).toContain(`for ${LABS}`);
  });

  test('does not pass on the permit it was sent', async () => {
    await atHopTwo((call) => call());
    expect(bed.labs.calls[1]?.envelope).not.toHaveProperty('permit');
  });

  test('a handler longer than its own token is refused before anything is sent: 40302', async () => {
    const { inner } = await atHopTwo(async (call) => {
      seconds(301);
      return call();
    });
    expect(inner).toMatchObject({ code: 40302, check: 'token' });
    expect(bed.labs.calls).toHaveLength(1);
  });
});
