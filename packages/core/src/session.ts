import * as z from 'zod';
import { FhirId } from './patient-context.js';

/** Tools of a context manager; only a tool may ask the person something (`input_required`). @see protocol section 6 */
export const MANAGER_TOOLS = {
  open: 'hmcp-context-open',
  switch: 'hmcp-context-switch',
  abort: 'hmcp-context-abort',
  close: 'hmcp-context-close',
} as const;

/** Vendor methods of a context manager. @see protocol section 6 */
export const MANAGER_METHODS = {
  join: 'dev.hmcp/context.join',
  get: 'dev.hmcp/context.get',
  renew: 'dev.hmcp/context.renew',
  vote: 'dev.hmcp/context.vote',
  drained: 'dev.hmcp/context.drained',
  permit: 'dev.hmcp/context.permit',
  redeem: 'dev.hmcp/context.redeem',
  release: 'dev.hmcp/context.release',
} as const;

/** Vendor methods a manager calls at a participant, with a client-credentials token of its own. @see protocol section 6 */
export const PARTICIPANT_METHODS = {
  prepare: 'dev.hmcp/context.prepare',
  drain: 'dev.hmcp/context.drain',
  decided: 'dev.hmcp/context.decided',
} as const;

/** Scopes of manager traffic; they grant nothing else. @see protocol section 6 */
export const MANAGER_SCOPES = {
  switch: 'hmcp:context.switch',
  participate: 'hmcp:context.participate',
  control: 'hmcp:context.control',
} as const;

/** Longest `waitMs` of a `get`. @see protocol section 6 */
export const MAX_WAIT_MS = 20_000;
/** Longest life of a permit in milliseconds. @see protocol section 6 */
export const MAX_PERMIT_MS = 10_000;

const Name = z.string().regex(/^[A-Za-z0-9\-_.]{1,128}$/);
const ClientId = z.string().min(1).max(256);
const Epoch = z.int().nonnegative();
/** Milliseconds since the epoch, by the manager's clock. */
const Moment = z.int().nonnegative();
const Operation = z.string().regex(/^[\x21-\x7E]{1,256}$/);
const EffectKey = z.string().regex(/^[\x21-\x7E]{1,256}$/);
const Seal = z.string().min(1).max(6144);
const Intent = z.strictObject({ id: Name, epoch: Epoch });

/** Whom to open: the patient (and encounter) the caller's own token names. */
export const SwitchTarget = z.strictObject({ patient: FhirId, encounter: FhirId.optional() });
export type SwitchTarget = z.infer<typeof SwitchTarget>;

/** `reader`, or `effector`: may cause side effects, with permits. @see protocol section 1 */
export const ParticipantRole = z.enum(['reader', 'effector']);
export type ParticipantRole = z.infer<typeof ParticipantRole>;

/** What changes: the patient, only the encounter, or the session ends. */
export const SwitchKind = z.enum(['switch', 'encounter', 'close']);
export type SwitchKind = z.infer<typeof SwitchKind>;

/** Where a session stands. Permits are granted in `active` only; from `draining` on no seal is handed out. */
export const SessionState = z.enum(['active', 'preparing', 'confirming', 'draining', 'closed']);
export type SessionState = z.infer<typeof SessionState>;

/** Why a switch did not happen; fixed words. */
export const AbortReason = z.enum([
  'aborted',
  'declined',
  'confirmation',
  'vetoed',
  'deadline',
  'authorization',
  'unavailable',
  'restart',
]);
export type AbortReason = z.infer<typeof AbortReason>;

/** Something not yet saved. `id` is the participant's own opaque handle. */
export const UnsavedItem = z.strictObject({ id: Name, savable: z.boolean() });
export type UnsavedItem = z.infer<typeof UnsavedItem>;

/**
 * A participant's answer to `prepare`: nothing in the way; unsaved work (`unsaved`, told to the person); not now (the switch
 * is given up); cannot serve the next patient (it leaves the session when the switch commits). Silence is eviction.
 * @see protocol section 6
 */
export const Vote = z.strictObject({
  vote: z.enum(['accept', 'accept_with_warning', 'veto', 'cannot_follow']),
  unsaved: z.array(UnsavedItem).max(32).default([]),
  /** Requests being worked on. */
  inflight: z.int().min(0).max(100_000).default(0),
});
export type Vote = z.infer<typeof Vote>;

/** A participant's answer to `drain`. `indeterminate`: intents whose effect was sent and never answered. */
export const Drained = z.strictObject({
  saved: z.array(Name).max(32).default([]),
  cancelled: z.int().min(0).max(100_000).default(0),
  completed: z.int().min(0).max(100_000).default(0),
  indeterminate: z.array(Name).max(32).default([]),
});
export type Drained = z.infer<typeof Drained>;

/** How a switch ended. Written once for a `switchId`. `epoch` is the session's after it. */
export const SwitchOutcome = z.object({
  switchId: Name,
  kind: SwitchKind,
  /** `unchanged`: the target was the current patient; nothing was asked or moved. */
  result: z.enum(['committed', 'aborted', 'unchanged']),
  epoch: Epoch,
  reason: AbortReason.optional(),
  /** Participants that did not answer, or cannot follow; they may join again. */
  evicted: z.array(ClientId).default([]),
  /** Unsaved items that were reported saved, and that were not. */
  saved: z.int().default(0),
  lost: z.int().default(0),
  indeterminate: z.array(Name).default([]),
});
export type SwitchOutcome = z.infer<typeof SwitchOutcome>;

