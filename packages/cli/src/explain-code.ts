import { existsSync } from 'node:fs';
import {
  type Check,
  checksToldApart,
  ERRORS,
  type HmcpErrorCode,
  isHmcpErrorCode,
  type Meaning,
  meaningOf,
  OTHER_ANSWERS,
  type OtherAnswer,
  RETRY_SENTENCES,
} from '@hmcp/core';

/** What a code, its name, an HTTP status or a JSON-RPC code means; `undefined` when this protocol has no such answer. */
export function explainCode(what: string): string | undefined {
  const code = codeOf(what);
  if (code === undefined) return isOtherAnswer(what) ? sentences(what, OTHER_ANSWERS[what]) : undefined;
  const byCheck = checksToldApart(code).map((check) => {
    const { says, mend } = meaningOf(code, check);
    return `  check "${check}": ${says}. Mend: ${mend}.\n`;
  });
  return `${meaning(code)}${byCheck.join('')}${page(code)}`;
}

/** What a refusal by one check means, as recorded in an audit. */
export function explainRefusal(code: number, check: Check | undefined): string {
  if (isHmcpErrorCode(code)) return `${meaning(code, check)}${page(code)}`;
  return explainCode(String(code)) ?? `${code}: not an answer of this protocol.\n`;
}

function meaning(code: HmcpErrorCode, check?: Check): string {
  return sentences(code, meaningOf(code, check));
}

function sentences(code: number | string, { name, retry, says, mend }: Meaning): string {
  return `${code} ${name}: ${says}.\n${RETRY_SENTENCES[retry]} Mend: ${mend}.\n`;
}

function isOtherAnswer(what: string): what is `${OtherAnswer}` {
  return Object.hasOwn(OTHER_ANSWERS, what);
}

function codeOf(what: string): HmcpErrorCode | undefined {
  if (/^\d{5}$/.test(what)) return isHmcpErrorCode(Number(what)) ? (Number(what) as HmcpErrorCode) : undefined;
  const named = Object.entries(ERRORS).find(([, { name }]) => name === what)?.[0];
  return named === undefined ? undefined : (Number(named) as HmcpErrorCode);
}

/** Where the page of a code is, in a clone of the repository; an installed package does not carry it. */
function page(code: HmcpErrorCode): string {
  const path = `docs/errors/${code}.md`;
  return existsSync(new URL(`../../../${path}`, import.meta.url)) ? `A refused and a mended example: ${path}\n` : '';
}
