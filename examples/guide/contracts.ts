// #region labs
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
// #endregion

// #region summary
export const summarize = definePatientTool({
  name: 'summarize',
  description: 'What stands out in the results of the patient in context',
  scope: 'patient/hmcp:read', // what this agent itself asks for
  onward: 'patient/Observation.rs', // what the agents behind it ask for
  input: z.object({ above: z.number() }),
  output: z.object({ considered: z.int(), above: z.array(z.string()) }),
});
// #endregion

// #region note
export const writeNote = definePatientTool({
  name: 'write-note',
  description: 'Drafts a note on the patient in context',
  scope: 'patient/hmcp:write', // it changes something: an effect
  input: z.object({ text: z.string() }),
  output: z.object({ note: z.string() }),
});
// #endregion
