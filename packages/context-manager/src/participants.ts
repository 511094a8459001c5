import type { ClientCredentials } from '@hmcp/auth';
import { Drained, MANAGER_SCOPES, PARTICIPANT_METHODS, Vote } from '@hmcp/core';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import * as z from 'zod';
import type { Message } from './messages.js';

/** A client this manager knows. Unknown ones cannot be named in `open`. */
export interface ManagedClient {
  readonly clientId: string;
  /** As the person reads it in a dialog. */
  readonly name: string;
  /** A person, not a program, answers what this client shows: it may confirm a switch. @default false @see protocol section 6 */
  readonly humanUi?: boolean | undefined;
  /** It may join as `effector` and be given permits; sessions that name it confirm at C2. @default false: 40301 `session` */
  readonly effector?: boolean | undefined;
  /** Where it is told of switches: never taken from a request. Without it the client pulls. */
  readonly endpoint?: { readonly url: string; readonly resource: string } | undefined;
}

/** What a participant said to a message; `undefined` when nothing came that can be used, which counts as silence. */
export type Reply =
  | { readonly method: typeof PARTICIPANT_METHODS.prepare; readonly vote: Vote }
  | { readonly method: typeof PARTICIPANT_METHODS.drain; readonly drained: Drained }
  | undefined;

/** Tells participants. Never rejects, and comes to an end: a manager that closes waits for it. */
export interface ParticipantLink {
  tell(message: Message, endpoint: NonNullable<ManagedClient['endpoint']>): Promise<Reply>;
  close(): Promise<void>;
}

/**
 * Tells participants over MCP: the manager is their client, with a client-credentials token of its own (`hmcp:context.control`,
 * `aud` = the participant). One connection each, made when needed and forgotten when it fails.
 * @see protocol section 6
 */
export function mcpParticipants(options: {
  readonly credentials: ClientCredentials;
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** Longest wait for a handshake, and for a reply, milliseconds. @default 5000 */
  readonly timeoutMs?: number | undefined;
  /** Told the class of a failure, nothing of the message. */
  readonly onFailure?: ((error: unknown) => void) | undefined;
}): ParticipantLink {
  const { credentials, onFailure, timeoutMs: timeout = 5000 } = options;
  const fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  const clients = new Map<string, Promise<Client>>();

  async function connect({ url, resource }: NonNullable<ManagedClient['endpoint']>): Promise<Client> {
    const client = new Client({ name: 'hmcp-context-manager', version: '0.1.0' }, { capabilities: {} });
    const transport = new StreamableHTTPClientTransport(new URL(url), {
      fetch: async (input, init) => {
        const { accessToken } = await credentials.token({ resource, scope: MANAGER_SCOPES.control });
        const headers = new Headers(init?.headers);
        headers.set('Authorization', `Bearer ${accessToken}`);
        return fetch(input, { ...init, headers, redirect: 'error' });
      },
    });
    try {
      await inTime(client.connect(transport, { timeout }), timeout);
      return client;
    } catch (error) {
      void client.close().catch(() => undefined);
      throw error;
    }
  }

  async function send(message: Message, endpoint: NonNullable<ManagedClient['endpoint']>): Promise<Reply> {
    let connected = clients.get(endpoint.url);
    if (connected === undefined) {
      connected = connect(endpoint);
      clients.set(endpoint.url, connected);
    }
    const { method, params } = message;
    const client = await connected;
    const answer = await client.request({ method, params: { ...params } }, z.looseObject({}), { timeout });
    const { _meta, resultType: _, ...said } = answer;
    if (method === PARTICIPANT_METHODS.prepare) return { method, vote: Vote.parse(said) };
    if (method === PARTICIPANT_METHODS.drain) return { method, drained: Drained.parse(said) };
    return undefined;
  }

  return {
    async tell(message, endpoint) {
      try {
        return await send(message, endpoint);
      } catch (error) {
        clients.delete(endpoint.url);
        onFailure?.(error);
        return undefined;
      }
    },
    async close() {
      const open = [...clients.values()];
      clients.clear();
      await Promise.allSettled(open.map(async (client) => (await client).close()));
    },
  };
}

/** The SDK gives a time to the requests of a handshake, and none to the notification that ends it. */
async function inTime(work: Promise<void>, timeout: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('the participant did not shake hands')), timeout);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
