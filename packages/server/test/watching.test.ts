import type { SealClaims } from '@hmcp/core';
import { expect, test } from 'vitest';
import type { AgentEnv } from '../src/define-agent.js';
import { fenceOf } from '../src/fence.js';
import { Watching } from '../src/watching.js';

const URI = 'chart://current';
const seal = { iss: 'https://cm.example', sid: 'ctx_1', epoch: 1 } as SealClaims;

function watching() {
  const time = { at: 0 };
  const env = { monotonic: () => time.at, now: () => 0 } as unknown as AgentEnv;
  const { epochs } = fenceOf(env);
  epochs.learn(seal, 1);
  const watch = new Watching(env);
  watch.subscribe(URI, 1_000_000, seal);
  return { time, epochs, watch };
}

test('a subscription of an epoch that passed does not come back when the session is forgotten', () => {
  const { time, epochs, watch } = watching();
  expect(watch.isWatched(URI)).toBe(true);
  epochs.learn(seal, 2);
  time.at = 61_000;
  epochs.learn({ ...seal, sid: 'ctx_2' }, 1);
  expect(watch.isWatched(URI)).toBe(false);
});

test('a subscription made again is of the later epoch, and ends when it is taken back or the connection goes', () => {
  const { epochs, watch } = watching();
  watch.subscribe(URI, 1_000_000, { ...seal, epoch: 2 });
  epochs.learn(seal, 2);
  expect(watch.isWatched(URI)).toBe(true);
  watch.unsubscribe(URI);
  expect(watch.isWatched(URI)).toBe(false);
  watch.subscribe(URI, 1_000_000, { ...seal, epoch: 2 });
  watch.clear();
  expect(watch.isWatched(URI)).toBe(false);
});
