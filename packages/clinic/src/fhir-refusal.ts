import { AuthorityUnavailable, bearerChallenge, TokenError } from '@hmcp/auth';
import type { Check } from '@hmcp/core';

/** A refusal on its way out. `reason` is for the audit, `says` for the caller; both are fixed words. */
export class Refusal extends Error {
  readonly status: number;
  readonly check: Check;
  readonly reason: string;
  readonly outcome: { readonly code: string; readonly says: string };
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    check: Check,
    reason: string,
    outcome: { readonly code: string; readonly says: string },
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(reason);
    this.status = status;
    this.check = check;
    this.reason = reason;
    this.outcome = outcome;
    this.headers = headers;
  }
}

/** One answer for what does not exist and for what the token may not have. */
export const NOT_FOUND = { code: 'not-found', says: 'There is no such resource, or not for this access token.' };
/** The decision could not be made durable. */
export const UNRECORDED = { code: 'transient', says: 'The request could not be recorded; try again later.' };

/** 404. */
export function notFound(reason: string, check: Check = 'result'): Refusal {
  return new Refusal(404, check, reason, NOT_FOUND);
}

/** 400: the query. */
export function invalid(reason: string): Refusal {
  return new Refusal(400, 'argument', reason, { code: 'not-supported', says: `The request has ${reason}.` });
}

/** 405. */
export function notAllowed(): Refusal {
  return new Refusal(405, 'operation', 'method', { code: 'not-supported', says: 'Only GET is served.' }, { allow: 'GET' });
}

/** 403 with the scope that would do. */
export function forbidden(reason: string, type: string, id: string | undefined, launch = ''): Refusal {
  const scope = `${launch}patient/${type}.${id === undefined ? 's' : 'r'}`;
  const challenge = bearerChallenge({ error: 'insufficient_scope', description: 'the access token does not allow this', scope });
  const outcome = { code: 'forbidden', says: 'The access token does not allow this.' };
  return new Refusal(403, 'scope', reason, outcome, { 'www-authenticate': challenge });
}

/** What a thrown error is answered with; text of an exception goes nowhere. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof TokenError) {
    const challenge = bearerChallenge({ error: error.error, description: error.error && error.message });
    const outcome =
      error.status === 400
        ? { code: 'invalid', says: 'The request is malformed.' }
        : { code: 'login', says: 'A valid access token is needed.' };
    return new Refusal(error.status, 'token', error.reason, outcome, { 'www-authenticate': challenge });
  }
  if (error instanceof AuthorityUnavailable) {
    const outcome = { code: 'transient', says: 'Access tokens cannot be checked at the moment; try again later.' };
    return new Refusal(503, 'token', 'authority unavailable', outcome, { 'retry-after': String(error.retryAfterSeconds) });
  }
  const outcome = { code: 'exception', says: 'The request could not be answered.' };
  return new Refusal(500, 'operation', 'internal error', outcome);
}

/** The FHIR body of a refusal. */
export function operationOutcome({ code, says }: { readonly code: string; readonly says: string }): object {
  return { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code, diagnostics: says }] };
}

/** 414. */
export function tooLong(): Refusal {
  return new Refusal(414, 'size', 'long URL', { code: 'too-long', says: 'The URL is too long.' });
}
