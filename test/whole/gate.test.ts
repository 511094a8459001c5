import { expect, it } from 'vitest';
import { openGate } from '../../examples/story/gate.js';

/** A parent that remembers what it was told. */
function parent() {
  const heard: string[] = [];
  let tell: (message: unknown) => void = () => undefined;
  const channel = {
    on: (_event: 'message', listener: (message: unknown) => void) => {
      tell = listener;
    },
    send: ({ type }: { readonly type: string }) => heard.push(type),
  };
  return { channel, heard, tell: (message: unknown) => tell(message) };
}

it('a gate lets everybody pass, holds whoever comes while it is shut, and lets them go when it opens', async () => {
  const { channel, heard, tell } = parent();
  const gate = openGate(channel);
  await gate.pass();
  tell({ type: 'hold' });
  const passed: number[] = [];
  const waiting = [1, 2].map((who) => gate.pass().then(() => passed.push(who)));
  await Promise.resolve();
  expect([heard, passed]).toEqual([['holding', 'held', 'held'], []]);
  tell({ type: 'open' });
  await Promise.all(waiting);
  expect(passed).toEqual([1, 2]);
  await gate.pass();
  expect(heard.at(-1)).toBe('opened');
});

it.each([undefined, null, 'hold', 7, {}, { type: 'unlock' }])('a gate is not moved by %j', async (message) => {
  const { channel, heard, tell } = parent();
  const gate = openGate(channel);
  tell(message);
  await gate.pass();
  expect(heard).toEqual([]);
});
