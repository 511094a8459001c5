import { resourceIdentifier, secureUrl } from '@hmcp/auth';

/**
 * A server this agent calls.
 * - `hmcp`: checks patient context; gets the envelope and a token of its own
 * - `plain`: an unmodified MCP server inside the trust boundary; gets nothing of the context, its answers are checked here
 * - `external`: outside the trust boundary; as `plain`, and each call is audited as a disclosure
 * @see protocol sections 1 and 3
 */
export interface Peer {
  /** What the agent's own code calls it. */
  readonly name: string;
  /** Resource identifier: audience of its tokens and `by` of its answers. */
  readonly resource: string;
  /** Where it is reached. @default `resource` */
  readonly url?: string | undefined;
  readonly kind: 'hmcp' | 'plain' | 'external';
  /** A program to start as a child of this process and to speak to over its pipes, instead of `url`. Never `external`. */
  readonly command?: PeerCommand | undefined;
  /**
   * Scopes asked for it when a call has no contract (a plain MCP client on an instrumented transport).
   * @default those `scopes_supported` of its protected-resource metadata that the caller's token covers
   */
  readonly scopes?: string | undefined;
}

/** How a child is started: a program and its arguments, without a shell. */
export interface PeerCommand {
  readonly program: string;
  readonly args?: readonly string[] | undefined;
}

/** A peer with its address worked out. */
export interface ResolvedPeer {
  readonly name: string;
  readonly resource: string;
  readonly url: URL;
  readonly kind: Peer['kind'];
  readonly command?: PeerCommand | undefined;
  readonly scopes: string | undefined;
}

/**
 * Reads the declared peers. @throws {TypeError} for a bad or repeated name, a bad resource identifier, or an address that is
 * neither `https:` nor loopback (never `http:` in production)
 * @see protocol section 9
 */
export function resolvePeers(peers: readonly Peer[]): ReadonlyMap<string, ResolvedPeer> {
  if (!Array.isArray(peers)) throw new TypeError('"peers" is missing');
  const table = new Map<string, ResolvedPeer>();
  for (const peer of peers) {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(peer.name)) throw new TypeError('"name" of a peer must match [A-Za-z0-9_.-]{1,64}');
    if (table.has(peer.name)) throw new TypeError(`peer "${peer.name}" is declared twice`);
    if (!['hmcp', 'plain', 'external'].includes(peer.kind)) {
      throw new TypeError(`"kind" of peer "${peer.name}" must be hmcp, plain or external`);
    }
    if (peer.command !== undefined && (peer.kind === 'external' || peer.command.program === ''))
      throw new TypeError(`"command" of peer "${peer.name}" must name a program, and none is external`);
    table.set(peer.name, {
      name: peer.name,
      resource: resourceIdentifier(peer.resource, `resource of peer ${peer.name}`),
      url: secureUrl(peer.url ?? peer.resource, `url of peer ${peer.name}`),
      kind: peer.kind,
      ...(peer.command === undefined ? {} : { command: peer.command }),
      scopes: peer.scopes,
    });
  }
  return table;
}
