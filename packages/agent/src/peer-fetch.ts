import type { HmcpError } from '@hmcp/core';
import { sending } from './call-frame.js';
import type { TransportFetch } from './instrument.js';
import type { ResolvedPeer } from './peers.js';
import { isContextHeader } from './without-context.js';

/** What a peer says of the token it was sent, by the check that a caller is told. */
export const TOKEN_REFUSED = {
  peer: 'the peer does not accept the token',
  scope: 'the peer wants a scope that the token lacks',
} as const;

/**
 * The network of an instrumented HTTP transport: requests go to the declared address only, without redirects; to an `hmcp` peer
 * with the token of the message being sent (only here can `Authorization` be set) and its `traceparent`; headers that carry a
 * context are removed for everybody. A refused token is a refusal of this process (40302), never its response's text.
 * The stream a 2025-era client opens beside its requests belongs to no request, so it is answered "not offered" here.
 * @param refusal makes the refusal to throw
 * @see protocol sections 2.1, 2.5 and 4
 */
export function peerFetch(
  base: TransportFetch,
  peer: ResolvedPeer | undefined,
  refusal: (code: 40302 | 42801, check: 'peer' | 'scope', reason: string) => HmcpError,
): TransportFetch {
  return async (url, init = {}) => {
    const headers = new Headers(init.headers);
    for (const name of [...headers.keys()]) if (isContextHeader(name)) headers.delete(name);
    if (peer !== undefined && new URL(url).href !== peer.url.href)
      throw refusal(42801, 'peer', 'the address is not that of the peer');
    const { token, traceparent, signal } = sending.getStore() ?? {};
    const signals = [init.signal, signal].filter((one) => one !== undefined && one !== null);
    const until = signals.length > 1 ? { signal: AbortSignal.any(signals) } : { signal: signals[0] ?? null };
    const sent = { ...init, ...until, headers, redirect: 'manual' } as const;
    if (peer?.kind !== 'hmcp') return base(url, sent);
    if ((init.method ?? 'GET').toUpperCase() === 'GET') return new Response(null, { status: 405 });
    headers.delete('authorization');
    headers.delete('traceparent');
    if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
    if (traceparent !== undefined) headers.set('traceparent', traceparent);
    const response = await base(url, sent);
    if (response.status !== 401 && response.status !== 403) return response;
    await response.body?.cancel();
    const lacksScope = /\berror="?insufficient_scope\b/i.test(response.headers.get('www-authenticate') ?? '');
    const check = response.status === 403 && lacksScope ? 'scope' : 'peer';
    throw refusal(40302, check, TOKEN_REFUSED[check]);
  };
}
