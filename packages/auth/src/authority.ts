import { outsideScope } from '@hmcp/core/request-scope';

/** The `fetch` of this runtime, or one a test or deployment puts in its place. */
export type Fetch = (input: string, init: RequestInit) => Promise<Response>;

/** Milliseconds an authorization server has to answer. @see authorization study RS-07 */
const TIMEOUT_MS = 5000;
const MAX_ANSWER_BYTES = 256 * 1024;

/**
 * An authorization server, its keys or the access policy could not be asked: answered 503 with `Retry-After` (or 50301),
 * never 401, which would send a caller with a good token to authenticate again.
 * @see protocol section 4
 */
export class AuthorityUnavailable extends Error {
  /** For the `Retry-After` header, in seconds. */
  readonly retryAfterSeconds: number;
  /** Fixed words, for the local log and audit only. */
  readonly reason: string;

  /** @param retryAfterSeconds at least 1. Default 5 */
  constructor(reason: string, retryAfterSeconds = 5) {
    super('an authority could not be asked');
    this.name = 'AuthorityUnavailable';
    this.reason = reason;
    this.retryAfterSeconds = Math.max(1, Math.ceil(retryAfterSeconds));
  }
}

/** What an authority said: a status below 500 and its JSON (`undefined` when the body is not JSON). */
export interface AuthorityAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** How an authority is reached. */
export interface AuthorityNetwork {
  readonly fetch?: Fetch | undefined;
  /** @default 5000 */
  readonly timeoutMs?: number | undefined;
}

/** GETs a JSON document. No redirect is followed. @throws {AuthorityUnavailable} no answer, 429 or 5xx, or too large */
export function getJson(url: string, network: AuthorityNetwork): Promise<AuthorityAnswer> {
  return askJson(url, { method: 'GET' }, network);
}

/** POSTs a form and reads the JSON answer. @throws {AuthorityUnavailable} as {@link getJson} */
export function postForm(url: string, form: URLSearchParams, network: AuthorityNetwork): Promise<AuthorityAnswer> {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  return askJson(url, { method: 'POST', headers, body: form.toString() }, network);
}

/** POSTs JSON, and gives the answer's text as it came. @throws {AuthorityUnavailable} as {@link getJson} */
export function postJson(
  url: string,
  body: object,
  network: AuthorityNetwork,
): Promise<{ readonly status: number; readonly text: string }> {
  const headers = { 'content-type': 'application/json' };
  return ask(url, { method: 'POST', headers, body: JSON.stringify(body) }, network);
}

async function askJson(url: string, init: RequestInit, network: AuthorityNetwork): Promise<AuthorityAnswer> {
  const { status, text } = await ask(url, init, network);
  return { status, body: parse(text) };
}

/** Runs outside every request's scope: keys and exchanged tokens are shared by requests, and outlive the one that asked. */
function ask(url: string, init: RequestInit, network: AuthorityNetwork): Promise<{ status: number; text: string }> {
  return outsideScope(async () => {
    const fetch: Fetch = network.fetch ?? globalThis.fetch;
    const signal = AbortSignal.timeout(network.timeoutMs ?? TIMEOUT_MS);
    let response: Response;
    let text: string;
    try {
      const headers = { accept: 'application/json', ...(init.headers as Record<string, string> | undefined) };
      response = await fetch(url, { ...init, headers, redirect: 'manual', signal });
      text = await readBounded(response);
    } catch {
      throw new AuthorityUnavailable('no answer');
    }
    if (response.status === 429 || response.status >= 500) {
      throw new AuthorityUnavailable('answered busy or failed', retryAfter(response));
    }
    return { status: response.status, text };
  });
}

async function readBounded(response: Response): Promise<string> {
  if (response.body === null) return '';
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let size = 0;
  let text = '';
  for await (const chunk of response.body) {
    size += chunk.byteLength;
    if (size > MAX_ANSWER_BYTES) throw new RangeError('answer too large');
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function retryAfter(response: Response): number | undefined {
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 120) : undefined;
}
