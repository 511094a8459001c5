/**
 * Why a request carries no usable access token. `error` is absent when there were no credentials at all (RFC 6750 section 3.1).
 * Neither message nor `error` says more than the class of fault; `reason` is fixed words for the local audit.
 * @see protocol section 4
 */
export class TokenError extends Error {
  readonly status: 400 | 401;
  /** For the challenge; `undefined` when no credentials were sent. */
  readonly error: 'invalid_request' | 'invalid_token' | undefined;
  /** Fixed words; never part of an answer. */
  readonly reason: string;

  constructor(error: 'invalid_request' | 'invalid_token' | undefined, reason: string) {
    super(error === 'invalid_request' ? 'malformed request' : 'access token missing or not valid');
    this.name = 'TokenError';
    this.status = error === 'invalid_request' ? 400 : 401;
    this.error = error;
    this.reason = reason;
  }
}

/**
 * The bearer token of a request: from the `Authorization` header and nowhere else, exactly one. A token in the query is refused,
 * one in a body is never looked at. Node drops a second `Authorization` header before a `Request` exists: the Node rim must
 * look for it in `rawHeaders`.
 * @throws {TokenError} 400 `invalid_request`: token in the query, several credentials, malformed; 401 without `error`: none, or another scheme
 * @see RFC 6750 sections 2 and 3.1
 */
export function readBearer(request: Request): string {
  if (new URL(request.url).searchParams.has('access_token')) throw new TokenError('invalid_request', 'token in the query');
  const header = request.headers.get('authorization');
  if (header === null || header.trim() === '') throw new TokenError(undefined, 'no credentials');
  // Fetch joins repeated headers with a comma, which no bearer token contains.
  if (/,\s*(bearer|dpop|basic)\b/i.test(header)) throw new TokenError('invalid_request', 'several credentials');
  const [scheme] = header.split(' ', 1);
  if (scheme?.toLowerCase() !== 'bearer') throw new TokenError(undefined, 'other authentication scheme');
  const token = /^[^ ]+ +([A-Za-z0-9\-._~+/]+=*)$/.exec(header)?.[1];
  if (token === undefined) throw new TokenError('invalid_request', 'malformed authorization header');
  return token;
}

/** Members of a `WWW-Authenticate: Bearer` challenge; each is left out when absent. */
export interface BearerChallenge {
  /** Absent when the request had no credentials. */
  readonly error?: 'invalid_request' | 'invalid_token' | 'insufficient_scope' | undefined;
  /** A fixed sentence; no id, no text of an exception. */
  readonly description?: string | undefined;
  /** Every scope the operation needs, in one challenge. */
  readonly scope?: string | undefined;
  /** URL of the protected-resource metadata. */
  readonly resourceMetadata?: string | undefined;
}

/**
 * Value of a `WWW-Authenticate` header. Only the characters RFC 6750 section 3 allows survive (printable ASCII without `"` and `\`).
 * @see RFC 6750 section 3, RFC 9728 section 5.1
 */
export function bearerChallenge(options: BearerChallenge): string {
  const members = [
    ['error', options.error],
    ['error_description', options.description],
    ['scope', options.scope],
    ['resource_metadata', options.resourceMetadata],
  ] as const;
  const written = members.flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}="${value.replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, '')}"`],
  );
  return ['Bearer', written.join(', ')].join(' ').trimEnd();
}