/** The switch a session is in, as a participant has to know it. A pulling participant takes this for `prepare` and `drain`. */
export const PendingSwitch = z.object({
  switchId: Name,
  kind: SwitchKind,
  deadline: Moment,
  /** The caller is asked to vote, or to drain, and has not answered yet. */
  expects: z.enum(['vote', 'drained']).optional(),
  /** In `drain`: which of the caller's unsaved items to save. */
  save: z.array(Name).default([]),
});
export type PendingSwitch = z.infer<typeof PendingSwitch>;

/**
 * What a manager says of a session, read linearizably. `seal` only where the caller's token is of the session's patient.
 * `rev` counts state transitions: an older one than seen is ignored.
 * @see protocol section 6
 */
export const SessionFacts = z.object({
  sid: Name,
  epoch: Epoch,
  rev: z.int().nonnegative(),
  state: SessionState,
  seal: Seal.optional(),
  pending: PendingSwitch.optional(),
  /** The outcome asked for by `switchId`; else the last one. */
  outcome: SwitchOutcome.optional(),
});
export type SessionFacts = z.infer<typeof SessionFacts>;

/** Arguments of `hmcp-context-open`; an `idempotencyKey` opens once. Answers {@link SessionFacts}. */
export const OpenArguments = z.strictObject({
  idempotencyKey: Name,
  target: SwitchTarget,
  participants: z.array(ClientId).max(32).default([]),
});
/** Arguments of `hmcp-context-switch`; `switchId` is the idempotency key. Answers {@link SwitchResult}. */
export const SwitchArguments = z.strictObject({ sid: Name, switchId: Name, expectedEpoch: Epoch, target: SwitchTarget });
/** Arguments of `hmcp-context-abort`. Answers {@link SwitchResult}; after a commit that is `committed`. */
export const AbortArguments = z.strictObject({ sid: Name, switchId: Name });
/** Arguments of `hmcp-context-close`. Answers {@link SwitchResult}. */
export const CloseArguments = z.strictObject({ sid: Name, switchId: Name, expectedEpoch: Epoch });

/** Answer of switch, abort and close, as `structuredContent`. `pending`: not known here, ask `get` with the `switchId`. */
export const SwitchResult = SwitchOutcome.extend({
  sid: Name,
  result: z.enum(['committed', 'aborted', 'unchanged', 'pending']),
  rev: z.int().nonnegative(),
  /** At the epoch of this answer. */
  seal: Seal.optional(),
});
export type SwitchResult = z.infer<typeof SwitchResult>;

/** Joins a session that `open` named the caller for; joining again replaces role and delivery. Answers {@link SessionFacts}. */
export const JoinParams = z.strictObject({ sid: Name, role: ParticipantRole, delivery: z.enum(['push', 'pull']) });
/** Reads a session; with `waitMs`, when its `rev` exceeds the one given, or the time is over. Answers {@link SessionFacts}. */
export const GetParams = z.strictObject({
  sid: Name,
  switchId: Name.optional(),
  rev: z.int().nonnegative().optional(),
  waitMs: z.int().min(0).max(MAX_WAIT_MS).default(0),
});
/** Renews a seal, expired for at most 15 minutes, at the same epoch. Answers {@link RenewResult}. @see protocol section 2.3 */
export const RenewParams = z.strictObject({ seal: Seal });
/** The renewed seal. */
export const RenewResult = z.object({ seal: Seal });
/** The answer to `prepare`, sent by a pulling participant. Answers {@link SessionFacts}. */
export const VoteParams = Vote.extend({ sid: Name, switchId: Name });
/** The answer to `drain`, sent by a pulling participant. Answers {@link SessionFacts}. */
export const DrainedParams = Drained.extend({ sid: Name, switchId: Name });
/** Asks for a permit of one effect; the same effect gets the same permit while it lives. Answers {@link PermitResult}. */
export const PermitParams = z.strictObject({
  seal: Seal,
  intent: Intent,
  operation: Operation,
  effectKey: EffectKey,
  ttlMs: z.int().min(1).max(MAX_PERMIT_MS).default(MAX_PERMIT_MS),
});
/** Uses a permit up, once, at the server that received it in an envelope. Answers {@link PermitResult}. */
export const RedeemParams = z.strictObject({ seal: Seal, intent: Intent, permit: Name });
/** A permit as granted or redeemed. `ttlMs` is what is left of it: the holder counts from before it asked. */
export const PermitResult = z.object({
  permit: Name,
  sid: Name,
  epoch: Epoch,
  operation: Operation,
  effectKey: EffectKey,
  ttlMs: z.int().nonnegative(),
  expiresAt: Moment,
});
export type PermitResult = z.infer<typeof PermitResult>;
/** Gives a permit back; unknown ones are not an error. Answers `{}`. */
export const ReleaseParams = z.strictObject({ sid: Name, permit: Name });

/** Manager to participant: a switch is proposed. Changes nothing there; answered with a {@link Vote}. */
export const PrepareParams = z.strictObject({
  sid: Name,
  rev: z.int().nonnegative(),
  switchId: Name,
  epoch: Epoch,
  kind: SwitchKind,
  deadline: Moment,
});
export type PrepareParams = z.infer<typeof PrepareParams>;
/** Manager to participant: end live work of this epoch, save `save`, release permits. Answered with {@link Drained}. */
export const DrainParams = PrepareParams.extend({ save: z.array(Name).max(32) });
export type DrainParams = z.infer<typeof DrainParams>;
/** Manager to participant: how it ended; informational. `epoch` is the session's now. Answered with `{}`. */
export const DecidedParams = z.strictObject({
  sid: Name,
  rev: z.int().nonnegative(),
  switchId: Name,
  kind: SwitchKind,
  result: z.enum(['committed', 'aborted']),
  epoch: Epoch,
});
export type DecidedParams = z.infer<typeof DecidedParams>;
