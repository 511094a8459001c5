/** A JSON-RPC message of any SDK generation, as this package reads it. */
export interface JsonRpcMessage {
  readonly jsonrpc: '2.0';
  readonly id?: string | number;
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown };
}

/** The part of send options this package reads; everything is handed on. */
export interface SendOptions {
  readonly requestSignal?: AbortSignal | undefined;
}

/** `fetch` as MCP transports call it. */
export type TransportFetch = (url: string | URL, init?: RequestInit) => Promise<Response>;

/** What SDK v1 and v2 client transports have in common. */
export interface ClientTransport {
  send(message: never, options?: never): Promise<void>;
  onmessage?: ((message: never, extra?: never) => void) | undefined;
  onerror?: ((error: Error) => void) | undefined;
  onclose?: (() => void) | undefined;
}

/** What sits between an SDK client and its transport. */
export interface TransportHooks {
  /**
   * Decides about a message to be sent; `send` writes to the wire. Rejecting makes the client's call reject; `deliver` answers it
   * without waiting for the peer.
   */
  outgoing(
    message: JsonRpcMessage,
    send: (message: JsonRpcMessage) => Promise<void>,
    options: SendOptions,
    deliver: (message: JsonRpcMessage) => void,
  ): Promise<void>;
  /** Decides about a message that arrived; `deliver` hands it to the client, `reply` writes to the wire. */
  incoming(
    message: JsonRpcMessage,
    deliver: (message: JsonRpcMessage) => void,
    reply: (message: JsonRpcMessage) => Promise<void>,
  ): void;
  /** What the client's `onerror` is told: SDK transports put whole response bodies into their errors. */
  failure(error: Error): Error;
  /** The connection ended: nothing that waits will be answered. */
  closed(): void;
  /** Wraps the network of an HTTP transport. */
  fetch(base: TransportFetch): TransportFetch;
}

const instrumented = new WeakSet<object>();

/** True for a transport that {@link instrument} has patched. */
export function isInstrumented(transport: object): boolean {
  return instrumented.has(transport);
}

/** `http` when the transport posts through `fetch`, `stdio` when it owns a child's pipes. Told by shape, as the SDKs do. */
export function transportKind(transport: object): 'http' | 'stdio' | undefined {
  if ('stderr' in transport && 'pid' in transport) return 'stdio';
  return '_url' in transport && '_fetch' in transport ? 'http' : undefined;
}

/**
 * Puts `hooks` into a client transport, in place: SDKs tell transports by their own shape, so a wrapper object would not do.
 * Covers every request, response and notification of SDK v1 and v2, whoever sends it and however it was registered.
 * @throws {TypeError} when it was done before
 * @see protocol section 3, "choke points"
 */
export function instrument(transport: ClientTransport, hooks: TransportHooks): void {
  if (instrumented.has(transport)) throw new TypeError('this transport is already instrumented');
  instrumented.add(transport);
  const write = transport.send.bind(transport) as unknown as (message: JsonRpcMessage, options?: SendOptions) => Promise<void>;
  const deliver = hookIncoming(transport, hooks, write);
  const send = async (message: JsonRpcMessage | readonly JsonRpcMessage[], options?: SendOptions): Promise<void> => {
    if (Array.isArray(message)) throw new TypeError('JSON-RPC batches are not sent');
    await hooks.outgoing(message as JsonRpcMessage, (checked) => write(checked, options), options ?? {}, deliver);
  };
  Object.defineProperty(transport, 'send', { value: send, writable: false, configurable: false });
  hookFailures(transport, hooks);
  hookClosing(transport, hooks);
  const http = transport as { _fetch?: TransportFetch | undefined };
  if (transportKind(transport) === 'http') {
    const base: TransportFetch = http._fetch ?? ((url, init) => globalThis.fetch(url, init));
    Object.defineProperty(http, '_fetch', { value: hooks.fetch(base), writable: false, configurable: false });
  }
}

type Handler = (message: JsonRpcMessage, extra?: unknown) => void;

/**
 * The transport and an SDK that chains an earlier handler read the same property, so a handler may meet itself:
 * a message that was let through is remembered, and passes the second time as it is.
 * @returns what hands a message of this process to the client
 */
function hookIncoming(
  transport: ClientTransport,
  hooks: TransportHooks,
  reply: (message: JsonRpcMessage) => Promise<void>,
): (message: JsonRpcMessage) => void {
  const passed = new WeakSet<object>();
  const guarded = (handler: Handler): Handler => {
    return (message, extra) => {
      if (passed.has(message)) return handler(message, extra);
      const deliver = (checked: JsonRpcMessage) => {
        passed.add(checked);
        handler(checked, extra);
      };
      hooks.incoming(message, deliver, reply);
    };
  };
  const initial = transport.onmessage as Handler | undefined;
  let handler = initial && guarded(initial);
  Object.defineProperty(transport, 'onmessage', {
    get: () => handler,
    set: (next: Handler | undefined) => {
      handler = next && guarded(next);
    },
    enumerable: true,
    configurable: false,
  });
  return (message) => {
    passed.add(message);
    handler?.(message);
  };
}

/** As with messages, a chained handler sees an error that was already replaced: it is passed on as it is. */
function hookFailures(transport: ClientTransport, hooks: TransportHooks): void {
  const replaced = new WeakSet<Error>();
  const guarded = (handler: (error: Error) => void) => {
    return (error: Error) => {
      if (replaced.has(error)) return handler(error);
      const safe = hooks.failure(error);
      replaced.add(safe);
      handler(safe);
    };
  };
  let handler = transport.onerror && guarded(transport.onerror);
  Object.defineProperty(transport, 'onerror', {
    get: () => handler,
    set: (next: ((error: Error) => void) | undefined) => {
      handler = next && guarded(next);
    },
    enumerable: true,
    configurable: false,
  });
}

/** A chained handler meets itself here too; closing twice is as closing once. */
function hookClosing(transport: ClientTransport, hooks: TransportHooks): void {
  const guarded = (handler: (() => void) | undefined) => () => {
    hooks.closed();
    handler?.();
  };
  let handler = guarded(transport.onclose);
  Object.defineProperty(transport, 'onclose', {
    get: () => handler,
    set: (next: (() => void) | undefined) => {
      handler = guarded(next);
    },
    enumerable: true,
    configurable: false,
  });
}
