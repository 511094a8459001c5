import type { StandardSchemaWithJSON } from '@modelcontextprotocol/server';
import type * as z from 'zod';

const listed = new WeakMap<z.ZodObject, StandardSchemaWithJSON>();

/**
 * A contract's schema for the SDK, whose JSON Schema is made once: an SDK server lives for one request, and each would make it anew.
 * It is frozen, since all of them share it.
 */
export function listedSchema(schema: z.ZodObject): StandardSchemaWithJSON {
  const known = listed.get(schema);
  if (known !== undefined) return known;
  const standard = schema['~standard'] as StandardSchemaWithJSON['~standard'];
  const made = new Map<string, Record<string, unknown>>();
  const once: StandardSchemaWithJSON['~standard']['jsonSchema'] = {
    input: (options) => {
      const json = made.get(options.target) ?? deepFreeze(standard.jsonSchema.input(options));
      made.set(options.target, json);
      return json;
    },
    output: (options) => standard.jsonSchema.output(options),
  };
  const schemaOfSdk: StandardSchemaWithJSON = { '~standard': { ...standard, jsonSchema: once } };
  listed.set(schema, schemaOfSdk);
  return schemaOfSdk;
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) deepFreeze(inner);
  return Object.freeze(value);
}
