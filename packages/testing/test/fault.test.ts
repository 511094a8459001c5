import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  assess,
  draftOrder,
  labs,
  listDrafts,
  listResults,
  medications,
  openOrderBook,
  orders,
  partOfOrders,
  triage,
} from '@hmcp/clinic';
import { definePatientTool } from '@hmcp/core';
import { currentScope } from '@hmcp/core/request-scope';
import { type AgentDefinition, createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { createTestbed, type Fault, people, type TestbedAgent } from '@hmcp/testing';
import { McpServer } from '@modelcontextprotocol/server';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import '@hmcp/testing/vitest';

const { adalinde: ann, beatrisa: bo } = people;

const note = definePatientTool({
  name: 'note',
  description: 'A note of the patient in context',
  scope: 'patient/Observation.rs',
  input: z.object({}),
  output: z.object({ text: z.string() }),
});

function agentOf(name: string, contract: typeof note, handle: () => Promise<{ text: string }>): AgentDefinition {
  return defineAgent(name, (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name, version: '1.0.0' });
      patientTool(server, contract, handle);
      return server;
    }, env),
  );
}

/** With an orders agent over a book of its own. */
async function withOrders(work: (agent: TestbedAgent) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'testbed-'));
  const book = await openOrderBook({ file: join(folder, 'book') });
  try {
    await work({ agent: orders(book), ...partOfOrders(book) });
  } finally {
    await book.close();
    await rm(folder, { recursive: true });
  }
}

/** Lets the event loop turn until something is so. */
async function until(holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 100_000 && !holds(); turn += 1) await new Promise((resolve) => setImmediate(resolve));
  expect(holds()).toBe(true);
}

