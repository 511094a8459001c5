import { CLIENT_NOTIFICATIONS, type MethodClass, methodClass } from '@hmcp/core';
import * as schemasV1 from '@modelcontextprotocol/sdk/types.js';
import { specTypeSchemas } from '@modelcontextprotocol/server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Carrier, inProcess, overHttp } from './support/carriers.js';
import { ANN, envelope } from './support/world.js';

/** Reviewed by people. A method the SDK learns is not in here, and the first test fails until somebody has classed it. */
const REQUESTS: Readonly<Record<string, MethodClass>> = {
  initialize: 'handshake',
  'server/discover': 'handshake',
  ping: 'handshake',
  'tools/list': 'catalogue',
  'prompts/list': 'catalogue',
  'resources/templates/list': 'catalogue',
  'logging/setLevel': 'catalogue',
  'tools/call': 'context',
  'prompts/get': 'context',
  'resources/list': 'context',
  'resources/read': 'context',
  'resources/subscribe': 'context',
  'resources/unsubscribe': 'context',
  'completion/complete': 'context',
  'subscriptions/listen': 'context',
  'tasks/get': 'context',
  'tasks/list': 'context',
  'tasks/result': 'context',
  'tasks/cancel': 'context',
  // A client has no business sending these; as everything unknown, they need a declaration nobody gives.
  'sampling/createMessage': 'context',
  'elicitation/create': 'context',
  'roots/list': 'context',
};

/** Which side may send a notification here, reviewed likewise. */
const NOTIFICATIONS: Readonly<Record<string, 'from the client' | 'from the server' | 'both' | 'nobody'>> = {
  'notifications/initialized': 'from the client',
  'notifications/cancelled': 'from the client',
  'notifications/roots/list_changed': 'from the client',
  'notifications/progress': 'both',
  'notifications/message': 'from the server',
  'notifications/resources/updated': 'from the server',
  'notifications/resources/list_changed': 'from the server',
  'notifications/tools/list_changed': 'from the server',
  'notifications/prompts/list_changed': 'from the server',
  'notifications/subscriptions/acknowledged': 'from the server',
  'notifications/elicitation/complete': 'nobody',
  'notifications/tasks/status': 'nobody',
};

/** Every method literal in an SDK's message schemas: both protocol revisions stand in v2's, the older in v1's. */
function methodsOf(exported: object): string[] {
  return Object.values(exported).flatMap((schema: unknown) => {
    const { shape } = (schema ?? {}) as { shape?: { method?: { _zod?: { def?: { values?: unknown } } } } };
    const values = shape?.method?._zod?.def?.values;
    return Array.isArray(values) ? values.map(String) : [];
  });
}

const all = [...new Set([...methodsOf(specTypeSchemas), ...methodsOf(schemasV1)])].sort();
const requests = all.filter((method) => !method.startsWith('notifications/'));
const notifications = all.filter((method) => method.startsWith('notifications/'));

describe('the table of methods', () => {
  test('holds every request of the SDK and nothing else', () => {
    expect(requests).toEqual(Object.keys(REQUESTS).sort());
  });

  test('holds every notification of the SDK and nothing else', () => {
    expect(notifications).toEqual(Object.keys(NOTIFICATIONS).sort());
  });

  test('is read from schemas of both revisions', () => {
    const v2 = methodsOf(specTypeSchemas);
    expect(v2).toEqual(expect.arrayContaining(['subscriptions/listen', 'resources/subscribe', 'tasks/get']));
    expect(methodsOf(schemasV1)).toContain('initialize');
  });

  test.each(Object.entries(REQUESTS))('%s is %s', (method, expected) => {
    expect(methodClass(method)).toBe(expected);
  });

  test('has a class for what a manager says during a switch: these three, and nothing that looks like them', () => {
    for (const said of ['prepare', 'drain', 'decided']) expect(methodClass(`dev.hmcp/context.${said}`)).toBe('switch');
    for (const said of ['Prepare', 'prepare ', 'join', 'permit', ''])
      expect(methodClass(`dev.hmcp/context.${said}`)).toBe('context');
  });

  test('accepts exactly the notifications a client may send', () => {
    const accepted = Object.entries(NOTIFICATIONS).filter(([, from]) => from === 'from the client' || from === 'both');
    expect([...CLIENT_NOTIFICATIONS].sort()).toEqual(accepted.map(([method]) => method).sort());
  });

  test.each([
    '',
    'toString',
    '__proto__',
    'constructor',
    'Tools/list',
    'tools/list ',
    'ping\u0000',
    'tools/listen',
  ])('%j, like everything not listed, is about a patient', (method) => expect(methodClass(method)).toBe('context'));
});

describe.each([
  ['HTTP modern', () => overHttp('modern')],
  ['HTTP legacy', () => overHttp('legacy')],
  ['in-process', () => inProcess()],
])('%s', (_name, make) => {
  let carrier: Carrier;
  beforeAll(async () => {
    carrier = await make();
  });
  afterAll(() => carrier.close());

  const undeclared = requests.filter(
    (method) => methodClass(method) === 'context' && method !== 'resources/list' && method !== 'subscriptions/listen',
  );
  test.each(undeclared)('%s of something nobody declared is refused before any handler', async (method) => {
    const kind = method.split('/')[0];
    const named = kind === 'resources' ? { uri: 'nobody://x' } : kind === 'tasks' ? { taskId: 't1' } : { name: 'nobody' };
    const params = { ...named, ref: {}, _meta: envelope(ANN) };
    const { error, status } = await carrier.ask(method, params, 'own');
    expect(error).toMatchObject({ code: 40303, data: { check: 'operation' } });
    expect(status ?? 200).toBe(200);
    expect((await carrier.report()).reached).toEqual([]);
  });

  test.each(['tools/list', 'prompts/list', 'resources/templates/list'])('%s needs a token and no patient', async (method) => {
    expect((await carrier.ask(method, {}, 'none')).result).toBeUndefined();
    const { result } = await carrier.ask(method, {}, 'narrow');
    expect(result).toBeDefined();
    expect(JSON.stringify(result)).not.toContain('dev.hmcp/context');
  });
});
