import { type Check, ERRORS, HmcpError, type HmcpErrorCode, isHmcpErrorCode, type Meaning, type Retry } from './errors.js';
import { OTHER_ANSWERS, type OtherAnswer } from './other-answers.js';

/** What a caller may do after a refusal, as a sentence. */
export const RETRY_SENTENCES: Readonly<Record<Retry, string>> = {
  never: 'Do not retry.',
  same: 'The same request may be repeated.',
  after_user: 'Ask the person before anything else is sent.',
};

type Sentences = Pick<Meaning, 'says' | 'mend'>;

/** Where one code has several causes, its check says which, and so how to mend it. Everything else is in {@link ERRORS}. */
const BY_CHECK: Readonly<Partial<Record<HmcpErrorCode, Readonly<Partial<Record<Check, Sentences>>>>>> = {
  40302: {
    peer: {
      says: 'the token was refused on its way: by the peer, or by the authorization server that was to exchange it',
      mend: 'register the caller for that peer, and both of them for that scope; let the token live longer than the call',
    },
    equality: {
      says: 'the seal is of another FHIR server than the token',
      mend: 'open a session on the FHIR server this token is for',
    },
  },
  40303: {
    argument: {
      says: 'the operation is declared with a `patientArgument` that its tool does not have, so the patient cannot be filled in',
      mend: 'correct `patientArgument` in `operations` of the server',
    },
  },
  40903: {
    argument: {
      says: 'an argument names another patient than the context',
      mend: 'leave the patient out: the context fills it in',
    },
    header: { says: '`X-HMCP-Patient` names another patient than token or envelope', mend: 'leave the header out' },
    equality: {
      says: 'token and envelope do not name the same patient, tenant, encounter or person',
      mend: 'send the envelope of the patient the token is for',
    },
    seal: { says: 'the seal is not valid here', mend: 'get a seal from a context manager this server trusts' },
    result: {
      says: 'the result is not, or could not be shown to be, of the patient in context alone; nothing of it was released',
      mend: 'have the server that answered looked at; its audit says whether a row was of somebody else or could not be checked',
    },
  },
  42801: {
    header: {
      says: 'only `X-HMCP-Patient` names a patient, and here it may not',
      mend: 'send the envelope of a session, or launch with a patient',
    },
    seal: {
      says: 'a seal is needed that this server can believe, of the session of the token',
      mend: 'send the sealed envelope of the session; its manager must be in `managers` of the server',
    },
    peer: {
      says: 'a request about a patient would have reached a server that nobody declared',
      mend: 'declare the server in `peers` of the agent',
    },
    session: {
      says: 'the grant of a session names no patient, or its client was used inside a request that is not of that session',
      mend: 'launch with a patient, and use the client in its own session',
    },
  },
};

/**
 * The one table of meanings: what a code means where this check refused, whether to retry, how to mend it. `explain`, the command
 * line, start-up failures, matchers and docs/errors all say it in these words.
 * @param check without it, or where it makes no difference: the meaning of the code
 * @see protocol section 4
 */
export function meaningOf(code: HmcpErrorCode, check?: Check): Meaning {
  const { name, retry, says, mend } = ERRORS[code];
  return { name, retry, says, mend, ...(check === undefined ? {} : BY_CHECK[code]?.[check]) };
}

/** The checks that give a code a meaning of their own. @see protocol section 4 */
export function checksToldApart(code: HmcpErrorCode): readonly Check[] {
  return Object.keys(BY_CHECK[code] ?? {}) as Check[];
}

/**
 * A refusal in sentences: what happened, which check, whether to retry, how to mend. Names nobody.
 * Anything that is no refusal of ours is reported by its class only.
 * @see protocol section 4
 */
export function explain(error: unknown): string {
  const refusal = HmcpError.from(error);
  if (!refusal) return `not a patient-context refusal: ${error instanceof Error ? error.name : typeof error}`;
  const { by, hop, check, retry, intent } = refusal.data;
  const { name, says, mend } = meaningOf(refusal.code, check);
  const where = `refused by ${by}${hop === undefined ? '' : ` (hop ${hop})`}, check "${check}"`;
  return `${refusal.code} ${name}, ${where}: ${says}.\n${RETRY_SENTENCES[retry]} Mend: ${mend}.${intent ? ` Intent: ${intent}.` : ''}`;
}

/**
 * A deployment that cannot be used, as an exception: which member, which answer it would have come to, and the mend.
 * @param fault names the member, never its value
 * @see protocol section 4
 */
export function unusable(fault: string, code: HmcpErrorCode | OtherAnswer, check?: Check): TypeError {
  const { name, says, mend } = isHmcpErrorCode(code) ? meaningOf(code, check) : OTHER_ANSWERS[code];
  return new TypeError(`${fault}. Requests would be refused: ${code} ${name}, ${says}. Mend: ${mend}.`);
}
