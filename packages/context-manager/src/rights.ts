import { MANAGER_SCOPES, parseScopes, satisfies, type VerifiedToken } from '@hmcp/core';
import { type Refused, refused } from './machine.js';
import type { ManagedClient } from './participants.js';
import type { Session } from './session-row.js';

/** How a caller stands to a session. `person`: a token of the owner. `itself`: a participant between requests. */
export type Standing = 'person' | 'itself';

/** A token grants manager traffic only by these scopes. @see protocol section 6 */
export function grants(token: VerifiedToken, scope: keyof typeof MANAGER_SCOPES): boolean {
  return satisfies(token.scopes, parseScopes(MANAGER_SCOPES[scope]), token);
}

/**
 * Who may ask about any session at all. Checked before one is looked up, so that the refusal says nothing of what there is.
 * `undefined` when allowed.
 */
export function mayAsk(token: VerifiedToken): Refused | undefined {
  if (grants(token, 'participate') || grants(token, 'switch')) return undefined;
  return refused(40301, 'scope', 'the token does not grant this');
}

/** Nobody stands behind it: client credentials. */
function isBackend({ subject, clientId, patient, fhirUser, actors }: VerifiedToken): boolean {
  return subject === clientId && patient === undefined && fhirUser === undefined && actors.length === 0;
}

/** A token of the person this session belongs to, from the same authorization server. */
export function isOwner({ issuer, subject }: VerifiedToken, { owner }: Pick<Session, 'owner'>): boolean {
  return issuer === owner.issuer && subject === owner.subject;
}

/**
 * Who may open a session at all: a client in a person's own hands, with the scope, not an agent behind it.
 * `undefined` when allowed.
 */
export function mayOpen(token: VerifiedToken): Refused | undefined {
  if (!grants(token, 'switch')) return refused(40301, 'scope', 'the token does not grant switching');
  if (isBackend(token) || token.subject === token.clientId) return refused(40301, 'session', 'nobody stands behind the token');
  if (token.actors.length > 0) return refused(40301, 'session', 'an agent may only propose');
  return undefined;
}

/** Who may switch: the owner, through the client the session is bound to. `undefined` when allowed. */
export function maySwitch(token: VerifiedToken, session: Session): Refused | undefined {
  const fault = mayOpen(token);
  if (fault) return fault;
  if (!isOwner(token, session)) return refused(40301, 'session', 'the session belongs to somebody else');
  if (token.clientId !== session.client) return refused(40301, 'session', 'the session is bound to another client');
  return undefined;
}

/** Of those who {@link mayAsk}, who may abort or close: the owner, through the bound client or a member. `undefined` when allowed. */
export function mayEnd(token: VerifiedToken, session: Session): Refused | undefined {
  if (!isOwner(token, session)) return refused(40301, 'session', 'the session belongs to somebody else');
  const member = session.members.some(({ clientId }) => clientId === token.clientId);
  return member || token.clientId === session.client ? undefined : refused(40301, 'session', 'the client is no member');
}

/** Of those who {@link mayAsk}, who may take part: the owner's token through the bound or a named client, or such a client for itself. */
export function participation(token: VerifiedToken, session: Session): Standing | Refused {
  const named = session.participants.includes(token.clientId);
  if (isBackend(token)) {
    const allowed = named && token.issuer === session.owner.issuer;
    return allowed ? 'itself' : refused(40301, 'session', 'the client was not named for this session');
  }
  if (!isOwner(token, session)) return refused(40301, 'session', 'the session belongs to somebody else');
  return named || token.clientId === session.client
    ? 'person'
    : refused(40301, 'session', 'the client was not named for this session');
}

/** Who may cause effects, so join as `effector` and be given permits: a client registered so. `undefined` when allowed. */
export function mayCauseEffects(client: ManagedClient | undefined): Refused | undefined {
  return client?.effector === true ? undefined : refused(40301, 'session', 'the client is not registered as an effector');
}

/** True when the token is of the session's patient and chain, so that a seal may be handed to its holder. A `user/` token names none. */
export function namesSubject(token: VerifiedToken, session: Session): boolean {
  const { subject } = session;
  if (subject === null || token.firstClient !== session.client || !isOwner(token, session)) return false;
  if (token.fhirServer !== subject.fhirServer || token.tenant !== subject.tenant) return false;
  if (token.patient !== undefined && token.patient !== subject.patient) return false;
  return token.encounter === undefined || subject.encounter === undefined || token.encounter === subject.encounter;
}
