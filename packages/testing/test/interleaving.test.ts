import { assess, labs, listResults, medications, triage } from '@hmcp/clinic';
import { definePatientTool } from '@hmcp/core';
import {
  type AgentDefinition,
  createHmcpHandler,
  createProtection,
  defineAgent,
  type PatientToolContext,
  patientTool,
} from '@hmcp/server';
import { createTestbed, type Population, people, type ServedAgent } from '@hmcp/testing';
import { McpServer, WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import '@hmcp/testing/vitest';

const { adalinde: ann, beatrisa: bo } = people;

const say = definePatientTool({
  name: 'say',
  description: 'Says what was measured',
  scope: 'patient/Observation.rs',
  input: z.object({ resource: z.string().optional() }),
  output: z.object({ text: z.string(), results: z.array(z.looseObject({})).optional() }),
});

type Rows = readonly { readonly valueQuantity?: { readonly value?: number } }[];
const measured = (rows: Rows): string => rows.flatMap(({ valueQuantity }) => valueQuantity?.value ?? []).join(', ');

/** An agent whose one tool is this function. */
function agentOf(
  handle: (context: PatientToolContext, args: { resource?: string | undefined }) => Promise<z.input<typeof say.output>>,
): AgentDefinition {
  return defineAgent('speaker', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'speaker', version: '1.0.0' });
      patientTool(server, say, async (args, context) => handle(context, args));
      return server;
    }, env),
  );
}

const search = async ({ fhir }: PatientToolContext): Promise<Rows> => (await fhir.search('Observation')) as Rows;

function cacheWithoutKey(): AgentDefinition {
  let cached: Rows | undefined;
  return agentOf(async (context) => {
    cached ??= await search(context);
    return { text: measured(cached) };
  });
}

function sharedVariable(): AgentDefinition {
  let current = '';
  return agentOf(async (context) => {
    current = measured(await search(context));
    await context.fhir.search('Observation', { category: 'laboratory' });
    return { text: current };
  });
}

function sharedFlight(): AgentDefinition {
  let flying: Promise<Rows> | undefined;
  return agentOf(async (context) => {
    flying ??= search(context).finally(() => {
      flying = undefined;
    });
    return { text: measured(await flying) };
  });
}

/** Of four calls, only the one that goes across the third answers with what another left. */
function sharedRows(): AgentDefinition {
  let current: readonly object[] = [];
  let calls = 0;
  return agentOf(async (context) => {
    calls += 1;
    const turn = calls;
    const rows = await search(context);
    if (turn === 2) await context.fhir.search('Observation', { category: 'laboratory' });
    else current = rows;
    if (turn > 2) return { text: measured(rows) };
    return { text: 'see the results', results: current as { [name: string]: unknown }[] };
  });
}

/** A server nobody wrote for HMCP, protected, with rows of its own. @param look finds the rows of a patient among all */
function ownRows(look: (rows: ReadonlyMap<string, Rows>, patient: string) => Rows): ServedAgent {
  const serverWith = (rows: ReadonlyMap<string, Rows>): McpServer => {
    const server = new McpServer({ name: 'speaker', version: '1.0.0' });
    const inputSchema = z.object({ patientId: z.string() });
    server.registerTool('say', { inputSchema }, ({ patientId }) => {
      const said = { text: measured(look(rows, patientId)) };
      return { structuredContent: said, content: [{ type: 'text', text: JSON.stringify(said) }] };
    });
    return server;
  };
  return {
    name: 'speaker',
    create(env, { people, chartOf }: Population) {
      const rows = new Map(people.map((person) => [person.id, chartOf(person, 'Observation') as Rows]));
      const operations = { tools: { say: { scope: say.scope, patientArgument: 'patientId' } } };
      const hmcp = createProtection({ ...env, operations });
      const fetch = hmcp.fetch(async (request, passed) => {
        const transport = new WebStandardStreamableHTTPServerTransport();
        await serverWith(rows).connect(hmcp.protect(transport));
        return transport.handleRequest(request, passed);
      });
      return { fetch };
    },
  };
}

