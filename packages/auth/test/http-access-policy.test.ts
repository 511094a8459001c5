import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type AccessQuestion, AuthorityUnavailable, askAccessPolicy, httpAccessPolicy } from '../src/index.js';

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const question: AccessQuestion = {
  ...{ issuer: 'https://as.example', subject: 'dr-7', clientId: 'portal', fhirServer: 'https://fhir.example' },
  ...{ patient: 'canary-4711', operation: 'tools/call list-results', effect: false },
};
const url = 'https://pdp.example/access/v1/evaluation';

/** A decision point that answers everything the same, and keeps what it was asked. */
function point(status: number, body: BodyInit | null, headers: Record<string, string> = {}) {
  const asked: { url: string; init: RequestInit }[] = [];
  const fetch = async (to: string, init: RequestInit) => {
    asked.push({ url: to, init });
    return new Response(body, { status, headers });
  };
  return { asked, policy: httpAccessPolicy({ url, fetch }) };
}

async function failureOf(asking: Promise<unknown>): Promise<unknown> {
  return asking.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('httpAccessPolicy', () => {
  it.each([
    [true, 'allow'],
    [false, 'deny'],
  ] as const)('decision %s is %s', async (decision, answer) => {
    const { policy } = point(200, JSON.stringify({ decision, context: { reason_admin: { en: 'care team' } } }));
    expect(await askAccessPolicy(policy, question)).toBe(answer);
  });

  it('asks in the words of AuthZEN, in the body of one POST that follows no redirect', async () => {
    const { policy, asked } = point(200, '{"decision":true}');
    await policy.decide({ ...question, fhirUser: 'https://fhir.example/Practitioner/7', tenant: 't1' });
    const [only, ...more] = asked;
    expect(more).toEqual([]);
    expect(only?.url).toBe(url);
    expect(only?.init).toMatchObject({ method: 'POST', redirect: 'manual', headers: { 'content-type': 'application/json' } });
    expect(JSON.parse(String(only?.init.body))).toEqual({
      subject: {
        type: 'user',
        id: 'dr-7',
        properties: { issuer: 'https://as.example', fhirUser: 'https://fhir.example/Practitioner/7', clientId: 'portal' },
      },
      action: { name: 'tools/call list-results', properties: { effect: false } },
      resource: { type: 'Patient', id: 'canary-4711', properties: { fhirServer: 'https://fhir.example', tenant: 't1' } },
    });
  });

  it('says when no person stands behind the token, and whether something would change', async () => {
    const { policy, asked } = point(200, '{"decision":false}');
    await policy.decide({ ...question, subject: 'portal', effect: true });
    const body = JSON.parse(String(asked[0]?.init.body));
    expect([body.subject.type, body.subject.id, body.action.properties.effect]).toEqual(['client', 'portal', true]);
  });

  it('asks every time: an answer of before is not an answer', async () => {
    const { policy, asked } = point(200, '{"decision":true}');
    await policy.decide(question);
    await policy.decide(question);
    expect(asked).toHaveLength(2);
  });

  it.each<[string, number, string | null]>([
    ['nothing', 200, null],
    ['no JSON', 200, 'permit'],
    ['a text', 200, '"allow"'],
    ['a list', 200, '[{"decision":true}]'],
    ['no decision', 200, '{}'],
    ['a decision that is a text', 200, '{"decision":"true"}'],
    ['a decision that is a number', 200, '{"decision":1}'],
    ['a decision that is null', 200, '{"decision":null}'],
    ['a decision of another name', 200, '{"Decision":true}'],
    ['an inherited decision', 200, '{"__proto__":{"decision":true}}'],
    ['two decisions', 200, '{"decision":false,"decision":true}'],
    ['two decisions, spelt otherwise', 200, '{"decision":false,"\\u0064ecision":true}'],
    ['yes with HTTP 201', 201, '{"decision":true}'],
    ['yes behind a redirect', 302, '{"decision":true}'],
    ['yes with HTTP 401', 401, '{"decision":true}'],
    ['yes with HTTP 403', 403, '{"decision":true}'],
    ['yes with HTTP 429', 429, '{"decision":true}'],
    ['yes with HTTP 500', 500, '{"decision":true}'],
    ['more than can be read', 200, `{"decision":true,"context":"${'x'.repeat(300_000)}"}`],
  ])('%s is no decision, and nothing of it or of the question is in the error', async (_what, status, body) => {
    const error = await failureOf(askAccessPolicy(point(status, body).policy, question));
    expect(error).toBeInstanceOf(AuthorityUnavailable);
    const told = JSON.stringify([error, String(error), (error as Error).stack, (error as Error).cause]);
    expect(told).not.toMatch(/canary-4711|dr-7|permit|care team/);
  });

  it('bytes that are no text are no decision', async () => {
    const body = new Uint8Array([...new TextEncoder().encode('{"decision":true,"x":"'), 0xff, 0x22, 0x7d]);
    expect(await failureOf(point(200, body).policy.decide(question))).toBeInstanceOf(AuthorityUnavailable);
  });

  it('a decision point that cannot be reached is no decision, and its words go nowhere', async () => {
    const fetch = () => Promise.reject(new Error('connect to pdp for canary-4711'));
    const error = await failureOf(httpAccessPolicy({ url, fetch }).decide(question));
    expect(error).toBeInstanceOf(AuthorityUnavailable);
    expect(JSON.stringify([error, String(error), (error as Error).cause])).not.toContain('canary');
  });

  it('a decision point that never answers is given up', async () => {
    const http = createServer(() => undefined);
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    closing.push(async () => {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    });
    const address = `http://127.0.0.1:${(http.address() as AddressInfo).port}/`;
    const asked = httpAccessPolicy({ url: address, timeoutMs: 50 }).decide(question);
    expect(await failureOf(asked)).toBeInstanceOf(AuthorityUnavailable);
  });

  it.each([
    ['url', { url: 'http://pdp.example/' }],
    ['url', { url: '/access' }],
    ['url', { url: 'https://user:secret@pdp.example/' }],
    ['timeoutMs', { url, timeoutMs: 0 }],
    ['timeoutMs', { url, timeoutMs: Number.NaN }],
    ['timeoutMs', { url, timeoutMs: Number.POSITIVE_INFINITY }],
  ])('cannot be made with a bad "%s", and says so without the value', (name, options) => {
    expect(() => httpAccessPolicy(options)).toThrow(new RegExp(`^"${name}"(?!.*secret)`));
  });
});
