import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { MAKES, pinned } from './support/existing-tool.js';
import { ANN, BO, NEVER, READ } from './support/world.js';

const SDKS = Object.keys(MAKES) as (keyof typeof MAKES)[];
const call = (name: string, args: object = {}) => ({ name, arguments: args });
const json = (value: unknown) => ({ content: [{ type: 'text', text: JSON.stringify(value) }] });

describe.each(SDKS)('%s: a row that says whose it is', (sdk) => {
  const rows = (whose: string) => ({ rows: [{ patientId: whose, potassium: 3.2 }] });
  const output = z.object({ rows: z.array(z.object({ patientId: z.string(), potassium: z.number() })) });
  const serve = (whose: string, said: 'text' | 'structured') =>
    pinned(
      sdk,
      (server) =>
        server.registerTool('newest', {}, () =>
          said === 'text' ? json(rows(whose)) : { content: [], structuredContent: rows(whose) },
        ),
      { tools: { newest: { ...READ, patientArgument: null, ...(said === 'text' ? {} : { output }) } } },
    );

  test.each(['text', 'structured'] as const)('is served to the patient it names (%s)', async (said) => {
    const p = await serve(ANN, said);
    expect((await p.ask('tools/call', call('newest'))).error).toBeUndefined();
    await p.close();
  });

  test.each(['text', 'structured'] as const)('is withheld from anybody else, though nothing in it is FHIR (%s)', async (said) => {
    const p = await serve(BO, said);
    const answer = await p.ask('tools/call', call('newest'));
    expect(answer.error).toMatchObject({ code: 40903, data: { check: 'result' } });
    for (const word of NEVER) expect(answer.text).not.toContain(word);
    expect(p.audit.records.at(-1)).toMatchObject({
      event: 'result.withheld',
      code: 40903,
      compared: [{ said: 'context' }, { said: 'result', pk: expect.any(String) }],
    });
    await p.close();
  });

  test('is judged by the declared argument’s own name too', async () => {
    const p = await pinned(
      sdk,
      (server) =>
        server.registerTool('by-chart', { inputSchema: z.object({ chart: z.string(), whose: z.string() }) }, ({ whose }) =>
          json([{ chart: whose }]),
        ),
      { tools: { 'by-chart': { ...READ, patientArgument: 'chart' } } },
    );
    expect((await p.ask('tools/call', call('by-chart', { whose: ANN }))).error).toBeUndefined();
    expect((await p.ask('tools/call', call('by-chart', { whose: BO }))).error).toMatchObject({
      code: 40903,
      data: { check: 'result' },
    });
    await p.close();
  });
});
