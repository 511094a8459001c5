import { describe, expect, test, vi } from 'vitest';
import { labs } from './support/labs.js';
import { type Asked, ask, post, request } from './support/wire.js';
import { ANN, BO, envelope, NEVER, RESOURCE } from './support/world.js';

const listening = (filter: unknown, patient = ANN) => ({ notifications: filter, _meta: envelope(patient) });
const watch = (...uris: unknown[]) => ({ resourceSubscriptions: uris });

/** Opens a stream and reads its first `count` events. */
async function open(l: ReturnType<typeof labs>, params: Record<string, unknown>, asked: Asked = {}) {
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': 'subscriptions/listen',
  };
  const body = JSON.stringify(request('subscriptions/listen', params));
  const authorization = `Bearer ${asked.token ?? l.own}`;
  const response = await l.handler.fetch(new Request(RESOURCE, { method: 'POST', body, headers: { ...headers, authorization } }));
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  const read = async (what: string) => {
    while (!text.includes(what)) {
      const next = await reader?.read();
      if (!next || next.done) return false;
      text += next.value;
    }
    return true;
  };
  return { response, read, text: () => text, cancel: () => reader?.cancel() };
}

describe('subscriptions/listen over HTTP', () => {
  test('to a declared resource is served, recorded, and told of changes without data', async () => {
    const l = labs({ more: (server) => server.server.registerCapabilities({ resources: { subscribe: true } }) });
    const stream = await open(l, listening(watch('chart://current')));
    expect(await stream.read('acknowledged')).toBe(true);
    l.handler.notify.resourceUpdated('chart://current');
    expect(await stream.read('resources/updated')).toBe(true);
    expect(l.audit.records).toMatchObject([{ event: 'request.served', method: 'subscriptions/listen', pkScope: 'local' }]);
    await stream.cancel();
    await l.handler.close();
  });

  test('to changes of catalogues needs no more than a token', async () => {
    const l = labs({});
    const stream = await open(
      l,
      { notifications: { toolsListChanged: true } },
      { token: l.issuer.issue(ANN, { scope: 'openid' }) },
    );
    expect(await stream.read('acknowledged')).toBe(true);
    await stream.cancel();
    await l.handler.close();
  });

  test.each([
    ['an undeclared resource', listening(watch('hidden://x')), 200, 40303, 'operation'],
    ['an undeclared one behind a declared one', listening(watch('chart://current', 'hidden://x')), 200, 40303, 'operation'],
    ['a URI of another patient', listening(watch(`chart://x?patient=${BO}`)), 200, 40303, 'operation'],
    ['an envelope of another patient', listening(watch('chart://current'), BO), 200, 40903, 'equality'],
    [
      'a malformed envelope',
      { ...listening(watch('chart://current')), _meta: { 'dev.hmcp/context': 7 } },
      200,
      -32602,
      undefined,
    ],
    [
      'more URIs than anybody watches',
      listening(watch(...Array.from({ length: 65 }, () => 'chart://current'))),
      200,
      -32602,
      undefined,
    ],
    ['URIs that are no text', listening(watch({ uri: 'hidden://x' })), 200, -32602, undefined],
    ['URIs that are no list', listening({ resourceSubscriptions: 'hidden://x' }), 200, -32602, undefined],
    ['a filter that is none', listening([]), 200, -32602, undefined],
  ] as const)('%s is refused before a stream begins', async (_what, params, status, code, check) => {
    const l = labs({});
    const answer = await ask(l.handler, 'subscriptions/listen', params, { token: l.own });
    expect(answer).toMatchObject({ status, error: { code } });
    if (check) expect(answer.error?.data).toMatchObject({ check });
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(l.audit.records).toMatchObject([{ event: 'request.refused', code }]);
  });

  test('without the scope is 403, without a token 401, with no durable record 50302', async () => {
    const l = labs({});
    const listen = (token?: string) => ask(l.handler, 'subscriptions/listen', listening(watch('chart://current')), { token });
    expect((await listen(l.issuer.issue(ANN, { scope: 'patient/Condition.rs' }))).status).toBe(403);
    expect((await listen()).status).toBe(401);
    l.audit.failing = true;
    expect((await listen(l.own)).error).toMatchObject({ code: 50302 });
  });

  test('in a 2025-era message is no method at all', async () => {
    const l = labs({});
    const body = JSON.stringify(request('subscriptions/listen', listening(watch('chart://current')), 'legacy'));
    expect((await post(l.handler, body, { token: l.own })).error).toMatchObject({ code: -32601 });
  });

  test('ends when the token it was opened with expires', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    try {
      const l = labs({});
      const token = l.issuer.issue(ANN, { expiresAt: Math.floor(Date.now() / 1000) + 10 });
      const stream = await open(l, { notifications: { toolsListChanged: true } }, { token });
      expect(await stream.read('acknowledged')).toBe(true);
      vi.advanceTimersByTime(10_000);
      expect(await stream.read('never sent')).toBe(false);
      await l.handler.close();
    } finally {
      vi.useRealTimers();
    }
  });
});
