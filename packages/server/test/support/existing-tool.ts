import { parseScopes } from '@hmcp/core';
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js';
import { InMemoryTransport, McpServer } from '@modelcontextprotocol/server';
import { type AgentEnv, createProtection, type ProtectedOperations, type ServerTransport } from '../../src/index.js';
import type { Reply } from './carriers.js';
import { ANN, type World, world } from './world.js';

/** What registers tools, resources and prompts on a server of either SDK. */
export interface Registrar {
  registerTool(name: string, config: object, handler: (args: Record<string, unknown>) => unknown): unknown;
  registerResource(name: string, uri: unknown, config: object, handler: () => unknown): unknown;
  registerPrompt(name: string, config: object, handler: () => unknown): unknown;
}

/** A server of either SDK, protected on a connection that is pinned to Ann. */
export interface Pinned extends World {
  ask(method: string, params?: object): Promise<Reply>;
  close(): Promise<void>;
}

/** Makes a server of an SDK that knows nothing of HMCP. */
export const MAKES = {
  'SDK v1': () => new McpServerV1({ name: 'existing', version: '1' }),
  'SDK v2': () => new McpServer({ name: 'existing', version: '1' }),
} as const;

/** Protects a server with what `register` puts on it. */
export async function pinned(
  sdk: keyof typeof MAKES,
  register: (server: Registrar) => void,
  operations: ProtectedOperations,
  more: Partial<AgentEnv> = {},
): Promise<Pinned> {
  const w = world(more);
  const server = MAKES[sdk]();
  register(server as unknown as Registrar);
  const scope = 'patient/Observation.rs patient/hmcp:read';
  const accessToken = w.issuer.issue(ANN, { scope, scopes: parseScopes(scope) });
  const [near, far] = InMemoryTransport.createLinkedPair();
  const hmcp = createProtection({ ...w.env, operations });
  await server.connect(hmcp.protect(far as ServerTransport, { accessToken }) as never);
  const waiting = new Map<unknown, (message: unknown) => void>();
  near.onmessage = (message) => waiting.get((message as { id?: unknown }).id)?.(message);
  await near.start();
  let id = 0;
  return {
    ...w,
    async ask(method, params = {}) {
      id += 1;
      const answered = new Promise<unknown>((resolve) => waiting.set(id, resolve));
      await near.send({ jsonrpc: '2.0', id, method, params } as never);
      const message = (await answered) as Pick<Reply, 'result' | 'error'>;
      return { status: undefined, text: JSON.stringify(message), result: message.result, error: message.error };
    },
    close: () => server.close(),
  };
}
