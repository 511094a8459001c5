import { Transform } from 'node:stream';
import { AuthorityUnavailable } from '@hmcp/auth';
import { HmcpError, META, parseStrictJson } from '@hmcp/core';
import { StdioServerTransport, serveStdio as serveMcpStdio } from '@modelcontextprotocol/server/stdio';
import type { AgentDefinition, AgentEnv } from './define-agent.js';
import { MAX_BODY_BYTES } from './gate.js';
import { type Exchange, guardTransport, type Message } from './guard.js';
import { announce, merged, serverOf } from './handler.js';
import { Declarations, declarationsOf } from './operations.js';

/** Streams and token of a stdio server; the defaults are the process's own. */
export interface StdioOptions {
  readonly stdin?: NodeJS.ReadableStream | undefined;
  readonly stdout?: NodeJS.WritableStream | undefined;
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
  const known = new Declarations(env.operations);
  const pinned = options.accessToken ?? process.env.HMCP_ACCESS_TOKEN;
  const stdout = (options.stdout ?? process.stdout) as NodeJS.WritableStream & import('node:stream').Writable;
  const checked = (options.stdin ?? process.stdin).pipe(strictLines((error) => stdout.write(`${JSON.stringify(error)}\n`)));
  const wire = guardTransport(new StdioServerTransport(checked, stdout), {
    env,
    carrier: 'stdio',
    declarations: () => merged(env, known),
    exchange: (message) => exchangeOf(message, env, pinned),
  });
  const served = serveMcpStdio(
    async (context) => {
      const product = await handler.factory(context);
      known.include(declarationsOf(serverOf(product)));
      announce(serverOf(product), env);
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

/** The token of one stdio request: its own, else the process's. A token fault is 40100, an authority that is down 50301. */
async function exchangeOf(message: Message, env: AgentEnv, pinned: string | undefined): Promise<Exchange | HmcpError> {
  const meta = message.params?._meta as Record<string, unknown> | undefined;
  const sent = meta?.[META.authorization];
  const accessToken = typeof sent === 'string' ? sent : sent === undefined ? pinned : undefined;
  const refuse = async (code: 40100 | 50301, reason: string): Promise<HmcpError> => {
    const event = { event: 'request.refused', outcome: 4, code, check: 'token', reason, by: env.resource } as const;
    const durable = await env.audit.append(event).then(
      () => true,
      () => false,
    );
    return new HmcpError(durable ? code : 50302, { by: env.resource, check: durable ? 'token' : 'audit' }, { reason });
  };
  if (accessToken === undefined) return refuse(40100, 'no access token');
  try {
    const token = await env.verifier.verify(accessToken);
    return { token, accessToken, deciding: [] };
  } catch (error) {
    return error instanceof AuthorityUnavailable
      ? refuse(50301, 'the authority is unavailable')
      : refuse(40100, 'the token could not be verified');
  }
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
        const parsed = parseStrictJson(text);
        if (!parsed.ok)
          fault(parsed.reason === 'not JSON' ? -32700 : -32600, parsed.reason === 'not JSON' ? 'Parse error' : 'Invalid Request');
        else if (Array.isArray(parsed.value)) fault(-32600, 'Invalid Request');
        else this.push(`${text}\n`);
      }
      rest = Buffer.concat([rest, chunk.subarray(from)]);
      if (rest.length > MAX_BODY_BYTES) tooLong();
      done();
    },
  });
}