describe('a server with rows of its own, which are about the doubles too,', () => {
  it('is interleaved as an agent is, and stays on its patient', async () => {
    await using bed = await createTestbed({ agents: [ownRows((rows, patient) => rows.get(patient) ?? [])], people: [ann] });
    const session = await bed.open(ann);
    expect((await session.call('speaker', say, {})).text).toMatch(/\d/);
    expect(bed.trace).toStayOnPatient();
  });

  it.each<[string, () => ServedAgent]>([
    [
      'keeps the first answer for everybody',
      () => {
        let first: Rows | undefined;
        return ownRows((rows, patient) => {
          first ??= rows.get(patient) ?? [];
          return first;
        });
      },
    ],
    ['answers with the rows of all', () => ownRows((rows) => [...rows.values()].flat())],
  ])('is found out when it %s', async (_, agent) => {
    await using bed = await createTestbed({ agents: [agent()], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, {});
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow('double');
  });

  it('is handed copies: what it does to its rows stays with it', async () => {
    const spoils: ServedAgent = {
      name: 'speaker',
      create(env, { people, chartOf }) {
        for (const person of people) for (const resource of chartOf(person)) Object.assign(resource, { id: 'gone' });
        return labs.create({ ...env });
      },
    };
    await using bed = await createTestbed({ agents: [spoils], people: [ann] });
    const { results } = await (await bed.open(ann)).call('speaker', listResults, {});
    expect(JSON.stringify(results)).not.toContain('gone');
    expect(results).not.toEqual([]);
  });
});

/** Calls that come while it collects are asked for at once, as by the first of them. */
function batched(collect: () => Promise<void>): AgentDefinition {
  let batch: Promise<Rows> | undefined;
  return agentOf(async (context) => {
    batch ??= collect().then(() => {
      batch = undefined;
      return search(context);
    });
    return { text: measured(await batch) };
  });
}

function sharedOverWait(wait: () => Promise<void>): AgentDefinition {
  let current = '';
  return agentOf(async (context) => {
    current = measured(await search(context));
    await wait();
    return { text: current };
  });
}

describe('a plain test of one patient finds', () => {
  it.each<[string, () => AgentDefinition, string]>([
    ['a cache without a key', cacheWithoutKey, `about ${ann.name} was delivered with values of ${ann.name}’s double`],
    ['a variable that is shared', sharedVariable, `was answered with values of ${ann.name}`],
    ['a request under way that is shared', sharedFlight, `about ${ann.name} was delivered with values of ${ann.name}’s double`],
  ])('%s', async (_, agent, stray) => {
    await using bed = await createTestbed({ agents: [agent()], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, {});
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow(stray);
  });

  it.each<[string, (wait: () => Promise<void>) => AgentDefinition]>([
    ['calls that are collected and asked for at once', batched],
    ['a variable that is shared over a wait of the agent', sharedOverWait],
  ])('%s', async (_, agentWith) => {
    const waits = async (): Promise<void> => {
      for (let turn = 0; turn < 200; turn += 1) {
        await new Promise((resolve) => setImmediate(resolve));
        await crypto.subtle.digest('SHA-256', new Uint8Array(1)); // as slow as what comes meanwhile
      }
    };
    await using bed = await createTestbed({ agents: [agentWith(waits)], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, {});
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow(`was answered with values of ${ann.name}`);
  });

  it.each<[string, () => AgentDefinition]>([
    ['a cache without a key', cacheWithoutKey],
    ['a variable that is shared', sharedVariable],
    ['a request under way that is shared', sharedFlight],
    ['rows that are shared', sharedRows],
  ])('nothing of that when interleaving is off: %s', async (_, agent) => {
    await using bed = await createTestbed({ agents: [agent()], people: [ann], interleave: false });
    const session = await bed.open(ann);
    await session.call('speaker', say, {});
    expect(bed.trace).toStayOnPatient();
    expect(bed.trace.toString()).not.toContain('‖');
  });

  it('rows that are shared, though the guard beside withholds them', async () => {
    await using bed = await createTestbed({ agents: [sharedRows()], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, {});
    expect(bed.trace.strays()).toEqual([
      `portal → speaker say about ${ann.name} was answered, and the same beside it about the double was refused 40903: something of somebody else had got into it`,
    ]);
  });
});

describe('interleaving', () => {
  it('lets a clean pipeline pass, prints what goes on beside, and keeps it out of hops and audit', async () => {
    await using bed = await createTestbed({ agents: [triage, labs, medications], people: [ann, bo] });
    const session = await bed.open(ann);
    await session.call('triage', assess, { reason: 'cough' });
    await bed.switch(session, bo);
    await session.act(async () => session.call('labs', listResults, { category: 'laboratory' }));
    expect(bed.trace).toStayOnPatient();
    expect(bed.trace.toString().match(/‖ portal → triage assess · Adalinde Testwright’s double: answered/g)).toHaveLength(3);
    expect(bed.trace.toString().match(/‖ portal → labs list-results · Beatrisa Testwright’s double: answered/g)).toHaveLength(3);
    expect(bed.trace.hops.filter(({ person }) => person?.endsWith('double'))).toEqual([]);
    expect(bed.trace.audit.filter(({ event, tool }) => event === 'request.served' && tool === 'assess')).toHaveLength(1);
    expect(bed.trace.audit.filter(({ by, event }) => event === 'request.served' && bed.trace.nameOf(by) === 'fhir')).toHaveLength(
      bed.trace.hops.filter(({ to }) => to === 'fhir').length,
    );
    for (const party of ['portal', 'triage', 'labs', 'fhir']) expect(await bed.verifyAudit(party)).toMatchObject({ ok: true });
  });

  it('asks about the double with its own ids', async () => {
    const asked: (string | undefined)[] = [];
    const agent = agentOf(async (context, { resource }) => {
      asked.push(resource);
      return { text: measured(await search(context)) };
    });
    await using bed = await createTestbed({ agents: [agent], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, { resource: `Patient/${ann.id}` });
    expect(asked).toHaveLength(4);
    expect(new Set(asked).size).toBe(2);
    expect(asked.filter((one) => one === `Patient/${ann.id}`)).toHaveLength(1);
    expect(bed.trace).toStayOnPatient();
  });

  it('never stands in the way of an agent that waits for the test', async () => {
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let reached = 0;
    const agent = agentOf(async (context) => {
      reached += 1;
      if (reached === 3) open();
      await gate;
      return { text: measured(await search(context)) };
    });
    await using bed = await createTestbed({ agents: [agent], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, {});
    expect(bed.trace).toStayOnPatient();
  });

  it('says so when what goes on beside never ends', async () => {
    const never = new Promise<void>(() => undefined);
    const agent = agentOf(async (context, { resource }) => {
      if (resource !== `Patient/${ann.id}`) await never;
      return { text: measured(await search(context)) };
    });
    await using bed = await createTestbed({ agents: [agent], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, { resource: `Patient/${ann.id}` });
    expect(bed.trace.strays()).toEqual([]);
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow('speaker say (under way)');
  });

  it('says so when it proves nothing', async () => {
    const known = agentOf(async (context) => {
      const text = measured(await search(context));
      if (!text.includes('.') || /\d\.\d{4}/.test(text)) throw new Error('not one of mine');
      return { text };
    });
    await using bed = await createTestbed({ agents: [known], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, {});
    expect(bed.trace.strays()).toEqual([]);
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow('`interleave: false`');
  });

  it('says so of each tool: one that is proven proves nothing about another', async () => {
    const known = agentOf(async (context) => {
      const text = measured(await search(context));
      if (/\d\.\d{4}/.test(text)) throw new Error('not one of mine');
      return { text };
    });
    await using bed = await createTestbed({ agents: [known, labs], people: [ann] });
    const session = await bed.open(ann);
    await session.call('labs', listResults, {});
    expect(bed.trace).toStayOnPatient();
    await session.call('speaker', say, {});
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow('at speaker say (failed)');
  });
});

describe('a value is found on the wire', () => {
  it.each<[string, (value: string) => string]>([
    ['at the start of a line', (value) => `it was\n${value}`],
    ['before its unit, without a space', (value) => `it was ${value}mmol/L`],
    ['behind its name, without a space', (value) => `K${value}`],
    ['behind a tab', (value) => `it was\t${value}`],
    ['in JSON inside a text, on a line of its own', (value) => JSON.stringify({ was: `it was\n${value}` })],
    ['behind what is written by its number', (value) => `it was\u0001${value}`],
    ['behind a word that begins with a backslash', (value) => `\\new ${value}`],
  ])('%s', async (_, put) => {
    let last = 'nothing';
    const agent = agentOf(async (context) => {
      const before = last;
      last = measured((await search(context)).slice(0, 1));
      return { text: put(before) };
    });
    await using bed = await createTestbed({ agents: [agent], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, {});
    expect(bed.trace.strays().join('\n')).toContain(
      `portal → speaker say about ${ann.name} was answered with values of ${ann.name}’s double (`,
    );
  });
});

describe('what reached the screen is looked at', () => {
  const kept = { of: bo.id };
  const itself: { self?: object; of: string } = { of: bo.id };
  itself.self = itself;
  it.each<[string, unknown]>([
    ['a text', `as with ${bo.id}`],
    ['a map', new Map([['row', { [bo.id]: 1 }]])],
    ['a set', new Set([kept])],
    ['what refers to itself', itself],
    ['an error', new Error(bo.id)],
    ['what is deep', [[[[[[[[kept]]]]]]]]],
  ])('also in %s', async (_, value) => {
    await using bed = await createTestbed({ agents: [labs], people: [ann, bo] });
    const session = await bed.open(ann);
    await session.act(async () => value);
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow(`about ${ann.name} was delivered with values of ${bo.name}`);
  });
});

describe('a refusal hides nothing', () => {
  const note = definePatientTool({
    name: 'note',
    description: 'Takes a text',
    scope: 'patient/Observation.rs',
    input: z.object({ text: z.string() }),
    output: z.object({}),
  });
  /** Asks its FHIR server for what it may not: its handler has read the text, and the call is refused all the same. */
  const failing = defineAgent('keeper', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'keeper', version: '1.0.0' });
      patientTool(server, note, async (_, { fhir }) => {
        await fhir.search('Observation', { patient: 'x' });
        return {};
      });
      return server;
    }, env),
  );

  it('of what an agent sent on', async () => {
    let last = 'nothing';
    const agent = agentOf(async (context) => {
      const before = last;
      last = measured(await search(context));
      await context.call('keeper', note, { text: before }).catch(() => undefined);
      return { text: 'done' };
    });
    await using bed = await createTestbed({ agents: [agent, failing], people: [ann] });
    const session = await bed.open(ann);
    await session.call('speaker', say, {});
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow(
      `speaker → keeper note about ${ann.name} was asked with values of ${ann.name}’s double`,
    );
  });

  it('of what an agent said before it', async () => {
    let last = 'nothing';
    const agent = defineAgent('speaker', (env) =>
      createHmcpHandler(
        () => {
          const server = new McpServer({ name: 'speaker', version: '1.0.0' }, { capabilities: { logging: {} } });
          server.registerTool('say', { inputSchema: say.input }, async ({ resource = '' }, ctx) => {
            const before = last;
            last = resource;
            await ctx.mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data: before } });
            await env.outbound?.call('nobody', say, {});
            return { content: [] };
          });
          return server;
        },
        { ...env, operations: { tools: { say: { scope: say.scope } } } },
      ),
    );
    await using bed = await createTestbed({ agents: [agent], people: [ann] });
    const session = await bed.open(ann);
    await expect(session.call('speaker', say, { resource: ann.name })).toHaveRefused(42801, { check: 'peer' });
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow(
      `portal → speaker say about ${ann.name} was answered with values of ${ann.name}’s double`,
    );
  });

  it('but what the test itself asked for, and was refused, stayed where it was', async () => {
    const agent = agentOf(async (context) => ({ text: measured(await search(context)) }));
    await using bed = await createTestbed({ agents: [agent], people: [ann, bo] });
    const session = await bed.open(ann);
    await expect(session.call('speaker', say, { resource: `Patient/${bo.id}` })).toHaveRefused(40903, { check: 'argument' });
    expect(bed.trace).toStayOnPatient();
  });
});