describe('a fault', () => {
  it.each<[Fault, number]>([
    ['request lost', 0],
    ['answer lost', 1],
  ])('%s: the caller is told that nobody answered, and the next call works', async (fault, served) => {
    await using bed = await createTestbed({ agents: [labs], people: [ann] });
    const session = await bed.open(ann);
    bed.fault('labs', listResults, fault);
    await expect(session.call('labs', listResults, {})).toHaveRefused(50301, { check: 'peer' });
    expect(bed.trace.hops.find(({ to }) => to === 'labs')).toMatchObject({ operation: 'list-results', outcome: 'broken' });
    const done = () =>
      bed.trace.audit.filter(
        ({ by, event, tool }) => bed.trace.nameOf(by) === 'labs' && event === 'request.served' && tool !== undefined,
      );
    expect(done()).toHaveLength(served);
    await session.call('labs', listResults, {});
    expect(done()).toHaveLength(served + 1);
    expect(bed.trace).toStayOnPatient();
  });

  it('context lost: a token of a session alone is not enough', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann], interleave: false });
    const session = await bed.open(ann);
    bed.fault('labs', listResults, 'context lost');
    await expect(session.call('labs', listResults, {})).toHaveRefused(42801);
    await session.call('labs', listResults, {});
    expect(bed.trace).toStayOnPatient();
  });

  it('sent twice: a look is served twice, and answered once', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann] });
    const session = await bed.open(ann);
    bed.fault('labs', listResults, 'sent twice');
    const { results } = await session.call('labs', listResults, {});
    expect(results.length).toBeGreaterThan(0);
    expect(bed.trace.audit.filter(({ event, tool }) => event === 'request.served' && tool === 'list-results')).toHaveLength(2);
    expect(bed.trace).toStayOnPatient();
  });

  it('sent twice: an order is drafted once', async () => {
    await withOrders(async (agent) => {
      await using bed = await createTestbed({ agents: [agent], people: [ann, bo] });
      const session = await bed.open(ann);
      bed.fault('orders', draftOrder, 'sent twice');
      await session.call('orders', draftOrder, { kind: 'service', text: 'Potassium again tomorrow' });
      expect(bed.trace.audit.filter(({ event }) => event === 'effect.intent')).toHaveLength(1);
      expect(bed.trace.toString()).not.toContain('‖ portal → orders');
    });
  });

  it('sent twice: what an agent does past `effect` is done twice, and the audit shows two requests', async () => {
    const written: string[] = [];
    const careless = agentOf('careless', note, async () => ({ text: `${written.push('entry')}` }));
    await using bed = await createTestbed({ agents: [careless], people: [ann], interleave: false });
    const session = await bed.open(ann);
    bed.fault('careless', note, 'sent twice');
    await session.call('careless', note, {});
    expect(written).toHaveLength(2);
    expect(bed.trace.audit.filter(({ event, tool }) => event === 'request.served' && tool === 'note')).toHaveLength(2);
    expect(bed.trace).not.toHaveAudited({ event: 'effect.intent' });
  });

  it('overtaken: two looks come in another order, and each caller gets its own answer', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann], interleave: false });
    const session = await bed.open(ann);
    const all = await session.call('labs', listResults, {});
    bed.fault('labs', listResults, 'overtaken');
    const slow = session.call('labs', listResults, { category: 'no-such-category' });
    await until(() => bed.trace.hops.filter(({ to }) => to === 'labs').length === 2);
    expect(await session.call('labs', listResults, {})).toEqual(all);
    expect((await slow).results).toEqual([]);
    expect(bed.trace).toStayOnPatient();
  });

  it('overtaken by the next patient: the agent itself refuses what is of an earlier epoch', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann, bo], interleave: false });
    const session = await bed.open(ann);
    bed.fault('labs', listResults, 'overtaken');
    const late = session.call('labs', listResults, {});
    await until(() => bed.trace.hops.some(({ to }) => to === 'labs'));
    await bed.switch(session, bo);
    await expect(late).toHaveRefused(40901);
    await session.call('labs', listResults, {});
    await until(() => bed.trace.audit.some(({ event }) => event === 'request.refused'));
    expect(bed.trace).toHaveAudited({ by: 'labs', event: 'request.refused', code: 40901, check: 'epoch' });
    expect(bed.trace).toStayOnPatient();
  });

  it('delayed: a seal that aged on the way is refused, and the next call has a fresh one', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann], interleave: false });
    const session = await bed.open(ann);
    bed.fault('labs', listResults, { delayMs: 121_000 });
    await expect(session.call('labs', listResults, {})).toHaveRefused(40101, { check: 'seal' });
    expect(bed.trace).toHaveAudited({ by: 'labs', event: 'request.refused', code: 40101 });
    await session.call('labs', listResults, {});
    expect(bed.trace).toStayOnPatient();
  });

  it('delayed: without a session it is the token that aged', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann], interleave: false });
    const session = await bed.open(ann, { assurance: 'process' });
    bed.fault('labs', listResults, { delayMs: 181_000 });
    await expect(session.call('labs', listResults, {})).toHaveRefused(40302, { check: 'peer' });
    expect(bed.trace.hops.find(({ to }) => to === 'labs')).toMatchObject({ outcome: 'refused', code: 401 });
  });

  describe('stale answer', () => {
    it.each<[string, boolean, number]>([
      ['of the patient before', true, 40901],
      ['of an earlier act on the same patient', false, 40903],
    ])('%s: the caller drops it', async (_, switching, code) => {
      await using bed = await createTestbed({ agents: [labs], people: [ann, bo] });
      const session = await bed.open(ann);
      await session.call('labs', listResults, {});
      if (switching) await bed.switch(session, bo);
      bed.fault('labs', listResults, 'stale answer');
      await expect(session.call('labs', listResults, {})).toHaveRefused(code, { check: 'result' });
      expect(bed.trace).toHaveAudited({ by: 'portal', event: 'hop.dropped', code, check: 'result' });
      await session.call('labs', listResults, {});
    });

    it('two hops away: the refusal of the middle agent comes back unchanged', async () => {
      await using bed = await createTestbed({ agents: [triage, labs, medications], people: [ann], interleave: false });
      const session = await bed.open(ann);
      await session.call('triage', assess, { reason: 'cough' });
      bed.fault('labs', listResults, 'stale answer');
      await expect(session.call('triage', assess, { reason: 'cough' })).toHaveRefused(40903, { check: 'result' });
      expect(bed.trace).toHaveAudited({ by: 'triage', event: 'hop.dropped', code: 40903 });
    });

    const found = { name: 'GET Observation' };

    it('of the FHIR server: rows of another patient are no answer to this one', async () => {
      await using bed = await createTestbed({ agents: [labs], people: [ann, bo], interleave: false });
      const session = await bed.open(ann);
      await session.call('labs', listResults, {});
      await bed.switch(session, bo);
      bed.fault('fhir', found, 'stale answer');
      await expect(session.call('labs', listResults, {})).toHaveRefused(40302, { check: 'argument' });
    });

    it('of the FHIR server, to an agent that asks it past its checked client, is caught by the trace', async () => {
      const naked = defineAgent('naked', (env) =>
        createHmcpHandler(() => {
          const server = new McpServer({ name: 'naked', version: '1.0.0' });
          patientTool(server, note, async () => {
            const { accessToken: subjectToken, context } = currentScope()?.facts ?? {};
            const resource = context?.fhirServer ?? '';
            const wish = { subjectToken: subjectToken ?? '', resource, scope: 'patient/Observation.rs' };
            const held = await env.tokens?.exchange(wish);
            const url = `${resource}/Observation?patient=${context?.patient}`;
            const answer = await env.fetch?.(url, { headers: { authorization: `Bearer ${held?.accessToken}` } });
            return { text: (await answer?.text()) ?? '' };
          });
          return server;
        }, env),
      );
      await using bed = await createTestbed({ agents: [naked], people: [ann, bo], interleave: false });
      const session = await bed.open(ann, { assurance: 'process' });
      await session.call('naked', note, {}).catch(() => undefined);
      await bed.switch(session, bo);
      bed.fault('fhir', found, 'stale answer');
      await session.call('naked', note, {}).catch(() => undefined);
      expect(() => expect(bed.trace).toStayOnPatient()).toThrow(
        `naked → fhir GET Observation about ${bo.name} was answered with values of ${ann.name}`,
      );
    });

    it('needs an earlier answer', async () => {
      await using bed = await createTestbed({ agents: [labs], people: [ann], interleave: false });
      expect(() => bed.fault('labs', listResults, 'stale answer')).toThrow('there is no earlier answer');
    });
  });

  describe('crash', () => {
    it('in the middle of the work: nobody gets an answer, nothing is served, and the agent starts anew', async () => {
      await using bed = await createTestbed({ agents: [triage, labs, medications], people: [ann, bo], interleave: false });
      const session = await bed.open(ann);
      bed.fault('labs', listResults, 'crash');
      await expect(session.call('triage', assess, { reason: 'cough' })).toHaveRefused(50301, { check: 'peer' });
      expect(bed.trace).not.toHaveAudited({ by: 'labs', event: 'request.served', tool: 'list-results' });
      expect(bed.trace.hops.filter(({ from, to }) => from === 'labs' && to === 'fhir')).toEqual([]);
      await session.call('triage', assess, { reason: 'cough' });
      expect(await bed.switch(session, bo)).toMatchObject({ result: 'committed' });
      await session.call('triage', assess, { reason: 'cough' });
      expect(await bed.verifyAudit('labs')).toMatchObject({ ok: true });
      expect(bed.trace).toStayOnPatient();
    });

    it('with the answer made: an effect was recorded and done, and nobody heard of it', async () => {
      await withOrders(async (agent) => {
        await using bed = await createTestbed({ agents: [agent], people: [ann], interleave: false });
        const session = await bed.open(ann);
        bed.fault('orders', draftOrder, 'crash');
        const asked = session.call('orders', draftOrder, { kind: 'service', text: 'Potassium again tomorrow' });
        await expect(asked).toHaveRefused(50301, { check: 'peer' });
        expect(bed.trace).toHaveAudited({ by: 'orders', event: 'effect.outcome', outcome: 0 });
        expect((await session.call('orders', listDrafts, {})).drafts).toHaveLength(1);
      });
    });

    it('takes what an agent remembers in its process, and leaves what is outside', async () => {
      const store: string[] = [];
      const counting = defineAgent('counting', (env) => {
        const memory: string[] = [];
        return createHmcpHandler(() => {
          const server = new McpServer({ name: 'counting', version: '1.0.0' });
          patientTool(server, note, async () => ({ text: `${memory.push('call')} of ${store.push('call')}` }));
          return server;
        }, env);
      });
      await using bed = await createTestbed({ agents: [counting], people: [ann], interleave: false });
      const session = await bed.open(ann);
      expect(await session.call('counting', note, {})).toEqual({ text: '1 of 1' });
      bed.fault('counting', note, 'crash');
      await expect(session.call('counting', note, {})).toHaveRefused(50301);
      expect(await session.call('counting', note, {})).toEqual({ text: '1 of 3' });
    });

    it.each(['fhir', 'context-manager'])('is of agents only, not of %s', async (party) => {
      await using bed = await createTestbed({ agents: [labs], people: [ann], interleave: false });
      expect(() => bed.fault(party, { name: 'anything' }, 'crash')).toThrow('only an agent can crash');
    });
  });

  it('befalls the manager, too: a switch whose answer is lost is asked about, and happens once', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann, bo], interleave: false });
    const session = await bed.open(ann);
    bed.fault('context-manager', { name: 'hmcp-context-switch' }, 'answer lost');
    expect(await bed.switch(session, bo)).toMatchObject({ result: 'committed', epoch: 2 });
    expect(bed.trace.audit.filter(({ event }) => event === 'switch.committed')).toHaveLength(1);
  });

  it.each<[string, Fault, string]>([
    ['a delay that is negative', { delayMs: -1 }, 'must not be negative'],
    ['a delay that is no number', { delayMs: Number.NaN }, 'must not be negative'],
    ['a delay without an end', { delayMs: Number.POSITIVE_INFINITY }, 'must be a number of milliseconds'],
    ['a delay in words', { delayMs: '5' as never }, 'must be a number of milliseconds'],
    ['one of another name', 'lost' as never, 'a fault is "request lost", "answer lost"'],
    ['nothing', undefined as never, 'this is none of them'],
    ['null', null as never, 'this is none of them'],
    ['an empty object', {} as never, 'this is none of them'],
  ])('is not %s', async (_, fault, expected) => {
    await using bed = await createTestbed({ agents: [labs], people: [ann], interleave: false });
    expect(() => bed.fault('labs', listResults, fault)).toThrow(expected);
  });

  it('cannot take an envelope from a request to the FHIR server, which has none', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann], interleave: false });
    expect(() => bed.fault('fhir', { name: 'GET Observation' }, 'context lost')).toThrow('no envelope to lose');
  });

  it('is printed, and whether it befell a call', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann], interleave: false });
    const session = await bed.open(ann);
    bed.fault('labs', { name: 'list-result' }, 'crash');
    bed.fault('labs', listResults, { delayMs: 1 });
    expect(bed.trace.toString()).toContain('— fault: delay of 1 ms at labs list-results, which befell no call');
    await session.call('labs', listResults, {});
    expect(bed.trace.toString()).toContain('— fault: delay of 1 ms at labs list-results\n');
    expect(bed.trace.toString()).toContain('— fault: crash at labs list-result, which befell no call\n');
  });

  it('is asked of agents of the testbed only', async () => {
    await using bed = await createTestbed({ agents: [triage, medications], interleave: false });
    expect(() => bed.fault('labs', listResults, 'request lost')).toThrow('no agent "labs"');
  });
});
