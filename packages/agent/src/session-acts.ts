import type { Grant } from '@hmcp/auth';
import { type Envelope, type PatientContext, PROTOCOL_VERSION } from '@hmcp/core';
import { RequestScope } from '@hmcp/core/request-scope';
import { governDelivery, supersede } from './delivery.js';
import { type AgentEventEmitter, observeScope } from './events.js';
import { grantAuthority } from './peer-tokens.js';
import { nextTraceparent } from './traceparent.js';

/** A session's time on one patient: one grant, one epoch. */
export interface Stay {
  readonly grant: Grant;
  readonly context: PatientContext;
  readonly epoch: number;
  /** Inside a session held by a manager. */
  readonly seal?: string | undefined;
}

/**
 * The acts of the person that are under way: each one intent, bound to the patient and epoch of the moment it began. When the
 * session goes on they all end; none is ever moved to the next patient.
 * @see protocol sections 2.2 and 6
 */
export class SessionActs {
  readonly #by: string;
  readonly #events: AgentEventEmitter;
  readonly #id: () => string;
  readonly #open = new Set<RequestScope>();
  readonly #own = new WeakSet<RequestScope>();
  #held: { readonly until: Promise<void>; readonly end: () => void } | undefined;

  constructor(options: { by: string; events: AgentEventEmitter; id: () => string }) {
    this.#by = options.by;
    this.#events = options.events;
    this.#id = options.id;
  }

  /** Begins an act. */
  begin({ grant, context, epoch, seal }: Stay): RequestScope {
    const { fhirServer: _, ...identity } = context;
    const id = this.#id();
    const envelope: Envelope =
      seal === undefined
        ? { version: PROTOCOL_VERSION, ...identity, intent: { id } }
        : { version: PROTOCOL_VERSION, seal, intent: { id, epoch } };
    const scope = new RequestScope({
      context,
      token: undefined,
      accessToken: grant.accessToken,
      envelope,
      by: this.#by,
      hop: 0,
      traceparent: nextTraceparent(undefined),
    });
    grantAuthority(scope, { scope: grant.scope, expiresAt: grant.expiresAt });
    observeScope(scope, this.#events);
    governDelivery(scope, { held: () => this.#held?.until });
    this.#open.add(scope);
    this.#own.add(scope);
    return scope;
  }

  /** An act is over. */
  end(scope: RequestScope): void {
    scope.close();
    this.#open.delete(scope);
  }

  /** True for an act of this session, also one that is over. */
  owns(scope: RequestScope): boolean {
    return this.#own.has(scope);
  }

  /** Stops delivering; resolves when what was already let through has arrived. */
  async hold(): Promise<void> {
    if (this.#held === undefined) {
      let end: () => void = () => undefined;
      const until = new Promise<void>((resolve) => {
        end = resolve;
      });
      this.#held = { until, end };
    }
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** Delivers again. */
  release(): void {
    const held = this.#held;
    this.#held = undefined;
    held?.end();
  }

  /** Ends every act because the session is on another patient now; their calls are settled with 40901. */
  moveOn(): void {
    for (const scope of this.#open) supersede(scope);
    this.#open.clear();
    this.release();
  }

  /** Ends every act because the session is over. */
  close(): void {
    for (const scope of this.#open) scope.close();
    this.#open.clear();
    this.release();
  }
}
