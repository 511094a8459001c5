import { definePatientTool } from '@hmcp/core';
import * as z from 'zod';
import { OutOfRangeResult } from './laboratory.js';
import { BearingMedication } from './medication-safety.js';
import { OrderKind } from './order-draft.js';

const Observation = z.looseObject({ resourceType: z.literal('Observation'), id: z.string() });
const MedicationRequest = z.looseObject({ resourceType: z.literal('MedicationRequest'), id: z.string() });

/** Results of the patient in context, as FHIR Observations; `category` narrows them (a code of observation-category). */
export const listResults = definePatientTool({
  name: 'list-results',
  description: 'Results of the patient in context',
  scope: 'patient/Observation.rs',
  input: z.object({ category: z.string().max(64).optional() }),
  output: z.object({ results: z.array(Observation) }),
});

/** Medication requests of the patient in context, as FHIR MedicationRequests; `status` narrows them. */
export const listMedications = definePatientTool({
  name: 'list-medications',
  description: 'Medication requests of the patient in context',
  scope: 'patient/MedicationRequest.rs',
  input: z.object({ status: z.enum(['active', 'stopped', 'completed']).optional() }),
  output: z.object({ medications: z.array(MedicationRequest) }),
});

/** What triage answers: every result that is out of range now, and the active medications that bear on it. */
export const Assessment = z.object({
  findings: z.array(z.object({ result: OutOfRangeResult, medications: z.array(BearingMedication) })),
  /** How much was looked at. */
  considered: z.object({ results: z.int(), medications: z.int() }),
});
export type Assessment = z.infer<typeof Assessment>;

/** What stands out for the patient in context. `laboratory` names which laboratory is asked. */
export const assess = definePatientTool({
  name: 'assess',
  description: 'What stands out for the patient in context',
  scope: 'patient/hmcp:read',
  onward: 'patient/Patient.rs patient/Observation.rs patient/MedicationRequest.rs',
  input: z.object({ reason: z.string().max(500), laboratory: z.string().max(64).default('labs') }),
  output: Assessment,
});

const DraftHandle = z.string().regex(/^draft_[A-Za-z0-9-]{1,64}$/);

/**
 * Drafts an order for the patient in context, in the words of the person: nothing is added to them. A draft is unsaved work of its
 * session until it is saved or signed. An effect: made with a permit.
 */
export const draftOrder = definePatientTool({
  name: 'draft-order',
  description: 'Draft an order for the patient in context, in the words given',
  scope: 'patient/hmcp:write',
  effect: true,
  input: z.object({ kind: OrderKind, text: z.string().trim().min(1).max(1000) }),
  output: z.object({ draft: DraftHandle, saved: z.boolean() }),
});

/** Signs a draft of the patient in context. An effect: made with a permit, once. */
export const signOrder = definePatientTool({
  name: 'sign-order',
  description: 'Sign a draft of the patient in context',
  scope: 'patient/hmcp:write',
  effect: true,
  input: z.object({ draft: DraftHandle }),
  output: z.object({ order: z.string(), signedAt: z.string() }),
});

/** The drafts that can be signed for the patient in context. */
export const listDrafts = definePatientTool({
  name: 'list-drafts',
  description: 'Drafts of orders for the patient in context',
  scope: 'patient/hmcp:read',
  input: z.object({}),
  output: z.object({
    drafts: z.array(
      z.object({ draft: DraftHandle, kind: OrderKind, text: z.string(), saved: z.boolean(), draftedAt: z.string() }),
    ),
  }),
});
