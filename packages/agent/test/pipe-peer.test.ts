import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import type { Peer } from '../src/index.js';
import { ANN, BO, FHIR, listResults, refusalOf, scopeOf, world } from './support/world.js';

const resource = 'https://pipe-labs.example/mcp';
const script = fileURLToPath(new URL('support/stdio-server.mjs', import.meta.url));
const command = { program: process.execPath, args: [script, FHIR, resource] };
const peer: Peer = { name: 'pipe', resource, kind: 'hmcp', command };

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});
function piped(change: Partial<Peer> = {}) {
  const made = world([{ ...peer, ...change }]);
  closers.push(() => made.agent.close());
  const ask = (patient: string, category?: string) =>
    scopeOf(patient).run(() => made.agent.call('pipe', listResults, category === undefined ? {} : { category }));
  return { ...made, ask };
}

describe('a peer that is a child of this process', () => {
  test('is started once, and answers each request about its own patient', async () => {
    const { ask, audit, tokens } = piped();
    const [ofAnn, ofBo] = await Promise.all([ask(ANN), ask(BO)]);
    expect(JSON.stringify(ofAnn)).toContain(ANN);
    expect(JSON.stringify(ofAnn)).not.toContain(BO);
    expect(JSON.stringify(ofBo)).toContain(BO);
    expect(audit.events.filter((event) => event === 'hop.result')).toHaveLength(2);
    expect(new Set(tokens.requests.map((request) => request.resource))).toEqual(new Set([resource]));
  });

  test('that ends settles the call, and is started again by the next', async () => {
    const { ask } = piped();
    await ask(ANN);
    expect(await refusalOf(ask(ANN, 'exit'))).toMatchObject({ code: 50301, data: { check: 'peer' } });
    expect(JSON.stringify(await ask(BO))).toContain(BO);
  });

  test('that cannot be started is a peer that does not answer', async () => {
    const { ask } = piped({ command: { program: '/nonexistent/hmcp-child' } });
    expect(await refusalOf(ask(ANN))).toMatchObject({ code: 50301, data: { check: 'peer' } });
  });

  test('is dropped when its binding is of another server', async () => {
    const { ask } = piped({ command: { ...command, args: [script, FHIR, 'https://other.example/mcp'] } });
    expect(await refusalOf(ask(ANN))).toMatchObject({ data: { check: 'result' } });
  });

  test.each<[string, Partial<Peer>]>([
    ['outside the trust boundary', { kind: 'external' }],
    ['without a program', { command: { program: '' } }],
  ])('cannot be declared %s', (_name, change) => {
    expect(() => world([{ ...peer, ...change }])).toThrow(/^"command" of peer "pipe"/);
  });
});
