import type { Exchange } from './exchange.js';

/** Whose the MCP sessions of a deployment are: the session id of a transport proves nobody. @see MCP, Streamable HTTP, "Session Hijacking" */
export class CallerSessions {
  readonly #callers = new Map<string, string>();

  /** True when the session is nobody else's; the first caller of one keeps it. Without a session id there is none. */
  admits(session: unknown, exchange: Exchange): boolean {
    if (typeof session !== 'string') return true;
    const caller = callerOf(exchange);
    const known = this.#callers.get(session);
    if (known === undefined) this.#callers.set(session, caller);
    return known === undefined || known === caller;
  }

  /** True when a session that is known here is another caller's. */
  isForeign(session: string | null, exchange: Exchange): boolean {
    const known = session === null ? undefined : this.#callers.get(session);
    return known !== undefined && known !== callerOf(exchange);
  }

  forget(session: unknown): void {
    if (typeof session === 'string') this.#callers.delete(session);
  }
}

function callerOf({ token }: Exchange): string {
  return JSON.stringify([token.issuer, token.clientId, token.subject]);
}
