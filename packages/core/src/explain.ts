import {
  BY_CHECK,
  type Check,
  ERRORS,
  HmcpError,
  type HmcpErrorCode,
  isHmcpErrorCode,
  type Meaning,
  type Retry,
} from './errors.js';
import { OTHER_ANSWERS, type OtherAnswer } from './other-answers.js';

/** What a caller may do after a refusal, as a sentence. */
export const RETRY_SENTENCES: Readonly<Record<Retry, string>> = {
  never: 'Do not retry.',
  same: 'The same request may be repeated.',
  after_user: 'Ask the person before anything else is sent.',
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
