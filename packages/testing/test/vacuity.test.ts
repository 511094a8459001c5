import { definePatientTool } from '@hmcp/core';
import { type AgentDefinition, createHmcpHandler, createProtection, defineAgent, patientTool } from '@hmcp/server';
import { createTestbed, people, type ServedAgent, type TestPerson, withValues } from '@hmcp/testing';
import { McpServer, WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import '@hmcp/testing/vitest';
import { doublesOf } from '../src/double.js';
import { chartsOf } from '../src/people.js';
import { vacuitiesOf } from '../src/vacuity.js';

const ada = withValues(people.adalinde, ['Penicillin: anaphylaxis']);
const bea = withValues(people.beatrisa, ['Latex: rash']);

const listAllergies = definePatientTool({
  name: 'list-allergies',
  description: 'Allergies of the patient in context',
  scope: 'patient/AllergyIntolerance.rs',
  input: z.object({}),
  output: z.object({ allergies: z.array(z.string()) }),
});

const advise = definePatientTool({
  name: 'advise',
  description: 'What the patient in context must not get',
  scope: 'patient/hmcp:read',
  onward: 'patient/AllergyIntolerance.rs',
  input: z.object({}),
  output: z.object({ avoid: z.array(z.string()) }),
});

const known = [ada, bea].map(({ id, values = [] }) => [id, values] as const);

/** A server of somebody's own behind `createProtection`: rows in words, by the id of the patient. It knows nobody else. */
function allergies(rows: ReadonlyMap<string, readonly string[]> = new Map(known)): ServedAgent {
  return {
    name: 'allergies',
    create(env) {
      const declared = { scope: listAllergies.scope, patientArgument: 'patientId' };
      const hmcp = createProtection({ ...env, operations: { tools: { 'list-allergies': declared } } });
      const fetch = hmcp.fetch(async (request, passed) => {
        const server = new McpServer({ name: 'allergies', version: '1.0.0' });
        server.registerTool(
          'list-allergies',
          { description: 'Allergies', inputSchema: z.object({ patientId: z.string() }) },
          ({ patientId }) => ({
            content: [{ type: 'text', text: JSON.stringify({ allergies: rows.get(patientId) ?? [] }) }],
          }),
        );
        const transport = new WebStandardStreamableHTTPServerTransport({});
        await server.connect(hmcp.protect(transport));
        return transport.handleRequest(request, passed);
      });
      return { fetch };
    },
  };
}

/** Asks the server; with a cache that has no key, only once. */
function advisor(cached: boolean): AgentDefinition {
  let before: { avoid: string[] } | undefined;
  return defineAgent('advisor', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'advisor', version: '1.0.0' });
      patientTool(server, advise, async (_, { call }) => {
        if (before !== undefined && cached) return before;
        const { allergies: found } = await call('allergies', listAllergies, {});
        before = { avoid: [...found] }; // words of its own: the guard knows the list of another patient again
        return before;
      });
      return server;
    }, env),
  );
}

interface Run {
  readonly cached: boolean;
  readonly people: readonly [TestPerson, TestPerson];
  readonly interleave?: boolean;
  readonly rows?: ReadonlyMap<string, readonly string[]>;
}

/** The reader's test: asks about one, switches, asks about the other. Answers what was delivered, and what the matcher says. */
async function run({ cached, people: [first, second], interleave, rows }: Run) {
  const agents = [advisor(cached), allergies(rows)];
  await using bed = await createTestbed({ agents, people: [first, second], interleave });
  const session = await bed.open(first);
  const told = [(await session.call('advisor', advise, {})).avoid];
  await bed.switch(session, second);
  told.push((await session.call('advisor', advise, {})).avoid);
  let said = 'passed';
  try {
    expect(bed.trace).toStayOnPatient();
  } catch (error) {
    said = `${error}`;
  }
  return { told, said };
}

const { adalinde, beatrisa } = people;

describe('a cache without a key, before a server with rows of its own', () => {
  it('fails as vacuous in the default configuration, though the cache holds nothing but the nothing of the double', async () => {
    const { told, said } = await run({ cached: true, people: [adalinde, beatrisa] });
    expect(told).toEqual([[], []]);
    expect(said).toContain('this test is vacuous');
    expect(said).toContain(`- advisor advise about ${ada.name}\n- advisor advise about ${bea.name}\n`);
    // What would turn it green is the last thing said, and no code to paste.
    expect(said).toMatch(
      /First declare the values of your own rows[\s\S]*\n[^\n]*toStayOnPatient\(\{ without: \['agent tool'\] \}\)/,
    );
  });

  it('fails as vacuous without interleaving, too: words are no values', async () => {
    const { told, said } = await run({ cached: true, people: [adalinde, beatrisa], interleave: false });
    expect(told).toEqual([ada.values, ada.values]);
    expect(said).toContain('this test is vacuous');
    expect(said).toContain(`- allergies list-allergies about ${ada.name}\n`);
  });

  it('is named once the words are declared', async () => {
    const { said } = await run({ cached: true, people: [ada, bea], interleave: false });
    expect(said).toContain(`advisor advise about ${bea.name} was delivered with values of ${ada.name}`);
    expect((await run({ cached: false, people: [ada, bea], interleave: false })).said).toBe('passed');
  });

  it('is no silent pass with words declared and a double nobody knows, and neither is the mended one', async () => {
    expect((await run({ cached: true, people: [ada, bea] })).said).toContain('this test is vacuous');
    const { told, said } = await run({ cached: false, people: [ada, bea] });
    expect(told).toEqual([ada.values, bea.values]);
    expect(said).toContain(`- advisor advise about ${ada.name}’s double\n`);
    expect(said).toContain('a double without rows is answered with nothing');
  });

  it('is found by interleaving where the server has rows of the doubles, of what is declared of them', async () => {
    const doubles = doublesOf([ada, bea], chartsOf([ada, bea])).map(({ person }) => person);
    const rows = new Map([...known, ...doubles.map(({ id, values = [] }) => [id, values] as const)]);
    const { said } = await run({ cached: true, people: [ada, bea], rows });
    expect(said).toContain(`advisor advise about ${ada.name} was delivered with values of ${ada.name}’s double`);
    expect((await run({ cached: false, people: [ada, bea], rows })).said).toBe('passed');
  });
});

