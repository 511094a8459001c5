import { parseStrictJson } from '@hmcp/core';
import * as z from 'zod';
import type { AccessPolicy, AccessQuestion } from './access-policy.js';
import { AuthorityUnavailable, type Fetch, postJson } from './authority.js';
import { secureUrl } from './secure-url.js';

/** Options of {@link httpAccessPolicy}. */
export interface HttpAccessPolicyOptions {
  /** Where questions are posted: the access evaluation endpoint, at many decision points `…/access/v1/evaluation`. */
  readonly url: string;
  /** How it is reached: the place for mutual TLS, or for a token this server shows it. @default globalThis.fetch */
  readonly fetch?: Fetch | undefined;
  /** Milliseconds it has for its answer; the server's own `policyTimeoutMs` ends the wait as well. @default 5000 */
  readonly timeoutMs?: number | undefined;
}

/** `false` is the answer no; anything that is not exactly yes or no is none. */
const Evaluation = z.looseObject({ decision: z.boolean() });

/**
 * An access policy that asks a policy decision point over HTTP, in the words of the OpenID AuthZEN Authorization API 1.0:
 * subject (`user`, or `client` where no person stands behind the token), action (the operation), resource (the `Patient`). The
 * question travels in the body of a POST, never in an address; no redirect is followed. Every question is asked anew: whether
 * and how long an answer may be kept is the decision point's to know. Only HTTP 200 with `{ "decision": true }` is a yes, and with
 * `false` a no (40302); an error, a delay, and whatever else it says, `decision` named twice included, is no decision (50301).
 * @throws {TypeError} when `url` is not `https:` (or loopback outside production), or `timeoutMs` is no positive number
 * @see protocol section 3; https://openid.net/specs/authorization-api-1_0.html
 */
export function httpAccessPolicy(options: HttpAccessPolicyOptions): AccessPolicy {
  const { fetch, timeoutMs = 5000 } = options;
  const url = secureUrl(options.url, 'url').href;
  if (!(timeoutMs > 0 && timeoutMs <= 60_000)) throw new TypeError('"timeoutMs" must be a number from 1 to 60000');
  return {
    decide: async (question) => {
      const { status, text } = await postJson(url, evaluationOf(question), { fetch, timeoutMs });
      const said = status === 200 ? parseStrictJson(text) : undefined;
      const read = Evaluation.safeParse(said?.ok ? said.value : undefined);
      if (!read.success) throw new AuthorityUnavailable('the policy decision point did not decide');
      return read.data.decision ? 'allow' : 'deny';
    },
  };
}

function evaluationOf(question: AccessQuestion): object {
  const { issuer, subject, fhirUser, clientId, tenant, fhirServer, patient, operation, effect } = question;
  return {
    subject: { type: subject === clientId ? 'client' : 'user', id: subject, properties: { issuer, fhirUser, clientId } },
    action: { name: operation, properties: { effect } },
    resource: { type: 'Patient', id: patient, properties: { fhirServer, tenant } },
  };
}
