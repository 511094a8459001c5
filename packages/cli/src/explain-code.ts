import { ERRORS, RETRY_SENTENCES } from '@hmcp/core';

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
  for (const [code, { name, retry, says, mend }] of Object.entries(ERRORS)) {
    if (what === code || what === name) return `${code} ${name}: ${says}.\n${RETRY_SENTENCES[retry]} Mend: ${mend}.\n`;
  }
  return Object.hasOwn(OTHERS, what) ? `${what} ${OTHERS[what]}\n` : undefined;
}
