import { AsyncLocalStorage } from 'node:async_hooks';
import { ExchangeRefused, secureUrl } from '@hmcp/auth';
import { type Check, HmcpError, META, PROTOCOL_VERSION } from '@hmcp/core';
import { outsideScope } from '@hmcp/core/request-scope';
import { Client, isInputRequiredResult, StreamableHTTPClientTransport, withInputRequired } from '@modelcontextprotocol/client';
import * as z from 'zod';
import { sending } from './call-frame.js';
import { peerFetch } from './peer-fetch.js';
import type { ResolvedPeer } from './peers.js';

/** One request to a context manager. */
export interface ManagerCall {
  /** Gets the access token it is made with; asked for each attempt. */
  readonly token: () => Promise<string>;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds. @default 30 000 */
  readonly timeoutMs?: number | undefined;
}

/** What a tool of a manager answers: a result, or something the person has to be asked first. */
export type ToolAnswer =
  | { readonly result: unknown }
  | { readonly requests: Readonly<Record<string, unknown>>; readonly requestState: string | undefined };

/** What goes back with a repeated call: what the person said. */
export interface ToolReply {
  readonly inputResponses?: Readonly<Record<string, unknown>> | undefined;
  readonly requestState?: string | undefined;
}

const CLIENT_INFO = { name: 'hmcp-agent', version: '0.1.0' };
const TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 10_000;
const Anything = z.looseObject({});

/**
 * The connection to one context manager. Manager traffic is its own class of request: no envelope, a token of its own, outside
 * every request scope; so it does not pass through the instrumentation of peers.
 * @see protocol section 6
 */
export class ManagerClient {
  readonly resource: string;
  readonly #by: string;
  readonly #fetch: typeof globalThis.fetch;
  readonly #failed = new AsyncLocalStorage<{ refusal?: HmcpError }>();
  #client: Promise<Client> | undefined;
  #closed = false;

  /** @param options.by who refuses, when this process does */
  constructor(options: { resource: string; by: string; fetch: typeof globalThis.fetch }) {
    this.resource = options.resource;
    this.#by = options.by;
    this.#fetch = options.fetch;
  }

  /** Calls a tool. @throws {HmcpError} the manager's refusal; 40302 or 50301 when it could not be asked */
  async tool(name: string, args: object, call: ManagerCall, reply: ToolReply = {}): Promise<ToolAnswer> {
    const params = { name, arguments: args, ...reply };
    const answer = await this.#ask(call, (client, options) =>
      client.request({ method: 'tools/call', params }, withInputRequired(Anything), { ...options, allowInputRequired: true }),
    );
    if (isInputRequiredResult(answer)) {
      return { requests: (answer.inputRequests ?? {}) as Record<string, unknown>, requestState: answer.requestState };
    }
    if (answer.isError === true) throw this.#unavailable('the manager reported an error of its own');
    return { result: answer.structuredContent };
  }

  /** Calls a vendor method. @throws {HmcpError} as {@link tool} */
  method(method: string, params: object, call: ManagerCall): Promise<unknown> {
    return this.#ask(call, (client, options) => client.request({ method, params: { ...params } }, Anything, options));
  }

  /** Reads an answer. @throws {HmcpError} 50301 when it is not what the protocol says */
  read<T extends z.ZodType>(schema: T, answer: unknown): z.output<T> {
    const parsed = schema.safeParse(answer);
    if (!parsed.success) throw this.#unavailable('an answer of the manager could not be read');
    return parsed.data;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await (await this.#client?.catch(() => undefined))?.close();
  }

  async #ask<T>(
    call: ManagerCall,
    request: (client: Client, options: { signal: AbortSignal; timeout: number }) => Promise<T>,
  ): Promise<T> {
    const failed: { refusal?: HmcpError } = {};
    const timeout = call.timeoutMs ?? TIMEOUT_MS;
    const signal = AbortSignal.any([AbortSignal.timeout(timeout), ...(call.signal ? [call.signal] : [])]);
    const send = async (): Promise<T> => {
      const token = await call.token();
      return sending.run({ token, traceparent: undefined }, async () =>
        request(await this.#connected(), { signal, timeout: timeout + 60_000 }),
      );
    };
    try {
      return await outsideScope(() => this.#failed.run(failed, send));
    } catch (error) {
      const refusal = failed.refusal ?? HmcpError.from(error);
      if (refusal !== undefined) throw refusal;
      if (error instanceof ExchangeRefused) throw this.#refusal(40302, error.check, error.reason);
      throw this.#unavailable('the manager did not answer');
    }
  }

  #connected(): Promise<Client> {
    if (this.#closed) throw new Error('the agent is closed');
    if (this.#client === undefined) {
      const connecting = this.#connect();
      this.#client = connecting;
      connecting.catch(() => {
        if (this.#client === connecting) this.#client = undefined;
      });
    }
    return this.#client;
  }

  async #connect(): Promise<Client> {
    const url = secureUrl(this.resource, 'resource of the manager');
    const peer: ResolvedPeer = { name: 'manager', resource: this.resource, url, kind: 'hmcp', scopes: undefined };
    const guarded = peerFetch(
      (input, init) => this.#fetch(input, init),
      peer,
      (...refused) => {
        const refusal = this.#refusal(...refused);
        const failed = this.#failed.getStore();
        if (failed !== undefined) failed.refusal = refusal;
        return refusal;
      },
    );
    // The form is shown by the session's own `confirm`; nothing here fulfils it.
    const client = new Client(CLIENT_INFO, {
      versionNegotiation: { mode: 'auto' },
      inputRequired: { autoFulfill: false },
      capabilities: { elicitation: { form: {} }, extensions: { [META.context]: { versions: [PROTOCOL_VERSION] } } },
    });
    await client.connect(new StreamableHTTPClientTransport(url, { fetch: guarded }), { timeout: CONNECT_TIMEOUT_MS });
    return client;
  }

  #refusal(code: 40302 | 42801, check: Check, reason: string): HmcpError {
    return new HmcpError(code, { by: this.#by, check }, { reason });
  }

  #unavailable(reason: string): HmcpError {
    return new HmcpError(50301, { by: this.#by, check: 'session' }, { reason });
  }
}

/** False when the request may have had an effect at the manager although no answer came: then only `get` tells. */
export function isDefinite(error: unknown): boolean {
  return error instanceof HmcpError && error.code !== 50301 && error.code !== 50302;
}
