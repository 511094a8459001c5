import type { OperationTable } from '@hmcp/core';
import { completable, McpServer, type McpServerFactory, ResourceTemplate } from '@modelcontextprotocol/server';
import * as z from 'zod';
import { patientTool } from '../../src/index.js';
import { listResults, observation, READ, SECRET } from './world.js';

/** One way to reach code of a server. */
export interface Surface {
  readonly name: string;
  readonly method: string;
  readonly params: Record<string, unknown>;
  readonly declared: boolean;
  /** In which revision of MCP the method exists. */
  readonly only?: 'legacy' | undefined;
}

const tool = (name: string, declared: boolean, args: object = {}): Surface => ({
  name: `tool ${name}`,
  method: 'tools/call',
  params: { name, arguments: args },
  declared,
});
const read = (uri: string, declared: boolean): Surface => ({
  name: `resource ${uri}`,
  method: 'resources/read',
  params: { uri },
  declared,
});
const prompt = (name: string, declared: boolean): Surface => ({
  name: `prompt ${name}`,
  method: 'prompts/get',
  params: { name, arguments: { topic: 'x' } },
  declared,
});
const complete = (ref: object, declared: boolean): Surface => ({
  name: `completion ${JSON.stringify(ref)}`,
  method: 'completion/complete',
  params: { ref, argument: { name: 'topic', value: 'po' } },
  declared,
});
const custom = (method: string, declared: boolean): Surface => ({
  name: `method ${method}`,
  method,
  params: { question: 'x' },
  declared,
});

/** Everything `buildSurfaces` offers, declared or not. */
export const SURFACES: readonly Surface[] = [
  tool('list-results', true),
  tool('raw', true, { note: 'x' }),
  tool('bare', false),
  tool('late-tool', true),
  tool('late-bare', false),
  read('chart://current', true),
  read('chart://notes/n1', true),
  read('hidden://static', false),
  read('hidden://template/n1', false),
  prompt('summary', true),
  prompt('hidden-prompt', false),
  complete({ type: 'ref/prompt', name: 'summary' }, true),
  complete({ type: 'ref/prompt', name: 'hidden-prompt' }, false),
  complete({ type: 'ref/resource', uri: 'chart://notes/{id}' }, true),
  complete({ type: 'ref/resource', uri: 'hidden://template/{id}' }, false),
  custom('org.example/declared', true),
  custom('org.example/bare', false),
  custom('org.example/late', true),
  custom('org.example/late-bare', false),
  custom('org.example/private', true),
  custom('org.example/private-bare', false),
  custom('org.example/fallback', true),
  custom('org.example/fallback-bare', false),
  { name: 'subscribe', method: 'resources/subscribe', params: { uri: 'chart://current' }, declared: true, only: 'legacy' },
  {
    name: 'subscribe, undeclared',
    method: 'resources/subscribe',
    params: { uri: 'hidden://static' },
    declared: false,
    only: 'legacy',
  },
];

/** The deployment's declarations for them. */
export const OPERATIONS: OperationTable = {
  tools: { raw: READ, 'late-tool': READ },
  resources: { 'chart://current': READ, 'chart://notes/{id}': READ },
  prompts: { summary: READ },
  methods: {
    'org.example/declared': READ,
    'org.example/late': READ,
    'org.example/private': READ,
    'org.example/fallback': READ,
  },
};

type PrivateHandlers = { _requestHandlers: Map<string, (request: { params?: unknown }) => Promise<object>> };

/** A server with a handler on every surface; each tells `reached` that it ran. */
export function surfaces(reached: (what: string) => void, patient: string): McpServerFactory {
  return () => {
    const server = new McpServer(
      { name: 'surfaces', version: '1' },
      { capabilities: { resources: { subscribe: true }, logging: {} } },
    );
    const text = (said: string) => ({ content: [{ type: 'text' as const, text: said }] });
    const input = z.object({ note: z.string().optional() });

    patientTool(server, listResults, () => {
      reached('tool list-results');
      return { results: [observation(patient)] };
    });
    const plain = (name: string) =>
      server.registerTool(name, { inputSchema: input }, () => {
        reached(`tool ${name}`);
        return text('done');
      });
    plain('raw');
    plain('bare');

    const contents = (uri: URL) => {
      reached(`resource ${uri.href}`);
      return { contents: [{ uri: uri.href, text: JSON.stringify(observation(patient)) }] };
    };
    server.registerResource('current', 'chart://current', {}, contents);
    server.registerResource('hidden', 'hidden://static', {}, contents);
    const completions = (value: string) => {
      reached('completion of a template');
      return [`${value}tassium`];
    };
    const template = (uri: string) =>
      new ResourceTemplate(uri, { list: undefined, complete: { topic: completions, id: completions } });
    server.registerResource('notes', template('chart://notes/{id}'), {}, contents);
    server.registerResource('hidden-template', template('hidden://template/{id}'), {}, contents);

    for (const name of ['summary', 'hidden-prompt']) {
      const topic = completable(z.string(), (value) => {
        reached(`completion of ${name}`);
        return [`${value}tassium`];
      });
      server.registerPrompt(name, { argsSchema: z.object({ topic }) }, () => {
        reached(`prompt ${name}`);
        return { messages: [{ role: 'user', content: { type: 'text', text: 'summarize' } }] };
      });
    }

    const low = server.server;
    const answer = (what: string) => {
      reached(what);
      return { answer: 'done' };
    };
    const schemas = { params: z.looseObject({}), result: z.looseObject({}) };
    for (const method of ['org.example/declared', 'org.example/bare'])
      low.setRequestHandler(method, schemas, async () => answer(`method ${method}`));
    low.setRequestHandler('resources/subscribe', async () => {
      reached('subscribe');
      return {};
    });
    low.fallbackRequestHandler = async ({ method }) => answer(`method ${method}`);

    // Once connected: registered late, and behind the back of every public method.
    const connect = low.connect.bind(low);
    low.connect = async (transport) => {
      await connect(transport);
      plain('late-tool');
      plain('late-bare');
      for (const method of ['org.example/late', 'org.example/late-bare'])
        low.setRequestHandler(method, schemas, async () => answer(`method ${method}`));
      const handlers = (low as unknown as PrivateHandlers)._requestHandlers;
      for (const method of ['org.example/private', 'org.example/private-bare'])
        handlers.set(method, async () => answer(`method ${method}`));
    };
    low.setNotificationHandler('notifications/roots/list_changed', () => reached('notification roots/list_changed'));
    low.fallbackNotificationHandler = async ({ method }) => reached(`notification ${method}`);
    return server;
  };
}

export const LEAK = SECRET;
