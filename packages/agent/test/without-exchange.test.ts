import { definePatientTool } from '@hmcp/core';
import { afterEach, expect, test } from 'vitest';
import * as z from 'zod';
import { createAgent } from '../src/index.js';
import { startRecordingServer } from './support/recording-server.js';
import { ANN, MemoryAudit, NOW, refusalOf, scopeOf } from './support/world.js';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const lookup = definePatientTool({
  name: 'lookup',
  description: 'Guidelines',
  scope: 'patient/Observation.rs',
  input: z.object({ term: z.string() }),
  output: z.object({ found: z.number() }),
});

/** An agent on an EHR that exchanges no tokens. */
async function agentWithoutTokens(kind: 'hmcp' | 'plain') {
  const server = await startRecordingServer();
  const audit = new MemoryAudit();
  const peers = [{ name: 'guidelines', resource: server.url, kind }];
  const agent = createAgent({ name: 'desk', clientId: 'desk', peers, audit, pseudonymKey: 'a key of the tests', now: () => NOW });
  closers.push(server.close, () => agent.close());
  return { server, audit, ask: () => scopeOf(ANN).run(() => agent.call('guidelines', lookup, { term: 'sepsis' })) };
}

test('without a token exchange an hmcp peer is refused, and hears nothing', async () => {
  const { ask, server, audit } = await agentWithoutTokens('hmcp');
  expect(await refusalOf(ask())).toMatchObject({ code: 40302, check: 'exchange' });
  expect(server.bytes()).toBe('');
  expect(audit.events).toEqual(['hop.refused']);
});

test('a plain peer needs no token, and gets none', async () => {
  const { ask, server } = await agentWithoutTokens('plain');
  expect(await ask()).toEqual({ found: 3 });
  expect(server.toolCalls).toHaveLength(1);
  expect(server.bytes()).not.toMatch(/authorization|access-pt/i);
});
