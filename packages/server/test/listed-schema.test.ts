import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { listedSchema } from '../src/listed-schema.js';

const TARGET = { target: 'draft-2020-12' } as const;

describe('the schema of a contract, as the SDK is given it', () => {
  const contract = z.object({ category: z.enum(['laboratory', 'imaging']).optional() });
  const standard = listedSchema(contract)['~standard'];

  it('lists what zod lists', () => {
    expect(standard.jsonSchema.input(TARGET)).toEqual(z.toJSONSchema(contract, { ...TARGET, io: 'input' }));
    expect(standard.jsonSchema.output(TARGET)).toEqual(z.toJSONSchema(contract, { ...TARGET, io: 'output' }));
  });

  it('is made once for all requests, and nobody can change it for the next', () => {
    expect(listedSchema(contract)['~standard'].jsonSchema.input(TARGET)).toBe(standard.jsonSchema.input(TARGET));
    const { properties } = standard.jsonSchema.input(TARGET) as { properties: Record<string, unknown> };
    expect(() => {
      properties.patientId = { type: 'string' };
    }).toThrow(TypeError);
  });

  it('is not the one of another contract', () => {
    const other = z.object({ reason: z.string() });
    expect(listedSchema(other)['~standard'].jsonSchema.input(TARGET)).not.toEqual(standard.jsonSchema.input(TARGET));
  });

  it.each([
    { category: 'x-ray' },
    { category: 7 },
    { category: null },
    [],
    'laboratory',
    null,
  ])('refuses %j as zod does', async (value) => {
    const { issues } = await standard.validate(value);
    expect(issues?.map(({ message }) => message)).toEqual(contract.safeParse(value).error?.issues.map(({ message }) => message));
  });
});