const count = definePatientTool({
  name: 'count',
  description: 'How much there is, for whom one says',
  scope: 'patient/Observation.rs',
  input: z.object({ about: z.string().optional() }),
  output: z.object({ count: z.int(), about: z.string().optional() }),
});

/** Answers without a value, and echoes what it was given. */
const counter = defineAgent('counter', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'counter', version: '1.0.0' });
    patientTool(server, count, async ({ about }) => ({ count: 3, about }));
    return server;
  }, env),
);

describe('an answer without a value', () => {
  it('fails toStayOnPatient, until it is said to be so', async () => {
    await using bed = await createTestbed({ agents: [counter], people: [adalinde] });
    await (await bed.open(adalinde)).call('counter', count, {});
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow('this test is vacuous');
    expect(bed.trace.vacuities()).toEqual([{ tool: 'counter count', person: adalinde }]);
    expect(bed.trace).toStayOnPatient({ without: ['counter count'] });
  });

  it.each([
    ['the id of the patient', adalinde.id],
    ['a value the caller sent', adalinde.birthDate],
  ])('is one that only echoes %s', async (_, about) => {
    await using bed = await createTestbed({ agents: [counter], people: [adalinde], interleave: false });
    await (await bed.open(adalinde)).call('counter', count, { about });
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow('this test is vacuous');
  });

  it.each([
    'counter',
    'counter counts',
    'Counter count',
    'counter  count',
    '',
  ])('is not waived under a name that nobody called: %j', async (name) => {
    await using bed = await createTestbed({ agents: [counter], people: [adalinde], interleave: false });
    await (await bed.open(adalinde)).call('counter', count, {});
    expect(() => expect(bed.trace).toStayOnPatient({ without: ['counter count', name] })).toThrow(`"${name}", said to be`);
  });

  it('proves neither that something stayed nor that something strayed', async () => {
    await using bed = await createTestbed({ agents: [counter], people: [adalinde], interleave: false });
    expect(() => expect(bed.trace).not.toStayOnPatient()).toThrow('nothing was asked');
    await (await bed.open(adalinde)).call('counter', count, {});
    expect(() => expect(bed.trace).not.toStayOnPatient()).toThrow('this test is vacuous');
  });
});

describe('what was told', () => {
  const answer = (tool: string, person: TestPerson, telling: boolean, aside = false) => ({ tool, person, telling, aside });

  it.each<[string, ReturnType<typeof answer>[], string[]]>([
    ['nothing', [], []],
    ['one value of everybody', [answer('a x', ada, true), answer('a x', bea, true)], []],
    ['a value, and later none', [answer('a x', ada, true), answer('a x', ada, false)], []],
    ['values of one, none of the other', [answer('a x', ada, true), answer('a x', bea, false)], [`a x ${bea.name}`]],
    ['values by one tool, none by the other', [answer('a x', ada, true), answer('a y', ada, false)], [`a y ${ada.name}`]],
    ['none of the double', [answer('a x', ada, true), answer('a x', bea, false, true)], [`a x ${bea.name}`]],
    ['none at all', [answer('a x', ada, false), answer('a x', bea, false, true)], [`a x ${ada.name}`]],
    ['something beside only', [answer('a x', bea, false, true)], []],
  ])('%s', (_, answers, expected) => {
    expect(vacuitiesOf(answers).map(({ tool, person }) => `${tool} ${person.name}`)).toEqual(expected);
  });
});

describe('a tool that is named as one without values', () => {
  const results = definePatientTool({
    name: 'results',
    description: 'What was measured, in words',
    scope: 'patient/Observation.rs',
    input: z.object({}),
    output: z.object({ text: z.string() }),
  });
  /** Says what was measured; one that remembers says it of everybody. */
  function speaker(remembers: boolean): AgentDefinition {
    let known: string | undefined;
    return defineAgent('speaker', (env) =>
      createHmcpHandler(() => {
        const server = new McpServer({ name: 'speaker', version: '1.0.0' });
        patientTool(server, results, async (_, { fhir }) => {
          const rows = (await fhir.search('Observation')) as { valueQuantity?: { value?: number } }[];
          const text = rows.flatMap(({ valueQuantity }) => valueQuantity?.value ?? []).join(', ');
          known ??= text;
          return { text: remembers ? known : text };
        });
        return server;
      }, env),
    );
  }
  const { adalinde, dorothix } = people;

  it.each([
    [false, undefined],
    [true, `about ${dorothix.name} was answered with values of ${adalinde.name}`],
  ])('because somebody has no rows there, still shows the values of others (it remembers: %s)', async (remembers, stray) => {
    await using bed = await createTestbed({ agents: [speaker(remembers)], interleave: false, people: [adalinde, dorothix] });
    const session = await bed.open(adalinde);
    await session.call('speaker', results, {});
    await bed.switch(session, dorothix);
    await session.call('speaker', results, {});
    const judge = () => expect(bed.trace).toStayOnPatient({ without: ['speaker results'] });
    if (stray === undefined) judge();
    else expect(judge).toThrow(stray);
    if (stray === undefined) expect(() => expect(bed.trace).toStayOnPatient()).toThrow('about somebody who has no such rows');
  });
});
