import { createHash, randomBytes } from 'node:crypto';
import { type AccessPolicy, AuthorityUnavailable, askAccessPolicy, type SealSigner } from '@hmcp/auth';
import { HmcpError, keyedHash, parseScopes, patientKey, type SwitchTarget, satisfies, type VerifiedToken } from '@hmcp/core';
import type { Clock } from './clock.js';
import type { Actor, Refused } from './machine.js';
import type { ManagedClient } from './participants.js';
import { mayAsk, namesSubject } from './rights.js';
import type { Session, Subject } from './session-row.js';
import type { Applied, Sessions } from './sessions.js';

/** Who calls: a verified token for this manager, and the token itself for exchanges. */
export interface Caller {
  readonly token: VerifiedToken;
  /** Exchanged to read identifiers; never forwarded, stored or logged. */
  readonly accessToken: string;
  readonly traceparent?: string | undefined;
  /** Aborts when the caller goes away. */
  readonly signal?: AbortSignal | undefined;
}

/** What every operation of a manager works with. */
export interface OfficeParts {
  readonly resource: string;
  readonly sessions: Sessions;
  readonly signer: SealSigner;
  readonly clients: readonly ManagedClient[];
  readonly fhirServers: readonly string[];
  /** Key of `pk`. */
  readonly tenantKey: string;
  /** Key of people in the audit. */
  readonly pseudonymKey: string;
  readonly policy?: AccessPolicy | undefined;
  readonly clock: Clock;
}

/** A target somebody may open, and until when. */
export interface Authorized {
  readonly subject: Subject;
  /** End of the grant, ms since the epoch. */
  readonly grantExpiresAt: number;
}

/** What operations of a manager share: refusals, audit names, seals, and the right to a patient. */
export class Office {
  readonly parts: OfficeParts;

  constructor(parts: OfficeParts) {
    this.parts = parts;
  }

  get sessions(): Sessions {
    return this.parts.sessions;
  }

  client(clientId: string): ManagedClient | undefined {
    return this.parts.clients.find((client) => client.clientId === clientId);
  }

  /** A refusal as it crosses the wire. */
  refusal({ code, check, reason }: Omit<Refused, 'is'>, { token }: Caller, intent?: string): HmcpError {
    const data = { by: this.parts.resource, hop: token.hop, check, ...(intent === undefined ? {} : { intent }) };
    return new HmcpError(code, data, { reason });
  }

  /** The row a decision came to. @throws {HmcpError} its refusal; 40301 for a session nobody knows: no difference is shown */
  settled(applied: Applied | undefined, caller: Caller, intent?: string): Session {
    if (applied === undefined) throw this.refusal(UNKNOWN_SESSION, caller);
    if (applied.is === 'refused') throw this.refusal(applied, caller, intent);
    return applied.session;
  }

  /** @throws {HmcpError} 40301 */
  async session(sid: string, caller: Caller): Promise<Session> {
    this.demand(mayAsk(caller.token), caller);
    const session = await this.sessions.read(sid);
    // A token minted for a session is for that session.
    const other = caller.token.sid !== undefined && caller.token.sid !== sid;
    if (session === undefined || other) throw this.refusal(UNKNOWN_SESSION, caller);
    return session;
  }

  /** Throws what a right's check refused. */
  demand(fault: Refused | undefined, caller: Caller): void {
    if (fault) throw this.refusal(fault, caller);
  }

  /** The caller as the audit names it. */
  async actor({ token, traceparent }: Caller): Promise<Actor> {
    const { pseudonymKey, resource } = this.parts;
    return {
      by: resource,
      hop: token.hop,
      issuer: token.issuer,
      subject: await keyedHash(pseudonymKey, token.subject),
      clientId: token.clientId,
      ...(token.actors.length === 0 ? {} : { actors: token.actors }),
      jti: token.jti,
      ...(token.txn === undefined ? {} : { txn: token.txn }),
      ...(traceparent === undefined ? {} : { traceparent }),
    };
  }

  /**
   * The right to a patient: the token pins exactly this one, or it is of a person without one and the policy allows it.
   * @throws {HmcpError} 40903 another patient or encounter, 40302 not allowed, 50301 the policy did not answer
   */
  async authorize(target: SwitchTarget, caller: Caller): Promise<Authorized> {
    const { token } = caller;
    const { fhirServer, tenant } = token;
    if (token.patient !== undefined && token.patient !== target.patient)
      throw this.refusal({ code: 40903, check: 'equality', reason: 'target and token name different patients' }, caller);
    if (token.encounter !== undefined && target.encounter !== undefined && token.encounter !== target.encounter)
      throw this.refusal({ code: 40903, check: 'equality', reason: 'target and token name different encounters' }, caller);
    if (!this.parts.fhirServers.includes(fhirServer))
      throw this.refusal({ code: 40302, check: 'policy', reason: 'the FHIR server is not one of this manager' }, caller);
    if (!satisfies(token.scopes, parseScopes('patient/Patient.r'), token))
      throw this.refusal({ code: 40302, check: 'scope', reason: 'the token cannot read the patient' }, caller);
    const encounter = target.encounter ?? token.encounter;
    const who = { fhirServer, patient: target.patient, ...(tenant === undefined ? {} : { tenant }) };
    if (token.patient === undefined) await this.#askPolicy(who.patient, 'hmcp-context', caller);
    const pk = await patientKey(this.parts.tenantKey, who);
    const subject = { ...who, ...(encounter === undefined ? {} : { encounter }), pk };
    return { subject, grantExpiresAt: token.expiresAt * 1000 };
  }

  /** A seal of the session as it is, for a token of its patient; `undefined` for any other token, and while none is handed out. */
  async seal(session: Session, caller: Caller): Promise<string | undefined> {
    const { subject, state } = session;
    if (subject === null || state === 'draining' || state === 'closed' || !namesSubject(caller.token, session)) return undefined;
    if (caller.token.patient === undefined) {
      const allowed = await this.#askPolicy(subject.patient, 'hmcp-context', caller).then(
        () => true,
        () => false,
      );
      if (!allowed) return undefined;
    }
    const { fhirServer, tenant, patient, encounter, pk } = subject;
    return this.parts.signer.sign({
      sub_iss: session.owner.issuer,
      sub: session.owner.subject,
      azp: session.client,
      sid: session.sid,
      epoch: session.epoch,
      patient,
      fhirServer,
      pk,
      ...(tenant === undefined ? {} : { tenant }),
      ...(encounter === undefined ? {} : { encounter }),
    });
  }

  async #askPolicy(patient: string, operation: string, caller: Caller): Promise<void> {
    const { issuer, subject, clientId, fhirUser, tenant, fhirServer } = caller.token;
    const question = { issuer, subject, clientId, fhirUser, tenant, fhirServer, patient, operation, effect: false };
    const answer = await askAccessPolicy(this.parts.policy, question).catch((error: unknown) => {
      const reason = error instanceof AuthorityUnavailable ? 'the access policy did not answer' : 'the access policy failed';
      throw this.refusal({ code: 50301, check: 'policy', reason }, caller);
    });
    if (answer === 'deny')
      throw this.refusal({ code: 40302, check: 'policy', reason: 'the access policy denies this patient' }, caller);
  }
}

const UNKNOWN_SESSION = { code: 40301, check: 'session', reason: 'no such session for this caller' } as const;

/** An id nobody can guess. */
export function freshId(prefix: string): string {
  return `${prefix}_${randomBytes(18).toString('base64url')}`;
}

/** base64url(SHA-256(text)): how a nonce and the key of an opening stand in the store. */
export function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
