import { existsSync } from 'node:fs';
import { type Check, checksToldApart, ERRORS, type HmcpErrorCode, isHmcpErrorCode, meaningOf, RETRY_SENTENCES } from '@hmcp/core';

/** Answers that are not about patient context, and so carry an HTTP status or a code of JSON-RPC or MCP. */
const OTHERS: Readonly<Record<string, string>> = {
  400: 'bad request: malformed HTTP or JSON, a JSON-RPC batch, or a token sent in more than one way.\nDo not retry. Mend: send one well-formed request.',
  401: 'unauthorized: no access token, or one that is not valid here (issuer, audience, time, chain, a patient/ scope without a patient).\nDo not retry. Mend: `hmcp token inspect` shows what the token says; get a new one for this server (`resource_metadata` in the challenge).',
  403: 'forbidden: the token lacks a scope, or the request came from a host or origin that is not served.\nDo not retry. Mend: ask for every scope of the challenge.',
  413: 'content too large: the request body is over the limit.\nDo not retry. Mend: send less.',
  415: 'unsupported media type: the request body is not JSON.\nDo not retry. Mend: send `content-type: application/json`.',
  503: 'authority unavailable: keys, introspection or policy could not be asked.\nThe same request may be repeated after `Retry-After`.',
  '-32700': 'parse error: the message is not JSON.\nDo not retry. Mend: send JSON.',
  '-32600':
    'invalid request: the message is not a JSON-RPC request of this protocol.\nDo not retry. Mend: send one request at a time.',
  '-32601': 'method not found: the server has no such method.\nDo not retry.',
  '-32602':
    'invalid params: the envelope in `_meta` or the arguments do not satisfy their schema.\nDo not retry. Mend: send exactly what protocol section 2.2 or the listed input schema names.',
  '-32603': 'internal error: the handler failed; its text stays in the server.\nAsk whoever runs the server.',
  '-32020':
    'header mismatch: an MCP header and the body do not say the same.\nDo not retry. Mend: let the SDK write the headers.',
};

/** What a code, its name, an HTTP status or a JSON-RPC code means; `undefined` when this protocol has no such answer. */
export function explainCode(what: string): string | undefined {
  const code = codeOf(what);
  if (code === undefined) return Object.hasOwn(OTHERS, what) ? `${what} ${OTHERS[what]}\n` : undefined;
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
  const { name, retry, says, mend } = meaningOf(code, check);
  return `${code} ${name}: ${says}.\n${RETRY_SENTENCES[retry]} Mend: ${mend}.\n`;
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
