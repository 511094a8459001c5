import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type AuditRecord, META } from '@hmcp/core';
import { createMcpHandler, InMemoryTransport, type JSONRPCMessage, McpServer } from '@modelcontextprotocol/server';
import { createHmcpHandler } from '../../src/index.js';
import { OPERATIONS, surfaces } from './surfaces.js';
import { type Answered, ask, type Era, post, request } from './wire.js';
import { ANN, BO, world } from './world.js';

/** Whose token a request carries; `none`: no token at all. */
export type Who = 'own' | 'other' | 'narrow' | 'none' | 'invalid';

export interface Reply extends Pick<Answered, 'result' | 'error' | 'text'> {
  /** HTTP status; `undefined` on a pipe. */
  readonly status: number | undefined;
}

/** One way messages reach the surfaces. */
export interface Carrier {
  readonly name: string;
  readonly era: Era;
  readonly http: boolean;
  ask(method: string, params: Record<string, unknown>, who: Who): Promise<Reply>;
  notify(method: string, params: Record<string, unknown>): Promise<void>;
  /** What ran and what was recorded since the last report. */
  report(): Promise<{ readonly reached: readonly string[]; readonly records: readonly AuditRecord[] }>;
  close(): Promise<void>;
}

/** Streamable HTTP; with `guarded: false` the bare SDK serves the same factory. */
export function overHttp(era: Era, guarded = true): Carrier {
  const { env, issuer, audit } = world({ operations: OPERATIONS });
  const reached: string[] = [];
  const factory = surfaces((what) => reached.push(what), ANN);
  const handler = guarded ? createHmcpHandler(factory, env) : createMcpHandler(factory);
  const tokens = tokensOf(issuer);
  const fetch = (asked: Request) => handler.fetch(asked);
  return {
    name: `HTTP ${era}`,
    era,
    http: true,
    ask: (method, params, who) => ask({ fetch }, method, params, { era, token: tokens[who] }),
    async notify(method, params) {
      const { id, ...message } = request(method, params, era);
      const headers: Record<string, string> =
        era === 'modern' ? { 'mcp-protocol-version': '2026-07-28', 'mcp-method': method } : {};
      await post({ fetch }, JSON.stringify(message), { token: tokens.own, headers });
    },
    report: async () => ({ reached: reached.splice(0), records: audit.records.splice(0) }),
    close: () => handler.close(),
  };
}

/** `InMemoryTransport` and a server of the guarded factory. */
export async function inProcess(guarded = true): Promise<Carrier> {
  const { env, issuer, audit } = world({ operations: OPERATIONS });
  const reached: string[] = [];
  const factory = surfaces((what) => reached.push(what), ANN);
  const handler = createHmcpHandler(factory, env);
  const product = await (guarded ? handler.factory : factory)({ era: 'legacy' });
  const server = product instanceof McpServer ? product.server : product;
  const [near, far] = InMemoryTransport.createLinkedPair();
  await server.connect(far);
  const pipe = correlate((message) => void near.send(message as JSONRPCMessage));
  near.onmessage = (message) => pipe.receive(message);
  await near.start();
  const carrier = onPipe('in-process', 'legacy', pipe, tokensOf(issuer), {
    report: async () => ({ reached: reached.splice(0), records: audit.records.splice(0) }),
    async close() {
      await server.close();
      await handler.close();
    },
  });
  await handshake(carrier);
  return carrier;
}

/** A child process on real pipes. */
export async function overStdio(era: Era, guarded = true): Promise<Carrier> {
  const script = fileURLToPath(new URL('stdio-surfaces.mjs', import.meta.url));
  const child = spawn(process.execPath, [script, ANN, BO, guarded ? 'guarded' : 'unguarded'], {
    stdio: ['pipe', 'pipe', 'pipe', 'ipc'],
  });
  let errors = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const ready = (await message(child, () => errors)) as { tokens: Record<Who, string> };
  const pipe = correlate((sent) => void child.stdin?.write(`${JSON.stringify(sent)}\n`));
  let rest = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) pipe.receive(JSON.parse(line) as object);
  });
  const carrier = onPipe(`stdio ${era}`, era, pipe, ready.tokens, {
    async report() {
      child.send('report');
      return (await message(child, () => errors)) as Awaited<ReturnType<Carrier['report']>>;
    },
    async close() {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    },
  });
  await handshake(carrier);
  return carrier;
}

function tokensOf(issuer: ReturnType<typeof world>['issuer']): Record<Who, string | undefined> {
  return {
    own: issuer.issue(ANN),
    other: issuer.issue(BO),
    narrow: issuer.issue(ANN, { scope: 'patient/Condition.rs' }),
    none: undefined,
    invalid: 'forged',
  };
}

/** A 2025-era connection begins with its handshake; on a pipe it needs no token. */
async function handshake(carrier: Carrier): Promise<void> {
  if (carrier.era === 'modern') return;
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } };
  const answer = await carrier.ask('initialize', params, 'none');
  if (answer.result === undefined) throw new Error(`no handshake: ${answer.text}`);
  await carrier.notify('notifications/initialized', {});
  await carrier.report();
}

interface Pipe {
  ask(message: object & { id: number }): Promise<Reply>;
  send(message: object): void;
  receive(message: object): void;
}

/** Matches answers to requests by id; notifications of the server are left alone. */
function correlate(send: (message: object) => void): Pipe {
  const waiting = new Map<unknown, (reply: Reply) => void>();
  return {
    send,
    ask: (message) =>
      new Promise((resolve) => {
        waiting.set(message.id, resolve);
        send(message);
      }),
    receive(message) {
      const { id, result, error, method, params } = message as Partial<Reply> & { id?: unknown; method?: string; params?: Json };
      const text = JSON.stringify(message);
      // The SDK answers a listen with a notification.
      const listen =
        method === 'notifications/subscriptions/acknowledged'
          ? Number((params?._meta as Json)?.['io.modelcontextprotocol/subscriptionId'])
          : id;
      waiting.get(listen)?.({ status: undefined, result: result ?? (listen === id ? undefined : params), error, text });
      waiting.delete(listen);
    },
  };
}

type Json = Record<string, unknown>;

function onPipe(
  name: string,
  era: Era,
  pipe: Pipe,
  tokens: Record<Who, string | undefined>,
  rest: Pick<Carrier, 'report' | 'close'>,
): Carrier {
  let next = 0;
  return {
    name,
    era,
    http: false,
    ask(method, params, who) {
      next += 1;
      const token = who === 'invalid' ? 'forged' : tokens[who];
      const meta = { ...(params._meta as object | undefined), ...(token === undefined ? {} : { [META.authorization]: token }) };
      return pipe.ask({ ...request(method, { ...params, _meta: meta }, era, next), id: next });
    },
    async notify(method, params) {
      const { id, ...message } = request(method, params, era);
      pipe.send(message);
      await this.ask('ping', {}, 'none');
    },
    ...rest,
  };
}

function message(child: ChildProcess, errors: () => string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(new Error(`the child ended: ${errors()}`));
    child.once('exit', gone);
    child.once('message', (said) => {
      child.off('exit', gone);
      resolve(said);
    });
  });
}
