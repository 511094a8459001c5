import type { Grant } from '@hmcp/auth';
import { HmcpError, PatientContext, type PatientTool, PROTOCOL_VERSION } from '@hmcp/core';
import { RequestScope } from '@hmcp/core/request-scope';
import type * as z from 'zod';
import type { Agent, CallOptions } from './agent.js';
import { type AgentEventEmitter, agentEvents, observeScope } from './events.js';
import { grantAuthority } from './peer-tokens.js';
import { nextTraceparent } from './traceparent.js';

/** One patient, from launch to close, at the process where the person acts. */
export interface Session {
  /** Who answers for the session's safety: `process` is this one, without a context manager. */
  readonly assurance: 'process';
  /** Events of this session's own calls. */
  readonly events: AgentEventEmitter;
  /**
   * Calls a tool of a declared peer about the session's patient: one new intent, one request scope.
   * @throws {HmcpError} 41001 `check: "session"` after {@link close}; otherwise as {@link Agent.call}
   */
  call<I extends z.ZodObject, O extends z.ZodType>(
    peer: string,
    contract: PatientTool<I, O>,
    args: z.input<I>,
    options?: CallOptions,
  ): Promise<z.output<O>>;
  /** Ends the session: calls under way are settled with 40901, later ones refused with 41001. The grant is not revoked. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Opens a process session on the patient of a grant.
 * @param options.id makes intent ids. Default a random UUID
 * @throws {HmcpError} 42801 `check: "session"` when the grant names no patient, or not one by a bare FHIR id
 * @see protocol sections 1 and 2.2
 */
export async function openSession(options: { agent: Agent; grant: Grant; id?: () => string }): Promise<Session> {
  const { agent, grant, id = () => crypto.randomUUID() } = options;
  const { fhirServer, tenant, patient, encounter } = grant;
  const named = {
    fhirServer,
    patient,
    ...(tenant === undefined ? {} : { tenant }),
    ...(encounter === undefined ? {} : { encounter }),
  };
  const context = PatientContext.safeParse(named);
  if (!context.success) throw new HmcpError(42801, { by: agent.by, check: 'session' }, { reason: 'the grant names no patient' });
  const events = agentEvents();
  const open = new Set<RequestScope>();
  let closed = false;

  function begin(): RequestScope {
    const { fhirServer: _, ...identity } = context.data as PatientContext;
    const scope = new RequestScope({
      context: context.data as PatientContext,
      token: undefined,
      accessToken: grant.accessToken,
      envelope: { version: PROTOCOL_VERSION, ...identity, intent: { id: id() } },
      by: agent.by,
      hop: 0,
      traceparent: nextTraceparent(undefined),
    });
    grantAuthority(scope, { scope: grant.scope, expiresAt: grant.expiresAt });
    observeScope(scope, events);
    open.add(scope);
    return scope;
  }

  async function close(): Promise<void> {
    closed = true;
    for (const scope of open) scope.close();
    open.clear();
  }

  return {
    assurance: 'process',
    events,
    async call(peer, contract, args, callOptions) {
      if (closed) throw new HmcpError(41001, { by: agent.by, check: 'session' }, { reason: 'the session is closed' });
      const scope = begin();
      try {
        return await scope.run(() => agent.call(peer, contract, args, callOptions));
      } finally {
        scope.close();
        open.delete(scope);
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
