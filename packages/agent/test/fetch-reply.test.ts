import { expect, test, vi } from 'vitest';
import { FetchReply } from '../src/fetch-reply.js';
import type { JsonRpcMessage } from '../src/instrument.js';

const ANSWER = { jsonrpc: '2.0', id: 1, result: {} } as const;
const told = (n: number) => ({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data: n } });

/** A peer that tells `most` things and then answers; it says how many it was asked for. */
function talkative(most: number) {
  let sent = 0;
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        sent += 1;
        const message = sent <= most ? told(sent) : ANSWER;
        controller.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(message)}\n\n`));
        if (message === ANSWER) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  return { response: new Response(body, { headers: { 'content-type': 'text/event-stream' } }), sent: () => sent };
}

/** Hands over at once whatever is received. */
const handing = (reply: FetchReply) => (message: JsonRpcMessage) => {
  reply.deliver(message);
  return undefined;
};

/** Long enough for everything that goes on by itself. */
const settled = async (): Promise<void> => {
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
};

test('a client that does not read makes its peer wait, and loses nothing when it reads', async () => {
  const peer = talkative(1000);
  const reply = new FetchReply(1, () => undefined);
  const taken = reply.take(peer.response, handing(reply));
  const response = await reply.response;
  await settled();
  expect(peer.sent()).toBeLessThan(100);
  const events = (await response.text()).split('\n\n').filter(Boolean);
  await taken;
  expect(events).toHaveLength(1001);
  expect(events.at(-1)).toContain('"result":{}');
});

test.each([
  ['the client cancels', (_: FetchReply, response: Response) => response.body?.cancel()],
  ['the request is given up', (reply: FetchReply) => reply.abort(new Error('the session went on'))],
  ['the client leaves', (reply: FetchReply) => reply.leave()],
])('a peer that waits is read on once %s', async (_, end) => {
  const peer = talkative(100);
  const gone = vi.fn();
  const reply = new FetchReply(1, gone);
  const taken = reply.take(peer.response, handing(reply));
  const response = await reply.response;
  await settled();
  expect(peer.sent()).toBeLessThan(100);
  await end(reply, response);
  await taken;
  expect(peer.sent()).toBe(101);
});

test('a message that waits to be judged makes its peer wait: no others gather behind it', async () => {
  const peer = talkative(1000);
  const reply = new FetchReply(1, () => undefined);
  let decide: () => void = () => undefined;
  const decided = new Promise<void>((resolve) => {
    decide = resolve;
  });
  const taken = reply.take(peer.response, (message) => {
    if (message.method !== undefined) return decided.then(() => reply.deliver(message));
    reply.deliver(message);
    return undefined;
  });
  const response = await reply.response;
  await settled();
  expect(peer.sent()).toBe(1);
  decide();
  const events = (await response.text()).split('\n\n').filter(Boolean);
  await taken;
  expect(events).toHaveLength(1001);
});
