import type { Check, HmcpError, HmcpErrorCode } from '@hmcp/core';
import type { RequestScope } from '@hmcp/core/request-scope';
import { EventEmitter } from 'eventemitter3';

/** What every event says: which call, never about whom. */
export interface HopEvent {
  /** Name of the peer as declared; `undeclared` for a server nobody declared. */
  readonly peer: string;
  readonly method: string;
  /** Tool name, when the call is a tool call with a well-formed name. */
  readonly tool: string | undefined;
  readonly intent: string;
  /** Hop number of this process; 0 at an orchestrator. */
  readonly hop: number;
  readonly traceparent: string | undefined;
}

/** Events of an agent, and of a session for its own calls. No event holds a patient, an argument or a result. */
export interface AgentEvents {
  /** A request is about to leave; its audit record is durable. `disclosed`: it goes to an external server. */
  call: [event: HopEvent & { readonly binding: 'none' | 'checked'; readonly disclosed: boolean }];
  /** An answer passed every check and is delivered. */
  result: [
    event: HopEvent & {
      readonly binding: 'none' | 'checked';
      /** FHIR resource types with their counts. */
      readonly types: Readonly<Record<string, number>>;
      /** Parts that could not be checked: free text, binary, JSON without a contract. */
      readonly unverifiable: number;
      readonly isError: boolean;
    },
  ];
  /**
   * The call was refused, by this process or a later one (`by`). `code` is a JSON-RPC code; `check` and `refusal` only for ours. Read
   * `refusal` where a framework keeps only the text of an error.
   */
  refused: [
    event: HopEvent & {
      readonly code: number;
      readonly check: Check | undefined;
      readonly by: string;
      readonly refusal: HmcpError | undefined;
    },
  ];
  /** Something came back that must not be delivered: it was dropped. `reason` is a fixed sentence. */
  'result-dropped': [event: HopEvent & { readonly code: HmcpErrorCode; readonly reason: string; readonly refusal: HmcpError }];
}

/** Emitter of {@link AgentEvents}. */
export type AgentEventEmitter = EventEmitter<AgentEvents>;

/** A new emitter. */
export function agentEvents(): AgentEventEmitter {
  return new EventEmitter<AgentEvents>();
}

const observers = new WeakMap<RequestScope, AgentEventEmitter>();

/** Sends the events of one scope to `emitter` too. */
export function observeScope(scope: RequestScope, emitter: AgentEventEmitter): void {
  observers.set(scope, emitter);
}

/** The emitter that {@link observeScope} named for this scope. */
export function observerOf(scope: RequestScope): AgentEventEmitter | undefined {
  return observers.get(scope);
}
