import type { ComparedPatient } from './compared.js';
import type { Check } from './errors.js';

/**
 * What an audit record is about.
 * - `request.served`, `request.refused`, `result.withheld`: a server's decision on one inbound request
 * - `effect.intent`, `effect.outcome`: durable before and after a side effect; the first without the second is indeterminate
 * - `notification.dropped`: a client notification outside the closed list
 * - `hop.call`, `hop.result`, `hop.dropped`, `hop.refused`, `hop.disclosure`: a caller's side of one outgoing request
 * - `token.issued`, `token.refused`: an authorization server's decision
 * - `session.*`, `switch.*`, `permit.*`, `seal.renewed`: a context manager; one record for each transition of a session,
 *   written in the same transaction. `switch.proposed`: asked for by somebody who may only propose
 * - `audit.start`, `audit.stop`, `audit.recover`: the sink itself
 * @see protocol section 8
 */
export const AUDIT_EVENTS = [
  'request.served',
  'request.refused',
  'result.withheld',
  'effect.intent',
  'effect.outcome',
  'notification.dropped',
  'hop.call',
  'hop.result',
  'hop.dropped',
  'hop.refused',
  'hop.disclosure',
  'token.issued',
  'token.refused',
  'session.opened',
  'session.joined',
  'switch.proposed',
  'switch.begun',
  'switch.vote',
  'switch.asked',
  'switch.answered',
  'switch.confirmed',
  'switch.drained',
  'switch.committed',
  'switch.aborted',
  'switch.unchanged',
  'permit.granted',
  'permit.redeemed',
  'permit.released',
  'seal.renewed',
  'audit.start',
  'audit.stop',
  'audit.recover',
] as const;
/** A member of {@link AUDIT_EVENTS}. */
export type AuditEventName = (typeof AUDIT_EVENTS)[number];

/**
 * One decision, as written by whoever took it. Holds no name, clear patient id, token, argument or result:
 * people appear as keyed hashes, patients as `pk`. The sink adds version, chain, sequence, time and hash.
 * @see protocol section 8
 */
export interface AuditRecord {
  readonly event: AuditEventName;
  /** FHIR outcome: 0 success, 4 refused, 8 serious (withheld, dropped), 12 major failure. */
  readonly outcome: 0 | 4 | 8 | 12;
  /** JSON-RPC code or HTTP status of a refusal. */
  readonly code?: number | undefined;
  readonly check?: Check | undefined;
  /** A fixed sentence or word of the program; never text of an exception or of a caller. */
  readonly reason?: string | undefined;
  /** Resource identifier of the process that writes this record. */
  readonly by: string;
  readonly hop?: number | undefined;
  readonly issuer?: string | undefined;
  /** Keyed hash of the token's `sub`. */
  readonly subject?: string | undefined;
  readonly clientId?: string | undefined;
  readonly actors?: readonly string[] | undefined;
  /** A practitioner's `fhirUser`; anybody else's as a keyed hash. */
  readonly fhirUser?: string | undefined;
  readonly jti?: string | undefined;
  readonly txn?: string | undefined;
  readonly traceparent?: string | undefined;
  readonly intent?: string | undefined;
  readonly sid?: string | undefined;
  readonly epoch?: number | undefined;
  /** Patient key of the context; absent when no patient was established. */
  readonly pk?: string | undefined;
  /** `local`: keyed by the writer's own key instead of a manager's. */
  readonly pkScope?: 'local' | undefined;
  readonly method?: string | undefined;
  readonly tool?: string | undefined;
  /** Who was called (`hop.*`). */
  readonly peer?: string | undefined;
  /** `none`: the peer is no HMCP server, so no binding was expected; `checked` otherwise. */
  readonly binding?: 'none' | 'checked' | undefined;
  /** FHIR resource types of the result with their counts. */
  readonly types?: Readonly<Record<string, number>> | undefined;
  /** Parts of the result that could not be checked (free text, JSON without `output`). */
  readonly unverifiable?: number | undefined;
  /** `none`: an effect allowed by token and policy because this server trusts no manager. */
  readonly fence?: 'none' | undefined;
  /** How the patient reached the server: `claim`, `envelope` or, in transition, `header`. */
  readonly contextMethod?: 'claim' | 'envelope' | 'header' | undefined;
  /** Of a refusal about who is meant: which of the sides said which patient. */
  readonly compared?: readonly ComparedPatient[] | undefined;
  readonly switchId?: string | undefined;
  /** Patient key of the epoch before a committed switch; `pk` is the one of `epoch`. */
  readonly fromPk?: string | undefined;
  /** Patient key that a switch not yet decided would go to. */
  readonly toPk?: string | undefined;
  readonly vote?: 'accept' | 'accept_with_warning' | 'veto' | 'cannot_follow' | undefined;
  /** How the person confirmed: C1 shown and confirmed, C2 two identifiers typed. @see protocol section 6 */
  readonly level?: 'C1' | 'C2' | undefined;
  /** Participants that left the session with this transition. */
  readonly evicted?: readonly string[] | undefined;
  readonly permit?: string | undefined;
  /** Milliseconds from confirmation to commit. */
  readonly waitedMs?: number | undefined;
  /** Number of like refusals folded into this record. */
  readonly folded?: number | undefined;
}

/**
 * Where decisions go. `append` resolves when the record is durable and rejects when it cannot be made so;
 * nothing is released before it resolves. @throws whatever the store threw; the caller answers 50302.
 * @see protocol section 8
 */
export interface AuditSink {
  append(record: AuditRecord): Promise<void>;
  close(): Promise<void>;
}
