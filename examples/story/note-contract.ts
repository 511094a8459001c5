import { definePatientTool } from '@hmcp/core';
import * as z from 'zod';

/** Reads a note of the patient in context; says the code of the refusal it met, when it did what the note told it. */
export const readNote = definePatientTool({
  name: 'read-note',
  description: 'Read a note of the patient in context',
  scope: 'patient/hmcp:read',
  onward: 'hmcp:context.participate',
  input: z.object({ note: z.string() }),
  output: z.object({ refused: z.int().optional() }),
});
