import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Session } from '@hmcp/agent';
import { assess, draftOrder, labs, listResults, medications, openOrderBook, orders, partOfOrders, triage } from '@hmcp/clinic';
import { createTestbed, people, type ServedAgent, type Testbed, type TestPerson } from '@hmcp/testing';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { describe, expect, it, vi } from 'vitest';
import '@hmcp/testing/vitest';

const { adalinde: ann, beatrisa: bo } = people;
const agents = [triage, labs, medications];

describe('a testbed', () => {
  it('serves a chain of agents with real tokens, seals and audit chains', async () => {
    await using bed = await createTestbed({ agents, people: [ann, bo] });
    const session = await bed.open(ann);
    const { considered } = await session.call('triage', assess, { reason: 'cough' });
    expect(considered.results).toBeGreaterThan(0);
    expect(session).toMatchObject({ assurance: 'manager', epoch: 1 });
    expect(bed.trace).toStayOnPatient();
    expect(bed.trace).toHaveAudited({ by: 'labs', event: 'request.served', hop: 2, epoch: 1, actors: ['triage'] });
    for (const party of ['portal', 'triage', 'labs', 'medications', 'fhir', 'context-manager'])
      expect(await bed.verifyAudit(party)).toMatchObject({ ok: true });
  });

  it('carries what is no token to whoever refuses it', async () => {
    let asked: typeof fetch | undefined;
    const agent: ServedAgent = {
      name: 'careless',
      create: (env) => {
        asked = env.fetch;
        return { fetch: async () => new Response(null, { status: 404 }) };
      },
    };
    await using bed = await createTestbed({ agents: [agent], people: [ann] });
    const headers = { authorization: 'Bearer nonsense' };
    const answer = await asked?.('https://fhir.testbed.example/r4/Observation', { headers });
    expect(answer?.status).toBe(401);
    expect(bed.trace.hops).toMatchObject([{ from: 'careless', to: 'fhir', person: undefined, outcome: 'refused', code: 401 }]);
  });

  it('switches, and works on the next patient', async () => {
    await using bed = await createTestbed({ agents, people: [ann, bo] });
    const session = await bed.open(ann);
    const before = await session.call('labs', listResults, {});
    expect(await bed.switch(session, bo)).toMatchObject({ result: 'committed', epoch: 2, revoked: true });
    const after = await session.call('labs', listResults, {});
    expect(after.results).not.toEqual(before.results);
    expect(bed.trace).toStayOnPatient();
    expect(bed.trace).toHaveAudited({ by: 'context-manager', event: 'switch.committed', epoch: 2 });
  });

  it('stays where it was when the person declines', async () => {
    await using bed = await createTestbed({ agents, people: [ann, bo] });
    const session = await bed.open(ann);
    expect(await bed.switch(session, bo, { confirm: async () => 'decline' })).toMatchObject({ result: 'aborted', epoch: 1 });
    await session.call('labs', listResults, {});
    expect(bed.trace).toStayOnPatient();
    expect(bed.trace.toString()).toContain(`switch aborted`);
  });

  it('has effectors: an order is drafted with a permit, and a switch asks for two identifiers', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'testbed-'));
    const book = await openOrderBook({ file: join(folder, 'book') });
    try {
      await using bed = await createTestbed({ agents: [{ agent: orders(book), ...partOfOrders(book) }], people: [ann, bo] });
      const session = await bed.open(ann);
      await session.call('orders', draftOrder, { kind: 'service', text: 'Potassium again tomorrow' });
      expect(bed.trace).toHaveAudited({ by: 'context-manager', event: 'permit.granted' });
      const fields: string[] = [];
      const report = await bed.switch(session, bo, {
        confirm: async (dialog) => {
          fields.push(...dialog.fields.map(({ name }) => name));
          return { birthDate: bo.birthDate, recordNumberLast4: bo.recordNumberLast4 };
        },
      });
      expect(report).toMatchObject({ result: 'committed', saved: 1, lost: 0 });
      expect(fields).toEqual(['birthDate', 'recordNumberLast4']);
      expect(bed.trace).toStayOnPatient({ without: ['orders draft-order'] }); // it answers with a handle
    } finally {
      await book.close();
      await rm(folder, { recursive: true });
    }
  });

  it('refuses a token whose time is over once the clock is moved', async () => {
    await using bed = await createTestbed({ agents, people: [ann] });
    const session = await bed.open(ann);
    await session.call('labs', listResults, {});
    bed.clock.advance(3_600_000);
    await expect(session.call('labs', listResults, {})).toHaveRefused(40302);
  });

  it('goes on with a renewed grant', async () => {
    await using bed = await createTestbed({ agents, people: [ann] });
    const session = await bed.open(ann);
    bed.clock.advance(3_000_000);
    session.renew(await bed.launch(ann));
    bed.clock.advance(3_000_000);
    await session.call('labs', listResults, {});
    expect(bed.trace).toStayOnPatient();
  });

  it('holds a call before it arrives, too, and lets everything go when it is closed', async () => {
    const bed = await createTestbed({ agents, people: [ann] });
    const session = await bed.open(ann);
    const held = bed.hold('labs', listResults, { at: 'request' });
    const call = session.call('labs', listResults, {});
    await held.reached;
    expect(bed.trace.hops.at(-1)).toMatchObject({ to: 'labs', outcome: 'under way' });
    await bed.close();
    await expect(call).toHaveRefused(40901);
    await expect(session.call('labs', listResults, {})).toHaveRefused(41001);
  });

  it.each<[string, (bed: Testbed) => { reached: Promise<void>; call: (session: Session) => Promise<unknown> }]>([
    [
      'is never made, for the call that would make it is refused before',
      (bed) => ({
        reached: bed.hold('labs', listResults).reached,
        call: (session) => session.call('triage', assess, { patientId: bo.id } as never),
      }),
    ],
    [
      'is of a tool nobody calls',
      (bed) => ({
        reached: bed.hold('labs', { name: 'list-result' }).reached,
        call: (session) => session.act(() => session.call('labs', listResults, {})),
      }),
    ],
    [
      'gets no answer that could be held',
      (bed) => {
        bed.fault('labs', listResults, 'request lost');
        return { reached: bed.hold('labs', listResults).reached, call: (session) => session.call('labs', listResults, {}) };
      },
    ],
  ])('a held call that %s ends the wait for it in a sentence that names agent and tool', async (_, make) => {
    await using bed = await createTestbed({ agents, people: [ann] });
    const session = await bed.open(ann);
    const { reached, call } = make(bed);
    call(session).catch(() => undefined);
    await expect(reached).rejects.toThrow(
      /^"list-results?" at "labs" was (not called|called, and never .*) before everything sessions were asked for had ended: look/,
    );
  });

  it('waits for a held call as long as one may still come', async () => {
    await using bed = await createTestbed({ agents, people: [ann] });
    const session = await bed.open(ann);
    const held = bed.hold('labs', listResults);
    const { reached } = held;
    // Asked for something else first, and asked anew in the turn in which that has ended.
    const call = session.call('triage', assess, { patientId: bo.id } as never).catch(() => session.call('labs', listResults, {}));
    await reached;
    held.release();
    await call;
    await held.reached;
  });

  it('a wait for a held call ends when the testbed closes, or the hold is released', async () => {
    const bed = await createTestbed({ agents: [labs], people: [ann] });
    const [released, closed] = [bed.hold('labs', listResults), bed.hold('labs', listResults)];
    const waits = [released.reached, closed.reached];
    released.release();
    await bed.close();
    await expect(waits[0]).rejects.toThrow('"list-results" at "labs" was not called before it was released');
    await expect(waits[1]).rejects.toThrow('"list-results" at "labs" was not called before the testbed closed');
  });

  it('prints every hop, the switch and what was delivered', async () => {
    await using bed = await createTestbed({ agents, people: [ann, bo] });
    const session = await bed.open(ann);
    await session.call('triage', assess, { reason: 'cough' });
    await bed.switch(session, bo);
    let printed = '';
    bed.trace.print({ write: (text: string) => (printed += text) });
    expect(printed.split('\n')).toEqual(
      expect.arrayContaining([
        `— session opened at ${ann.name}`,
        `  portal → triage assess · ${ann.name} · epoch 1: answered`,
        `  triage → labs list-results · ${ann.name} · epoch 1: answered`,
        `  labs → fhir GET Observation · ${ann.name}: answered`,
        `  delivered: triage assess about ${ann.name}`,
        `— switch committed, at ${bo.name}`,
      ]),
    );
  });

  it.each<[string, Parameters<typeof createTestbed>[0], RegExp]>([
    ['one agent twice', { agents: [labs, labs] }, /"labs" is used twice/],
    ['a person who is not shipped', { agents: [], people: [{ ...ann, id: 'else' }] }, /people that this package ships/],
  ])('is not made with %s', async (_, options, expected) => {
    await expect(createTestbed(options)).rejects.toThrow(expected);
  });

  it('knows only its own people and agents', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann] });
    await expect(bed.open(bo)).rejects.toThrow('not in the testbed');
    expect(() => bed.hold('triage', assess)).toThrow('no agent "triage"');
    expect(() => bed.verifyAudit('triage')).toThrow('no party "triage"');
    expect(() => bed.clock.advance(-1)).toThrow('forward');
    expect(() => bed.clock.advance(Number.POSITIVE_INFINITY)).toThrow('milliseconds');
    expect(() => bed.hold('labs', listResults, { at: 'later' as never })).toThrow('"request" or "answer"');
  });

  it('tells the test, and does not abort in silence, when a switch leads to nobody or is of another testbed', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann] });
    await using other = await createTestbed({ agents: [labs], people: [ann, bo] });
    const session = await bed.open(ann);
    await expect(bed.switch(session, bo)).rejects.toThrow(/^this person is not in the testbed$/);
    await expect(other.switch(session, bo)).rejects.toThrow('not opened in this testbed');
    expect(session.epoch).toBe(1);
  });
});

