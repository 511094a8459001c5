import { InMemoryTransport, type JSONRPCMessage, type McpServerFactory, type Transport } from '@modelcontextprotocol/server';
import { noteShown } from './catalogue.js';
import type { AgentEnv } from './define-agent.js';
import { isJsonObject, type Json } from './message.js';
import { Declarations, declarationsOf } from './operations.js';
import { serverOf } from './server-of.js';

/** Longest wait for the lists of a server at start, milliseconds. */
const TIMEOUT_MS = 5000;
const MAX_PAGES = 20;
const LISTS = [
  ['tools', 'tools/list', 'tools', 'name'],
  ['prompts', 'prompts/list', 'prompts', 'name'],
  ['resources', 'resources/list', 'resources', 'uri'],
  ['resources', 'resources/templates/list', 'resourceTemplates', 'uriTemplate'],
] as const;

/**
 * Runs the factory once, lists what it registered over an in-process transport, and names what nobody declared.
 * @param known takes in what the server declares itself
 * @see protocol section 3
 */
export async function inspect(factory: McpServerFactory, env: AgentEnv, known: Declarations): Promise<readonly string[]> {
  const missing: string[] = [];
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('the lists did not come')), TIMEOUT_MS);
    timer.unref();
  });
  try {
    await Promise.race([list(factory, env, known, missing), late]);
  } catch (error) {
    env.log?.warn({ err: error }, 'the server factory could not be inspected at start');
  } finally {
    clearTimeout(timer);
  }
  return missing;
}

async function list(factory: McpServerFactory, env: AgentEnv, known: Declarations, missing: string[]): Promise<void> {
  const server = serverOf(await factory({ era: 'legacy' }));
  known.include(declarationsOf(server));
  const declarations = new Declarations(env.operations, declarationsOf(server));
  const [near, far] = InMemoryTransport.createLinkedPair();
  await server.connect(far);
  const ask = asker(near);
  await near.start();
  const clientInfo = { name: 'inspection', version: '1' };
  await ask('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo });
  for (const [kind, method, member, key] of LISTS) {
    for (const entry of await pages(ask, method, member)) {
      const name = String(entry[key]);
      if (kind === 'tools') noteShown(name, env);
      if (declarations.find(kind, name)) continue;
      missing.push(`${kind}/${name}`);
      env.log?.warn(
        { method: kind, tool: name },
        'an operation is undeclared and answers 40303: declare it with patientTool or in `operations` if it is about one patient; else leave it out: it is not for this chain',
      );
    }
  }
  await server.close();
}

type Ask = (method: string, params: Json) => Promise<Json | undefined>;

async function pages(ask: Ask, method: string, member: string): Promise<readonly Json[]> {
  const entries: Json[] = [];
  let cursor: unknown;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const result = await ask(method, cursor === undefined ? {} : { cursor });
    const listed = result?.[member];
    if (Array.isArray(listed)) entries.push(...listed.filter(isJsonObject));
    cursor = result?.nextCursor;
    if (cursor === undefined) break;
  }
  return entries;
}

function asker(transport: Transport): Ask {
  const waiting = new Map<unknown, (result: Json | undefined) => void>();
  transport.onmessage = (message) => {
    const { id, result } = message as { id?: unknown; result?: Json };
    waiting.get(id)?.(result);
  };
  let next = 0;
  return (method, params) =>
    new Promise((resolve, reject) => {
      const id = ++next;
      waiting.set(id, resolve);
      transport.send({ jsonrpc: '2.0', id, method, params } as JSONRPCMessage).catch(reject);
    });
}
