import { assess, labs, listResults, medications, triage } from '@hmcp/clinic';
import { definePatientTool } from '@hmcp/core';
import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { createTestbed, people, personFrom } from '@hmcp/testing';
import { McpServer } from '@modelcontextprotocol/server';
import { describe, expect, it, test } from 'vitest';
import * as z from 'zod';
import '@hmcp/testing/vitest';

const { adalinde: ann, beatrisa: bo } = people;

test('a late answer about Ann never reaches Bo', async () => {
  await using bed = await createTestbed({ agents: [triage, labs, medications], people: [ann, bo] });
  const session = await bed.open(ann);
  const held = bed.hold('labs', listResults); // stops there until released; no timers
  const late = session.call('triage', assess, { reason: 'cough' });
  await held.reached;
  await bed.switch(session, bo); // grant and confirmation answered by the testbed's person
  held.release();
  await expect(late).toHaveRefused(40901); // by triage, which the manager told, or at the portal: whoever is first
  expect(bed.trace).toStayOnPatient(); // and bed.trace.print() shows every hop
});

test('without a manager the portal itself drops the late answer', async () => {
  await using bed = await createTestbed({ agents: [triage, labs, medications], people: [ann, bo] });
  const session = await bed.open(ann, { assurance: 'process' });
  const held = bed.hold('labs', listResults);
  const late = session.call('triage', assess, { reason: 'cough' });
  await held.reached;
  expect((await bed.switch(session, bo)).result).toBe('committed');
  held.release();
  await expect(late).toHaveRefused(40901, { check: 'result' });
  expect(bed.trace).toStayOnPatient();
});

const note = definePatientTool({
  name: 'note',
  description: 'A note of the patient in context',
  scope: 'patient/Observation.rs',
  input: z.object({}),
  output: z.object({ text: z.string() }),
});

/** Forgets nothing: free text of the patient before is in the next answer. No compartment check can read it. */
function forgetful() {
  const seen: string[] = [];
  return defineAgent('notes', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'notes', version: '1.0.0' });
      patientTool(server, note, async (_, { fhir }) => {
        const found = (await fhir.search('Observation')) as { valueQuantity?: { value?: number } }[];
        seen.push(...found.flatMap(({ valueQuantity }) => (valueQuantity?.value === undefined ? [] : `${valueQuantity.value}`)));
        return { text: `Measured: ${seen.join(', ')}` };
      });
      return server;
    }, env),
  );
}

describe('a planted leak', () => {
  it('is caught on the hop and on the screen, with names', async () => {
    await using bed = await createTestbed({ agents: [forgetful()], people: [ann, bo], interleave: false });
    const session = await bed.open(ann);
    await session.call('notes', note, {});
    expect(bed.trace).toStayOnPatient();
    await bed.switch(session, bo);
    await session.call('notes', note, {});
    const which = `${ann.name} (139.21, 4.617, 102.31 and 25 more)`;
    expect(bed.trace.strays()).toEqual([
      `portal → notes note about ${bo.name} was answered with values of ${which}`,
      `notes note about ${bo.name} was delivered with values of ${which}`,
    ]);
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow(`answered with values of ${ann.name}`);
  });
});

describe('a pipeline that refuses', () => {
  const foreign = definePatientTool({
    name: 'somebody',
    description: 'Answers with whoever it likes',
    scope: 'patient/Observation.rs',
    input: z.object({ about: z.string().max(64).optional() }),
    output: z.object({ results: z.array(z.looseObject({})) }),
  });
  const mixed = defineAgent('mixed', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'mixed', version: '1.0.0' });
      patientTool(server, foreign, async () => ({
        results: [{ resourceType: 'Observation', id: 'x', subject: { reference: `Patient/${bo.id}` } }],
      }));
      return server;
    }, env),
  );

  it('withholds a result of another patient, says so in the audit, and nothing strays', async () => {
    await using bed = await createTestbed({ agents: [mixed], people: [ann, bo] });
    const session = await bed.open(ann);
    await expect(session.call('mixed', foreign, {})).toHaveRefused(40903, { check: 'result' });
    expect(bed.trace).toStayOnPatient();
    expect(bed.trace).toHaveAudited({ event: 'result.withheld', code: 40903, by: 'mixed' });
    expect(bed.trace.hops.at(-1)).toMatchObject({
      from: 'portal',
      to: 'mixed',
      outcome: 'refused',
      code: 40903,
      check: 'result',
    });
  });

  it('refuses an argument that names another patient before the agent is asked', async () => {
    await using bed = await createTestbed({ agents: [mixed], people: [ann, bo] });
    const session = await bed.open(ann);
    const asked = session.call('mixed', foreign, { about: `Patient/${bo.id}` });
    await expect(asked).toHaveRefused(40903, { check: 'argument' });
    expect(bed.trace).toStayOnPatient();
  });

  it('refuses what the launch did not grant, before anything is exchanged', async () => {
    await using bed = await createTestbed({ agents: [labs], people: [ann], scope: 'patient/MedicationRequest.rs' });
    const session = await bed.open(ann);
    await expect(session.call('labs', listResults, {})).toHaveRefused(40302, { check: 'scope' });
    expect(bed.trace.hops.filter(({ to }) => to === 'labs')).toEqual([]);
  });
});

describe('a trace', () => {
  it('says of a tool whose handler throws that it failed, and holds nothing of what it threw', async () => {
    const broken = defineAgent('notes', (env) =>
      createHmcpHandler(() => {
        const server = new McpServer({ name: 'notes', version: '1.0.0' });
        patientTool(server, note, async (_, { fhir }) => {
          throw new Error(JSON.stringify(await fhir.search('Observation')));
        });
        return server;
      }, env),
    );
    await using bed = await createTestbed({ agents: [broken], people: [ann, bo], interleave: false });
    const session = await bed.open(ann);
    await expect(session.call('notes', note, {})).rejects.toThrow('reported an error');
    expect(bed.trace.hops.find(({ to }) => to === 'notes')).toMatchObject({ outcome: 'failed' });
    expect(bed.trace.toString()).toContain(`portal → notes note · ${ann.name} · epoch 1: failed`);
  });

  it('tells two people of one name apart', async () => {
    const chart = (id: string, value: number, birthDate: string) => ({
      resourceType: 'Bundle',
      type: 'collection',
      entry: [
        {
          resource: {
            resourceType: 'Patient',
            id,
            name: [{ given: ['Cora'], family: 'Likewise' }],
            birthDate,
            identifier: [{ value: `MRN-${id}` }],
          },
        },
        {
          resource: {
            resourceType: 'Observation',
            id: `row-of-${id}`,
            status: 'final',
            code: { text: 'Potassium' },
            subject: { reference: `Patient/${id}` },
            valueQuantity: { value, unit: 'mmol/L' },
          },
        },
      ],
    });
    const [one, other] = [
      personFrom(chart('cora-first', 5.8731, '1961-03-04')),
      personFrom(chart('cora-second', 3.2879, '1972-09-21')),
    ];
    await using bed = await createTestbed({ agents: [labs], people: [one, other] });
    const session = await bed.open(one);
    await session.call('labs', listResults, {});
    await bed.switch(session, other);
    await session.call('labs', listResults, {});
    expect(bed.trace).toStayOnPatient();
  });
});
