import { Transform, type Writable } from 'node:stream';
import { StdioServerTransport, serveStdio as serveMcpStdio } from '@modelcontextprotocol/server/stdio';
import type { AgentDefinition, AgentEnv } from './define-agent.js';
import { guardTransport } from './guard.js';
import { behindHandler } from './handler.js';
import { type Json, MAX_BODY_BYTES, readMessage } from './message.js';
import { Declarations, declarationsOf } from './operations.js';
import { announce, serverOf } from './server-of.js';

/** Streams and token of a stdio server; the defaults are the process's own. */
export interface StdioOptions {
  readonly stdin?: NodeJS.ReadableStream | undefined;
  readonly stdout?: Writable | undefined;
  /** A token that pins the whole process to one patient. @default process.env.HMCP_ACCESS_TOKEN */
  readonly accessToken?: string | undefined;
}

/**
 * Serves an agent over stdio. Every request carries its own access token in `_meta["dev.hmcp/authorization"]`, written
 * by the parent on the pipe to its own child; or the process has one token for one patient.
 * @see protocol section 2.7
 */
export function serveStdio(agent: AgentDefinition, env: AgentEnv, options: StdioOptions = {}): { close(): Promise<void> } {
  const handler = agent.create(env);
  const { factory, known } = behindHandler(handler);
  let declarations = known;
  const stdout = options.stdout ?? process.stdout;
  const checked = (options.stdin ?? process.stdin).pipe(strictLines((error) => stdout.write(`${JSON.stringify(error)}\n`)));
  const wire = guardTransport(new StdioServerTransport(checked, stdout), {
    env,
    declarations: () => declarations,
    ready: handler.undeclared,
    accessToken: options.accessToken ?? process.env.HMCP_ACCESS_TOKEN,
  });
  const served = serveMcpStdio(
    async (context) => {
      const product = await factory(context);
      const server = serverOf(product);
      declarations = new Declarations(env.operations, declarationsOf(server));
      announce(server, env);
      return product;
    },
    { transport: wire, onerror: () => env.log?.warn({}, 'a stdio message could not be served') },
  );
  return {
    async close() {
      await served.close();
      await handler.close();
    },
  };
}

/** Bounds each line and refuses ambiguous JSON before the SDK parses it; a refused line is answered and dropped. */
function strictLines(answer: (error: object) => void): Transform {
  let rest = Buffer.alloc(0);
  let skipping = false;
  const fault = (code: number, message: string): void => answer({ jsonrpc: '2.0', id: null, error: { code, message } });
  const tooLong = (): void => {
    if (!skipping) fault(-32600, 'Invalid Request');
    skipping = true;
    rest = Buffer.alloc(0);
  };
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      let from = 0;
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
        const line = Buffer.concat([rest, chunk.subarray(from, end)]);
        rest = Buffer.alloc(0);
        from = end + 1;
        if (skipping) {
          skipping = false;
          continue;
        }
        if (line.length > MAX_BODY_BYTES) {
          fault(-32600, 'Invalid Request');
          continue;
        }
        const text = line.toString('utf8').trim();
        if (text === '') continue;
        const read = readMessage(text);
        if (!read.ok) fault(read.code, read.says);
        else if (!isAddressed(read.message)) fault(-32600, 'Invalid Request');
        else this.push(`${text}\n`);
      }
      rest = Buffer.concat([rest, chunk.subarray(from)]);
      if (rest.length > MAX_BODY_BYTES) tooLong();
      done();
    },
  });
}

/** The SDK drops what is no JSON-RPC message without a word. */
function isAddressed({ jsonrpc, id, method, result, error }: Json): boolean {
  if (jsonrpc !== '2.0' || (id !== undefined && typeof id !== 'string' && typeof id !== 'number')) return false;
  return method === undefined ? id !== undefined && (result !== undefined || error !== undefined) : typeof method === 'string';
}
