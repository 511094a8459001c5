import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import { currentScope } from '@hmcp/core/request-scope';
import { NodeStreamableHTTPServerTransport as HttpV2 } from '@modelcontextprotocol/node';
import { Server as ServerV1 } from '@modelcontextprotocol/sdk/server/index.js';
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport as StdioV1 } from '@modelcontextprotocol/sdk/server/stdio.js';
import { StreamableHTTPServerTransport as HttpV1 } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { McpServer } from '@modelcontextprotocol/server';
import { StdioServerTransport as StdioV2 } from '@modelcontextprotocol/server/stdio';
import * as z from 'zod';
import type { ProtectedOperations, ServerTransport } from '../../src/index.js';
import { BO, observation, READ, SECRET } from './world.js';

/** What tests use of a server that knows nothing of HMCP, whichever SDK it is written with. */
export interface ExistingServer {
  connect(transport: ServerTransport): Promise<void>;
  close(): Promise<void>;
}

/** The same of an HTTP transport. */
export interface HttpTransport extends ServerTransport {
  readonly sessionId?: string | undefined;
  handleRequest(request: IncomingMessage, response: ServerResponse, body?: unknown): Promise<void>;
}

/** An SDK, by what it makes. */
export interface Sdk {
  server(reached: (what: string, seen?: unknown) => void): ExistingServer;
  http(sessions: (() => string) | undefined): HttpTransport;
  stdio(stdin: Readable, stdout: Writable): ServerTransport;
}

/** The deployment's declarations: the tools of an existing server take the patient as an argument. */
export const EXISTING: ProtectedOperations = {
  tools: {
    'get-labs': { ...READ, patientArgument: 'patientId' },
    'wrong-labs': { ...READ, patientArgument: null },
    boom: { ...READ, patientArgument: null },
    late: { ...READ, patientArgument: null },
    chart: { scope: 'patient/Condition.rs', patientArgument: null },
  },
  resources: { 'chart://labs': READ },
  methods: { 'org.example/private': { ...READ, patientArgument: null } },
};

type Registers = (name: string, config: object, handler: (args: never, extra: unknown) => object) => unknown;
type PrivateHandlers = { _requestHandlers: Map<string, () => Promise<object>> };
interface Low {
  connect(transport: never): Promise<void>;
  fallbackRequestHandler?: unknown;
}

/** Tools declared and not, registered before and after the connection, in public and behind every public method. */
function offer(register: Registers, low: Low, reached: (what: string, seen?: unknown) => void): void {
  const labs = (of: string) => ({ content: [{ type: 'text', text: JSON.stringify(observation(of)) }] });
  const input = { patientId: z.string(), category: z.string().optional() };
  register('get-labs', { inputSchema: z.object(input) }, ({ patientId }: { patientId: string }, extra) => {
    reached('get-labs', extra);
    return labs(patientId);
  });
  const plain = (name: string, said: () => object) =>
    register(name, {}, () => {
      reached(name);
      return said();
    });
  plain('wrong-labs', () => labs(BO));
  plain('boom', () => {
    throw new Error(`no bed for ${SECRET}`);
  });
  plain('chart', () => labs(BO));
  plain('bare', () => labs(BO));
  const connect = low.connect.bind(low);
  low.connect = async (transport: never) => {
    await connect(transport);
    plain('late', () => ({ content: [] }));
    plain('late-bare', () => labs(BO));
    const handlers = (low as unknown as PrivateHandlers)._requestHandlers;
    for (const method of ['org.example/private', 'org.example/private-bare']) {
      handlers.set(method, async () => {
        reached(method);
        return { answer: 'done' };
      });
    }
    low.fallbackRequestHandler = async ({ method }: { method: string }) => {
      reached(method);
      return labs(BO);
    };
  };
}

const info = { name: 'existing', version: '1' };

export const V1: Sdk = {
  server(reached) {
    const server = new McpServerV1(info);
    offer(server.registerTool.bind(server) as unknown as Registers, server.server as unknown as Low, reached);
    return server as unknown as ExistingServer;
  },
  http: (sessionIdGenerator) =>
    new HttpV1(sessionIdGenerator === undefined ? {} : { sessionIdGenerator }) as unknown as HttpTransport,
  stdio: (stdin, stdout) => new StdioV1(stdin, stdout),
};

export const V2: Sdk = {
  server(reached) {
    const server = new McpServer(info);
    offer(server.registerTool.bind(server) as unknown as Registers, server.server as unknown as Low, reached);
    return server as unknown as ExistingServer;
  },
  http: (sessionIdGenerator) =>
    new HttpV2(sessionIdGenerator === undefined ? {} : { sessionIdGenerator }) as unknown as HttpTransport,
  stdio: (stdin, stdout) => new StdioV2(stdin, stdout),
};

/** SDK v1's low-level `Server`: a switch over names, as many were written. */
export const V1_LOW: Sdk = {
  ...V1,
  server(reached) {
    const server = new ServerV1(info, { capabilities: { tools: {} } });
    const tools = new Map<string, (args: never, extra: unknown) => object>();
    const schema = { type: 'object', properties: { patientId: { type: 'string' } }, required: ['patientId'] };
    offer((name, _config, handler) => tools.set(name, handler), server as unknown as Low, reached);
    server.setRequestHandler(ListToolsRequestSchema, () => ({
      tools: [...tools.keys()].map((name) => ({ name, inputSchema: name === 'get-labs' ? schema : { type: 'object' } })) as never,
    }));
    server.setRequestHandler(CallToolRequestSchema, ({ params }, extra) =>
      (tools.get(params.name) ?? (() => ({})))((params.arguments ?? {}) as never, extra),
    );
    return server as unknown as ExistingServer;
  },
};

/** A server on SDK v1 whose one tool, `late`, answers once its request has ended. @returns `running` resolves when it was reached */
export function lateServer(): { readonly sdk: Sdk; readonly running: Promise<void> } {
  let reached = (): void => {};
  const running = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const server = new McpServerV1({ name: 'slow', version: '1' });
  server.registerTool('late', {}, async () => {
    const signal = currentScope()?.signal;
    reached();
    await new Promise((resolve) => signal?.addEventListener('abort', resolve));
    return { content: [] };
  });
  return { sdk: { ...V1, server: () => server as unknown as ExistingServer }, running };
}
