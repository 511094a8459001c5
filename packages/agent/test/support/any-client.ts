import { fileURLToPath } from 'node:url';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport as StdioClientTransportV1 } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport as StreamableHTTPClientTransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { ClientTransport, Session } from '../../src/index.js';
import { FHIR } from './world.js';

/** A client that knows nothing of this project, as a framework has one. */
export interface AnyClient {
  call(args?: Record<string, unknown>, more?: CallOptions): Promise<{ structuredContent?: unknown; _meta?: unknown }>;
  tools(): Promise<string[]>;
  readonly errors: Error[];
  close(): Promise<void>;
}
interface CallOptions {
  readonly meta?: Record<string, unknown>;
  readonly signal?: AbortSignal;
  readonly onprogress?: (progress: unknown) => void;
}

/** One way in which a client reaches a session's peers. */
export interface Way {
  readonly name: string;
  readonly kind: 'http' | 'stdio';
  connect(session: Session, url: string, peer?: string): Promise<AnyClient>;
}

/** Resource of the peer that is reached over a pipe. */
export const PIPE = 'https://pipe-labs.example/mcp';
const script = fileURLToPath(new URL('stdio-server.mjs', import.meta.url));
const child = { command: process.execPath, args: [script, FHIR, PIPE], stderr: 'ignore' as const };

type Transport = (session: Session, url: string, peer: string) => ClientTransport;

const overV2: Transport = (session, url) => session.transport(new StreamableHTTPClientTransport(new URL(url)));
const overV1: Transport = (session, url) => session.transport(new StreamableHTTPClientTransportV1(new URL(url)));
const fetchV2: Transport = (session, url) => new StreamableHTTPClientTransport(new URL(url), { fetch: session.fetch });
const fetchV1: Transport = (session, url) => new StreamableHTTPClientTransportV1(new URL(url), { fetch: session.fetch });
const pipeV2: Transport = (session, _, peer) => session.transport(new StdioClientTransport(child), { peer });
const pipeV1: Transport = (session, _, peer) => session.transport(new StdioClientTransportV1(child), { peer });

/** Every generation of client, over every kind of connection. */
export const ways: readonly Way[] = [
  { name: 'SDK v2, its transport', kind: 'http', connect: v2('auto', overV2) },
  { name: 'SDK v2 in its 2025 mode, its transport', kind: 'http', connect: v2('legacy', overV2) },
  { name: 'SDK v1, its transport', kind: 'http', connect: v1(overV1) },
  { name: 'SDK v2, session.fetch', kind: 'http', connect: v2('auto', fetchV2) },
  { name: 'SDK v2 in its 2025 mode, session.fetch', kind: 'http', connect: v2('legacy', fetchV2) },
  { name: 'SDK v1, session.fetch', kind: 'http', connect: v1(fetchV1) },
  { name: 'SDK v2, a child process', kind: 'stdio', connect: v2('legacy', pipeV2) },
  { name: 'SDK v1, a child process', kind: 'stdio', connect: v1(pipeV1) },
];

function v2(mode: 'auto' | 'legacy', transport: Transport): Way['connect'] {
  return async (session, url, peer = 'pipe') => {
    const client = new Client({ name: 'framework', version: '1' }, { versionNegotiation: { mode } });
    const errors: Error[] = [];
    client.onerror = (error) => errors.push(error);
    await client.connect(transport(session, url, peer) as StreamableHTTPClientTransport);
    return {
      errors,
      call: (args = {}, { meta, ...options } = {}) =>
        client.callTool({ name: 'list-results', arguments: args, ...(meta ? { _meta: meta } : {}) }, options),
      tools: async () => (await client.listTools()).tools.map(({ name }) => name),
      close: () => client.close(),
    };
  };
}

function v1(transport: Transport): Way['connect'] {
  return async (session, url, peer = 'pipe') => {
    const client = new ClientV1({ name: 'framework', version: '1' });
    const errors: Error[] = [];
    client.onerror = (error) => errors.push(error);
    await client.connect(transport(session, url, peer) as never);
    return {
      errors,
      call: async (args = {}, { meta, ...options } = {}) => {
        const asked = { name: 'list-results', arguments: args, ...(meta ? { _meta: meta } : {}) };
        const { structuredContent, _meta } = await client.callTool(asked, undefined, options);
        return { structuredContent, _meta };
      },
      tools: async () => (await client.listTools()).tools.map(({ name }) => name),
      close: () => client.close(),
    };
  };
}
