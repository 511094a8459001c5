import { type ClientTransport, instrument, transportKind } from './instrument.js';
import type { PlaceMessage } from './message-place.js';
import { type LinkParts, PeerLink } from './peer-link.js';
import type { ResolvedPeer } from './peers.js';

/** Options of {@link Session.transport}. */
export interface TransportOptions {
  /** Name of a declared peer. @default the one whose address the transport has; a pipe has none, so it needs the name */
  readonly peer?: string | undefined;
  /** Needed when the shape of the transport does not tell. */
  readonly kind?: 'http' | 'stdio' | undefined;
}

/** Everything a client transport is protected with. */
export interface Protection {
  readonly parts: LinkParts;
  readonly peer: ResolvedPeer | undefined;
  readonly kind?: 'http' | 'stdio' | undefined;
  readonly place?: PlaceMessage | undefined;
}

/** Protects a client transport in place. @throws {TypeError} when it was done before, or the kind cannot be told */
export function protectTransport<T extends ClientTransport>(target: T, { parts, peer, place, ...more }: Protection): T {
  const told = transportKind(target);
  const kind = more.kind ?? told;
  if (kind === undefined) throw new TypeError('the kind of this transport cannot be told: give { kind: "http" | "stdio" }');
  // On a pipe the token travels in the message; on HTTP it never does.
  if (kind === 'stdio' && told === 'http') throw new TypeError('this transport is http: "kind" says stdio');
  if (kind === 'http' && told !== 'http') {
    throw new TypeError('an http transport must be a StreamableHTTPClientTransport of MCP SDK v1 or v2');
  }
  instrument(target, new PeerLink(peer, kind, parts, place));
  return target;
}

/** The one peer that is reached at an address; `undefined` where there is none, or more than one. */
export function peerAt(peers: ReadonlyMap<string, ResolvedPeer>, address: URL): ResolvedPeer | undefined {
  const [only, ...more] = [...peers.values()].filter(({ url, command }) => command === undefined && url.href === address.href);
  return more.length === 0 ? only : undefined;
}

/**
 * The peer a session's transport goes to. Nothing could ever be sent to any other, so that is said at once.
 * @throws {TypeError} when not exactly one declared peer has this name or address
 */
export function peerOf(peers: ReadonlyMap<string, ResolvedPeer>, transport: object, name: string | undefined): ResolvedPeer {
  const address = '_url' in transport && transport._url instanceof URL ? transport._url : undefined;
  if (name === undefined) {
    if (address === undefined) throw new TypeError('a transport without an address needs { peer }, the name of a declared peer');
    const found = peerAt(peers, address);
    if (found !== undefined) return found;
    throw new TypeError(
      'not exactly one declared peer has the address of this transport: declare it in `peers`, or give { peer }',
    );
  }
  const named = peers.get(name);
  if (named === undefined) throw new TypeError('no peer of this name is declared: add it to `peers` of the agent');
  if (address !== undefined && address.href !== named.url.href) {
    throw new TypeError(`this transport does not lead to the declared address of peer "${name}"`);
  }
  return named;
}
