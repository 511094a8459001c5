import type { SealVerifier, TokenExchanger } from '@hmcp/auth';
import { type AuditSink, checkHashKey, type HmcpError, type PatientTool } from '@hmcp/core';
import { currentScope, type Outbound, type RequestScope } from '@hmcp/core/request-scope';
import { type CallToolResult, ProtocolError } from '@modelcontextprotocol/client';
import type * as z from 'zod';
import { keepParts } from './agent-parts.js';
import { type CallFrame, callFrame } from './call-frame.js';
import { answerOf } from './contract-answer.js';
import { cutOff, deliverable } from './delivery.js';
import { type AgentEventEmitter, agentEvents } from './events.js';
import { type AgentLog, HopLedger } from './hop-ledger.js';
import type { ClientTransport } from './instrument.js';
import { Managers } from './managers.js';
import { PeerClients } from './peer-clients.js';
import { contractScope, defaultTimeoutMs, noTokenExchange, peerTokens } from './peer-tokens.js';
import { type Peer, type ResolvedPeer, resolvePeers } from './peers.js';
import { SealKeeper } from './seal-keeper.js';
import { protectTransport } from './session-transport.js';
import { randomBytes } from './traceparent.js';

/** What an agent is made of. */
export interface AgentOptions {
  readonly name: string;
  /** Its own resource identifier, when it is a server too; says `by` in its refusals. @default `clientId` */
  readonly resource?: string | undefined;
  /** Client identifier at the authorization server. */
  readonly clientId: string;
  /** Every server it may call about a patient. */
  readonly peers: readonly Peer[];
  /**
   * Gets a token of its own for each `hmcp` peer. Without it, as on an EHR that offers no token exchange, `hmcp` peers and
   * managers are refused (40302 `check: "exchange"`): the token of a launch is for the FHIR server, and goes to nobody else.
   */
  readonly tokens?: TokenExchanger | undefined;
  readonly audit: AuditSink;
  /** Key of the pseudonyms (`pk`, subjects) in its audit: 16 characters or more, 32 random ones are advised. */
  readonly pseudonymKey: string;
  /** Verifies seals, and lists the context managers trusted. Without it sealed sessions are refused (42801). */
  readonly seals?: SealVerifier | undefined;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
  /** Network of its own connections. @default the global `fetch` */
  readonly fetch?: typeof globalThis.fetch | undefined;
  readonly log?: AgentLog | undefined;
  /** Waits, milliseconds, before something unanswered is asked again. @default a timer */
  readonly wait?: ((ms: number) => Promise<void>) | undefined;
}

/** Options of one call. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds. @default 30 000, less when the token of the request ends before */
  readonly timeoutMs?: number | undefined;
  /** Permit the called server is to redeem; added to the envelope of this call alone. @see protocol section 2.2 */
  readonly permit?: string | undefined;
}

