import type { Operation, OperationTable } from '@hmcp/core';
import { McpServer, type ServerContext } from '@modelcontextprotocol/server';
import * as z from 'zod';
import { type AgentEnv, createHmcpHandler } from '../../src/index.js';
import { type Answered, type Asked, ask } from './wire.js';
import { ANN, envelope, READ, type World, world } from './world.js';

/** What the handlers of a {@link labs} server do; each may return or throw anything. */
export interface Doing {
  tool?: (args: Record<string, unknown>, ctx: ServerContext) => unknown;
  resource?: (uri: URL) => unknown;
  prompt?: () => unknown;
  custom?: (params: Record<string, unknown>) => unknown;
  /** Registers more. */
  more?: (server: McpServer) => void;
}

export interface Labs extends World {
  readonly handler: ReturnType<typeof createHmcpHandler>;
  /** Calls the tool as Ann's clinician, with an envelope. */
  call(args?: Record<string, unknown>, asked?: Asked & { readonly meta?: object }): Promise<Answered>;
  /** The same for the resource, the prompt and the custom method. */
  each(kind: 'tool' | 'resource' | 'prompt' | 'custom', asked?: Asked): Promise<Answered>;
  readonly own: string;
}

/** The four kinds of answers. */
export const KINDS = ['tool', 'resource', 'prompt', 'custom'] as const;

const ASK = {
  tool: ['tools/call', { name: 't', arguments: {} }],
  resource: ['resources/read', { uri: 'chart://current' }],
  prompt: ['prompts/get', { name: 'p' }],
  custom: ['org.example/ask', {}],
} as const;

/** A server with one tool, resource, prompt and custom method, all declared for reading. */
export function labs(doing: Doing, more: Partial<AgentEnv> = {}, tool: Partial<Operation> = {}): Labs {
  const operations: OperationTable = {
    tools: { t: { ...READ, ...tool } },
    resources: { 'chart://current': READ },
    prompts: { p: READ },
    methods: { 'org.example/ask': READ },
  };
  const w = world({ operations, ...more });
  const handler = createHmcpHandler(() => {
    const server = new McpServer({ name: 'labs', version: '1' }, { capabilities: { logging: {} } });
    const input = z.looseObject({});
    server.registerTool(
      't',
      { inputSchema: input },
      (async (args: Record<string, unknown>, ctx: ServerContext) => (await doing.tool?.(args, ctx)) ?? { content: [] }) as never,
    );
    server.registerResource(
      'current',
      'chart://current',
      {},
      (async (uri: URL) => (await doing.resource?.(uri)) ?? { contents: [] }) as never,
    );
    server.registerPrompt('p', {}, (async () => (await doing.prompt?.()) ?? { messages: [] }) as never);
    const schemas = { params: z.looseObject({}), result: z.looseObject({}) };
    server.server.setRequestHandler(
      'org.example/ask',
      schemas,
      (async (params: Record<string, unknown>) => (await doing.custom?.(params)) ?? {}) as never,
    );
    doing.more?.(server);
    return server;
  }, w.env);
  const own = w.issuer.issue(ANN);
  return {
    ...w,
    handler,
    own,
    call: (args = {}, { meta = envelope(ANN), ...asked } = {}) =>
      ask(handler, 'tools/call', { name: 't', arguments: args, _meta: meta }, { token: own, ...asked }),
    each(kind, asked) {
      const [method, params] = ASK[kind];
      return ask(handler, method, { ...params, _meta: envelope(ANN) }, { token: own, ...asked });
    },
  };
}

/** A promise and its settling, for tests that hold something in the middle. */
export function held<T = void>(): { readonly promise: Promise<T>; release(value: T): void } {
  let release: (value: T) => void = () => undefined;
  const promise = new Promise<T>((resolve) => {
    release = resolve;
  });
  return { promise, release };
}
