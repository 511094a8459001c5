import { META, PROTOCOL_VERSION } from '@hmcp/core';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import type { ClientTransport } from './instrument.js';
import type { PeerCommand, ResolvedPeer } from './peers.js';
import { unlessAborted } from './unless-aborted.js';

/** How this package introduces itself to every server: a constant, so that it tells nothing of a deployment. */
const CLIENT_INFO = { name: 'hmcp-agent', version: '0.1.0' };

/** Milliseconds a server has to answer the handshake. */
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * One long-lived MCP client for each peer, connected by the first request that needs it. A connection that failed is not
 * kept, and one request's failure to connect is not another's: each tries in its own scope.
 */
export class PeerClients {
  readonly #fetch: typeof globalThis.fetch;
  readonly #protect: <T extends ClientTransport>(transport: T, peer: ResolvedPeer) => T;
  readonly #connecting = new Map<string, Promise<Client>>();
  readonly #open = new Set<Client>();
  #closed = false;

  constructor(options: {
    fetch: typeof globalThis.fetch;
    protect: <T extends ClientTransport>(transport: T, peer: ResolvedPeer) => T;
  }) {
    this.#fetch = options.fetch;
    this.#protect = options.protect;
  }

  /** The client of a peer, connected. @throws whatever connecting threw; the reason of `signal` when it aborts first */
  async get(peer: ResolvedPeer, signal: AbortSignal): Promise<Client> {
    for (;;) {
      if (this.#closed) throw new Error('the agent is closed');
      const begun = this.#connecting.get(peer.name);
      if (begun === undefined) return unlessAborted(this.#begin(peer), signal);
      const client = await unlessAborted(
        begun.catch(() => undefined),
        signal,
      );
      if (client !== undefined) return client;
    }
  }

  /** Connects anew next time; requests under way on the old connection finish. */
  forget(peer: ResolvedPeer): void {
    this.#connecting.delete(peer.name);
  }

  /** Closes every connection, and refuses new ones. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#connecting.clear();
    const open = [...this.#open];
    this.#open.clear();
    await Promise.all(open.map((client) => client.close()));
  }

  #gone(peer: ResolvedPeer, client: Client): void {
    if (this.#open.delete(client)) this.#connecting.delete(peer.name);
  }

  #begin(peer: ResolvedPeer): Promise<Client> {
    // Forgotten before anybody learns of the failure, so that whoever waited for it begins anew.
    const connecting: Promise<Client> = this.#connect(peer).catch((error: unknown) => {
      if (this.#connecting.get(peer.name) === connecting) this.#connecting.delete(peer.name);
      throw error;
    });
    this.#connecting.set(peer.name, connecting);
    return connecting;
  }

  async #connect(peer: ResolvedPeer): Promise<Client> {
    const client = new Client(CLIENT_INFO, {
      versionNegotiation: { mode: 'auto' },
      inputRequired: { autoFulfill: false },
      capabilities: { extensions: { [META.context]: { versions: [PROTOCOL_VERSION] } } },
    });
    const { url, command } = peer;
    const transport =
      command === undefined
        ? new StreamableHTTPClientTransport(url, { fetch: (input, init) => this.#fetch(input, init) })
        : await pipeTo(command);
    this.#open.add(client);
    try {
      await client.connect(this.#protect(transport, peer), { timeout: CONNECT_TIMEOUT_MS });
      // A child that ended is started again by the next request.
      if (command !== undefined) client.onclose = () => this.#gone(peer, client);
      return client;
    } catch (error) {
      this.#open.delete(client);
      await client.close().catch(() => undefined);
      throw error;
    }
  }
}

/**
 * Node only, so loaded only by those that have such a peer. The child gets no environment but the usual few variables, and
 * `NODE_ENV`: what is refused in production is refused there too.
 */
async function pipeTo({ program, args = [] }: PeerCommand) {
  const { getDefaultEnvironment, StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
  const { NODE_ENV } = process.env;
  const env = { ...getDefaultEnvironment(), ...(NODE_ENV === undefined ? {} : { NODE_ENV }) };
  return new StdioClientTransport({ command: program, args: [...args], env, stderr: 'inherit' });
}
