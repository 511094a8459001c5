import type { Meaning } from './errors.js';

/**
 * Answers that are not about patient context, and so carry an HTTP status or a code of JSON-RPC or MCP.
 * @see protocol section 4
 */
export const OTHER_ANSWERS = {
  400: {
    name: 'bad request',
    retry: 'never',
    says: 'malformed HTTP or JSON, a JSON-RPC batch, or a token sent in more than one way',
    mend: 'send one well-formed request',
  },
  401: {
    name: 'unauthorized',
    retry: 'never',
    says: 'no access token, or one that is not valid here (issuer, audience, time, chain, a patient/ scope without a patient)',
    mend: '`hmcp token inspect` shows what the token says; get a new one for this server (`resource_metadata` in the challenge)',
  },
  403: {
    name: 'forbidden',
    retry: 'never',
    says: 'the token lacks a scope, or the request came from a host or origin that is not served',
    mend: 'ask for every scope of the challenge',
  },
  413: { name: 'content too large', retry: 'never', says: 'the request body is over the limit', mend: 'send less' },
  415: {
    name: 'unsupported media type',
    retry: 'never',
    says: 'the request body is not JSON',
    mend: 'send `content-type: application/json`',
  },
  503: {
    name: 'authority unavailable',
    retry: 'same',
    says: 'keys, introspection or policy could not be asked',
    mend: 'repeat after `Retry-After`',
  },
  [-32700]: { name: 'parse error', retry: 'never', says: 'the message is not JSON', mend: 'send JSON' },
  [-32600]: {
    name: 'invalid request',
    retry: 'never',
    says: 'the message is not a JSON-RPC request of this protocol',
    mend: 'send one request at a time',
  },
  [-32601]: {
    name: 'method not found',
    retry: 'never',
    says: 'the server has no such method',
    mend: 'call one that the server announces',
  },
  [-32602]: {
    name: 'invalid params',
    retry: 'never',
    says: 'the envelope in `_meta` or the arguments do not satisfy their schema',
    mend: 'send exactly what protocol section 2.2 or the listed input schema names',
  },
  [-32603]: {
    name: 'internal error',
    retry: 'never',
    says: 'the handler failed; its text stays in the server',
    mend: 'ask whoever runs the server',
  },
  [-32020]: {
    name: 'header mismatch',
    retry: 'never',
    says: 'an MCP header and the body do not say the same',
    mend: 'let the SDK write the headers',
  },
} as const satisfies Record<number, Meaning>;

/** A code of {@link OTHER_ANSWERS}. */
export type OtherAnswer = keyof typeof OTHER_ANSWERS;
