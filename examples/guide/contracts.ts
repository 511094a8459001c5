// What both sides know of a tool. Its input names no patient: the context does.
import { definePatientTool } from '@hmcp/core';
import * as z from 'zod';

const Result = z.object({
  subject: z.object({ reference: z.string() }),
  test: z.string(),
  value: z.number(),
  unit: z.string(),
  on: z.string(),
});

export const getLabs = definePatientTool({
  name: 'get-labs',
  description: 'Laboratory results of the patient in context',
  scope: 'patient/Observation.rs',
  input: z.object({ test: z.string().optional() }),
  output: z.object({ results: z.array(Result) }),
});