/** Calls other servers in the context of the request being served. */
export interface Agent extends Outbound {
  readonly name: string;
  readonly clientId: string;
  /** Who refuses, when this process does: its resource identifier, else its client identifier. */
  readonly by: string;
  readonly events: AgentEventEmitter;
  /**
   * Calls a tool of a declared peer in the {@link currentScope}; its checked answer, parsed with the contract: `structuredContent`, or where
   * a server sends none the JSON of its only text, that text, or its list of contents, whichever the contract's `output` takes.
   * @throws {HmcpError} 42801 outside a request or to an undeclared peer; 40901, 40302, 50301, 50302, 40903; or a later hop's own
   * @throws {Error} a fixed sentence when the tool reports an error or its answer lacks the contract's shape
   * @throws {TypeError} when `args` do not satisfy the contract
   */
  call<I extends z.ZodObject, O extends z.ZodType>(
    peer: string,
    contract: PatientTool<I, O>,
    args: z.input<I>,
    options?: CallOptions,
  ): Promise<z.output<O>>;
  /**
   * Protects a client transport of MCP SDK v1 or v2, in place: calls of any client on it are bound to the current request.
   * @param peer name of a declared peer; any other name is an undeclared server, which is refused inside a request
   * @param options.kind needed when the shape of the transport does not tell
   * @throws {TypeError} when it was done before, or the kind cannot be told
   */
  transport<T extends ClientTransport>(transport: T, peer: string, options?: { readonly kind?: 'http' | 'stdio' }): T;
  /** Closes every connection. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes an agent. Nothing is sent before its first call.
 * @throws {TypeError} for an unusable option, named in the message
 * @see protocol section 3
 */
export function createAgent(options: AgentOptions): Agent {
  const { name, clientId, tokens = noTokenExchange, audit, pseudonymKey, log, now = Date.now } = options;
  if (typeof clientId !== 'string' || clientId === '') throw new TypeError('"clientId" of an agent is missing');
  checkHashKey(pseudonymKey, 'pseudonymKey');
  const fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  const by = options.resource ?? clientId;
  const peers = resolvePeers(options.peers);
  const events = agentEvents();
  const ledger = new HopLedger({ by, clientId, pseudonymKey, audit, events, log });
  const managers = new Managers({ seals: options.seals, by, tokens, fetch });
  const warn = (message: string): void => ledger.warn(message);
  const seals = new SealKeeper({ seals: options.seals, renew: (...asked) => managers.renew(...asked), now, warn });
  const parts = { ledger, tokens: peerTokens({ tokens, now, fetch }), seals, now, random: randomBytes };

  function transport<T extends ClientTransport>(target: T, peer: string, more: { readonly kind?: 'http' | 'stdio' } = {}): T {
    return protectTransport(target, { parts, peer: peers.get(peer), ...more });
  }

  const clients = new PeerClients({ fetch, protect: (target, peer) => transport(target, peer.name) });

  async function call<I extends z.ZodObject, O extends z.ZodType>(
    peerName: string,
    contract: PatientTool<I, O>,
    args: z.input<I>,
    callOptions: CallOptions = {},
  ): Promise<z.output<O>> {
    const scope = currentScope();
    const peer = peers.get(peerName);
    const start = { peer, method: 'tools/call', tool: contract.name };
    if (scope === undefined) throw await ledger.refusedOutside(start);
    const refuse = async (error: HmcpError) => ledger.refused(await ledger.open(scope, start), error);
    if (scope.closed) throw await refuse(ledger.refusal(scope, 40901, 'epoch', 'closed scope'));
    if (peer === undefined) throw await refuse(ledger.refusal(scope, 42801, 'peer', 'a server nobody declared'));
    if (!(await contract.input.safeParseAsync(args)).success) {
      throw new TypeError(`the arguments of "${contract.name}" do not satisfy its contract`);
    }
    const timeoutMs = callOptions.timeoutMs ?? defaultTimeoutMs(scope, now());
    if (!(timeoutMs > 0)) {
      throw await refuse(ledger.refusal(scope, 40302, 'token', 'the token of this request ends before the call could'));
    }
    const aboutPatient = contract.patientScope !== 'none';
    const { signal, permit } = callOptions;
    const { patientArgument } = contract;
    const frame: CallFrame = { scope: contractScope(contract), aboutPatient, patientArgument, timeoutMs, signal, permit };
    const result = await callFrame.run(frame, () => request(scope, peer, contract.name, args, frame, refuse));
    const value = await answerOf(contract, result);
    await deliverable(scope);
    if (scope.closed)
      throw await ledger.dropped(await ledger.open(scope, start), 40901, 'the request ended while its answer was read');
    if ('unreadable' in value) throw new Error(`the answer of "${contract.name}" does not have the shape of its contract`);
    return scope.tag(value.answer);
  }

  /** Sends the request and settles it: by its answer, or by exactly one refusal. */
  async function request(
    scope: RequestScope,
    peer: ResolvedPeer,
    tool: string,
    args: Record<string, unknown>,
    frame: CallFrame,
    refuse: (error: HmcpError) => Promise<HmcpError>,
  ): Promise<CallToolResult> {
    const deadline = new AbortController();
    const late = setTimeout(() => deadline.abort(), frame.timeoutMs);
    const signal = AbortSignal.any([cutOff(scope), deadline.signal, ...(frame.signal ? [frame.signal] : [])]);
    try {
      const client = await clients.get(peer, signal);
      // The deadline above is the one clock; the SDK's own stays behind it.
      return await client.callTool({ name: tool, arguments: args }, { signal, timeout: frame.timeoutMs + 60_000 });
    } catch (error) {
      await frame.settled;
      if (frame.stale === true) clients.forget(peer);
      if (frame.failure !== undefined) throw frame.failure;
      if (scope.closed) throw await refuse(ledger.refusal(scope, 40901, 'epoch', 'closed scope'));
      if (frame.signal?.aborted === true) throw frame.signal.reason;
      if (error instanceof ProtocolError) throw new Error(`"${tool}" was answered with an error`);
      throw await refuse(ledger.refusal(scope, 50301, 'peer', 'the peer could not be reached or read'));
    } finally {
      clearTimeout(late);
    }
  }

  const close = async () => {
    await Promise.all([clients.close(), managers.close()]);
  };
  const agent: Agent = { name, clientId, by, events, call, transport, close, [Symbol.asyncDispose]: close };
  const { wait = pause } = options;
  keepParts(agent, { tokens, managers, seals, audit, now, wait, log, peers, link: parts, fetch });
  return agent;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
