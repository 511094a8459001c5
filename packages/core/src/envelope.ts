import * as z from 'zod';
import { FhirId } from './patient-context.js';

/** The only `_meta` keys of this project. @see protocol section 8 */
export const META = {
  context: 'dev.hmcp/context',
  authorization: 'dev.hmcp/authorization',
  checkpoint: 'dev.hmcp/checkpoint',
} as const;

/** Revision of the protocol in envelopes, bindings and capabilities. */
export const PROTOCOL_VERSION = '1';

/** Largest envelope accepted, in bytes of its JSON. @see protocol section 2.2 */
export const MAX_ENVELOPE_BYTES = 8192;

const IntentId = z.string().regex(/^[A-Za-z0-9\-_.]{1,128}$/);
const Tenant = z.string().min(1).max(128);

/** Envelope outside a session: names the patient the caller means. @see protocol section 2.2 */
export const PlainEnvelope = z.strictObject({
  version: z.literal(PROTOCOL_VERSION),
  patient: FhirId,
  tenant: Tenant.optional(),
  encounter: FhirId.optional(),
  intent: z.strictObject({ id: IntentId }),
});
export type PlainEnvelope = z.infer<typeof PlainEnvelope>;

/** Envelope inside a session: carries the manager's seal and the epoch the intent was made in. @see protocol section 2.2 */
export const SealedEnvelope = z
  .strictObject({
    version: z.literal(PROTOCOL_VERSION),
    seal: z.string().min(1).max(6144),
    intent: z.strictObject({ id: IntentId, epoch: z.int().nonnegative() }),
    permit: z.string().min(1).max(128).optional(),
    detach: z.string().min(1).max(128).optional(),
  })
  .refine(({ permit, detach }) => permit === undefined || detach === undefined, '"detach" stands instead of "permit"');
export type SealedEnvelope = z.infer<typeof SealedEnvelope>;

/** Either form; strict, so that an unknown member is a refusal and not a guess. */
export const Envelope = z.union([PlainEnvelope, SealedEnvelope]);
export type Envelope = z.infer<typeof Envelope>;

/** True for the sealed form. */
export function isSealed(envelope: Envelope): envelope is SealedEnvelope {
  return 'seal' in envelope;
}

/**
 * Reads the envelope of a request's `params._meta`: absent, well-formed, or malformed (answered -32602).
 * @see protocol section 2.2
 */
export function parseEnvelope(meta: unknown): { envelope: Envelope | undefined } | { malformed: true } {
  if (meta === undefined || meta === null) return { envelope: undefined };
  if (typeof meta !== 'object' || Array.isArray(meta)) return { malformed: true };
  const raw = (meta as Record<string, unknown>)[META.context];
  if (raw === undefined) return { envelope: undefined };
  const parsed = Envelope.safeParse(raw);
  if (!parsed.success) return { malformed: true };
  // What passed the strict schema is small plain JSON but for the length of its strings.
  const bytes = new TextEncoder().encode(JSON.stringify(parsed.data)).length;
  return bytes > MAX_ENVELOPE_BYTES ? { malformed: true } : { envelope: parsed.data };
}

/**
 * What a result (or progress) says about the context it answers; in its `_meta`, never in an error.
 * `patients` is `[]` or `[pk]`; `by` is the answering server's resource identifier.
 * @see protocol section 2.4
 */
export const Binding = z.strictObject({
  version: z.literal(PROTOCOL_VERSION),
  sid: z.string().min(1).max(128).optional(),
  epoch: z.int().nonnegative().optional(),
  pk: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  pkScope: z.literal('intent').optional(),
  intent: z.strictObject({ id: IntentId }),
  by: z.string().min(1).max(2048),
  patients: z.array(z.string()).max(1),
});
export type Binding = z.infer<typeof Binding>;

/** What a caller knows when it checks the binding of an answer. */
export interface BindingExpectation {
  readonly pk: string;
  readonly intent: string;
  readonly by: string;
  readonly sid?: string | undefined;
  readonly epoch?: number | undefined;
}

/**
 * Compares a result's binding with what was asked: `undefined` when it holds, else the code the call is settled with
 * (40901 for session or epoch, 40903 for anything about the patient or a missing binding). Outside a session `pk` is keyed
 * by the intent and says so; inside one it is the seal's.
 * @see protocol section 2.4
 */
export function checkBinding(raw: unknown, expected: BindingExpectation): 40901 | 40903 | undefined {
  const parsed = Binding.safeParse(raw);
  if (!parsed.success) return 40903;
  const binding = parsed.data;
  if (binding.sid !== expected.sid || binding.epoch !== expected.epoch) return 40901;
  if ((binding.pkScope === 'intent') !== (expected.sid === undefined)) return 40903;
  if (binding.pk !== expected.pk || binding.intent.id !== expected.intent || binding.by !== expected.by) return 40903;
  return binding.patients.every((pk) => pk === expected.pk) ? undefined : 40903;
}
