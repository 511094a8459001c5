import { Drained, FhirId, ParticipantRole, SessionState, SwitchKind, SwitchOutcome, Vote } from '@hmcp/core';
import * as z from 'zod';

const Moment = z.int();
const Pk = z.string().regex(/^[A-Za-z0-9_-]{43}$/);

/** Whose record a session is on. `pk` is keyed by the manager's tenant key. @see protocol section 8 */
export const Subject = z.strictObject({
  fhirServer: z.string(),
  tenant: z.string().optional(),
  patient: FhirId,
  encounter: FhirId.optional(),
  pk: Pk,
});
export type Subject = z.infer<typeof Subject>;

/** Somebody who joined. `push`: told at the URL registered for the client; `pull`: asks with `get`. */
export const Member = z.strictObject({
  clientId: z.string(),
  role: ParticipantRole,
  delivery: z.enum(['push', 'pull']),
  joinedEpoch: z.int(),
});
export type Member = z.infer<typeof Member>;

/** The right to cause one effect at one epoch, for a short time. `used` once redeemed; it still counts until given back. */
export const Permit = z.strictObject({
  permit: z.string(),
  clientId: z.string(),
  epoch: z.int(),
  intent: z.string(),
  operation: z.string(),
  effectKey: z.string(),
  expiresAt: Moment,
  used: z.boolean(),
});
export type Permit = z.infer<typeof Permit>;

/** What a switch asks for; a repeated `switchId` must ask for the same. */
export const SwitchParameters = z.strictObject({
  kind: SwitchKind,
  expectedEpoch: z.int(),
  /** `null`: the session ends. */
  target: Subject.nullable(),
});
export type SwitchParameters = z.infer<typeof SwitchParameters>;

/** The one switch a session may be in. */
export const Pending = z.strictObject({
  switchId: z.string(),
  parameters: SwitchParameters,
  begunAt: Moment,
  /** After this it is aborted, whoever looks. */
  deadline: Moment,
  voteBy: Moment,
  /** Members that were asked to vote. */
  asked: z.array(z.string()),
  votes: z.record(z.string(), Vote),
  /** An agent that may cause effects was named for this session. */
  effectors: z.boolean(),
  /** Base64url(SHA-256(nonce)) of the one dialog that may be answered; absent when it was answered. */
  nonceHash: z.string().optional(),
  level: z.enum(['C1', 'C2']).optional(),
  confirmBy: Moment.optional(),
  tries: z.int(),
  confirmedAt: Moment.optional(),
  drainBy: Moment.optional(),
  drained: z.record(z.string(), Drained),
  /** When the grant for the target ends; absent where none is needed. */
  grantExpiresAt: Moment.optional(),
});
export type Pending = z.infer<typeof Pending>;

/** A decided switch, kept so that a repeated request gets the same answer. */
export const Decided = z.strictObject({ outcome: SwitchOutcome, parameters: SwitchParameters, at: Moment });
export type Decided = z.infer<typeof Decided>;

/**
 * The durable row of one session: everything a decision is made from. `version` counts writes and is what compare-and-set
 * compares; `rev` counts state transitions and is what messages carry.
 * @see protocol section 6
 */
export const Session = z.strictObject({
  v: z.literal(1),
  sid: z.string(),
  version: z.int(),
  rev: z.int(),
  epoch: z.int(),
  state: SessionState,
  owner: z.strictObject({ issuer: z.string(), subject: z.string() }),
  /** The bound client; `azp` of seals. */
  client: z.string(),
  subject: Subject.nullable(),
  participants: z.array(z.string()),
  members: z.array(Member),
  pending: Pending.optional(),
  permits: z.array(Permit),
  decided: z.array(Decided),
  openedAt: Moment,
  /** The first patient, so that a repeated `open` must mean the same. */
  openedPk: Pk,
  closedAt: Moment.optional(),
});
export type Session = z.infer<typeof Session>;
