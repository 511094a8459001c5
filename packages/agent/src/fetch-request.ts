import * as z from 'zod';
import type { JsonRpcMessage } from './instrument.js';
import { unlessAborted } from './unless-aborted.js';

/** What a client asked its `fetch` for. */
export interface Asked {
  readonly url: URL;
  readonly method: string;
  readonly headers: Headers;
  readonly text: string;
  readonly signal: AbortSignal | undefined;
}

const Message = z.looseObject({
  jsonrpc: z.literal('2.0'),
  id: z.union([z.string(), z.number()]).optional(),
  method: z.string().optional(),
  params: z.record(z.string(), z.unknown()).optional(),
});

/**
 * Reads what `fetch` was called with. Content-Length is that of the text before it was checked, so it is worked out anew.
 * @throws what the signal was aborted with, as `fetch` does, also while the body is still being read
 */
export async function readAsked(input: string | URL | Request, init: RequestInit = {}): Promise<Asked> {
  const given = input instanceof Request ? input : undefined;
  const signal = init.signal ?? given?.signal ?? undefined;
  signal?.throwIfAborted();
  const headers = new Headers(init.headers ?? given?.headers);
  headers.delete('content-length');
  const { body = given?.body } = init;
  return {
    url: new URL(given?.url ?? String(input)),
    method: (init.method ?? given?.method ?? 'GET').toUpperCase(),
    headers,
    text: body === undefined || body === null ? '' : await unlessAborted(new Response(body).text(), signal),
    signal,
  };
}

/** The one JSON-RPC message of a request; `undefined` when it holds none. */
export function messageOf({ text }: Asked): JsonRpcMessage | undefined {
  try {
    return Message.safeParse(JSON.parse(text)).data as JsonRpcMessage | undefined;
  } catch {
    return undefined;
  }
}