describe('a client one did not write', () => {
  it.each<[string, (bed: Testbed, session: Session, url: URL) => StreamableHTTPClientTransport]>([
    ['by its fetch', (_, session, url) => new StreamableHTTPClientTransport(url, { fetch: session.fetch })],
    ['by its transport', (bed, session, url) => session.transport(new StreamableHTTPClientTransport(url, { fetch: bed.fetch }))],
  ])('is put on a session %s, and is traced and interleaved as any other', async (_, on) => {
    await using bed = await createTestbed({ agents, people: [ann] });
    const session = await bed.open(ann);
    const client = new Client({ name: 'foreign', version: '1.0.0' });
    await session.act(async () => {
      await client.connect(on(bed, session, new URL('https://labs.testbed.example/mcp')));
      return client.callTool({ name: 'list-results', arguments: {} });
    });
    await client.close();
    expect(bed.trace).toStayOnPatient();
    expect(bed.trace).toHaveAudited({ by: 'labs', event: 'request.served', tool: 'list-results' });
    expect(bed.trace.toString().match(/‖ portal → labs list-results/g)).toHaveLength(3);
  });
});

describe('under fake timers, a testbed', () => {
  it('works as long as they leave `setImmediate`', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'setInterval'] });
    try {
      await using bed = await createTestbed({ agents, people: [ann, bo] });
      const session = await bed.open(ann);
      const held = bed.hold('labs', listResults);
      const late = session.call('triage', assess, { reason: 'cough' });
      await held.reached;
      expect(await bed.switch(session, bo)).toMatchObject({ result: 'committed' });
      held.release();
      await expect(late).toHaveRefused(40901);
      await session.call('triage', assess, { reason: 'cough' });
    } finally {
      vi.useRealTimers();
    }
  });

  it('says so when they do not, and hangs nowhere', async () => {
    const bed = await createTestbed({ agents, people: [ann, bo] });
    const session = await bed.open(ann);
    vi.useFakeTimers();
    try {
      await session.call('labs', listResults, {});
      await expect(bed.switch(session, bo)).rejects.toThrow('`setImmediate` was replaced');
      await expect(createTestbed({ agents })).rejects.toThrow('`setImmediate` was replaced');
      await bed.close();
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('the people', () => {
  it.each(Object.entries(people))('%s has what a confirmation asks for', (given, person: TestPerson) => {
    expect(person.name.toLowerCase()).toContain(given);
    expect(person.birthDate).toMatch(/^\d{4}-\d{2}-\d{2}$/);
    expect(person.recordNumberLast4).toHaveLength(4);
  });
});
