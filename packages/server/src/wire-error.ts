import { HmcpError, META, type Refusal } from '@hmcp/core';
import { type Inbound, refusalError } from './admission.js';
import type { AgentEnv } from './define-agent.js';

/** The `error` of a JSON-RPC response. */
export interface WireError {
  readonly code: number;
  readonly message: string;
  readonly data?: unknown;
}

/** A refusal as JSON-RPC: the fixed sentence of its code, and its data. */
export function wireError(error: HmcpError): WireError {
  return { code: error.code, message: error.message, data: error.data };
}

/** What a refused request is answered with, apart from the 403 that the gate makes of a scope refusal. */
export function refusalOnWire(refusal: Refusal, inbound: Pick<Inbound, 'token'>, env: AgentEnv, intent?: string): WireError {
  switch (refusal.kind) {
    case 'malformed':
      return {
        code: -32602,
        message: refusal.check === 'envelope' ? `Invalid params: _meta["${META.context}"]` : 'Invalid params',
      };
    case 'scope':
      return wireError(new HmcpError(40300, { by: env.resource, hop: inbound.token.hop, check: 'scope' }));
    case 'context':
      return wireError(refusalError(refusal, inbound, env, intent));
  }
}

const PROTOCOL_ERRORS: Readonly<Record<number, string>> = {
  [-32700]: 'Parse error',
  [-32600]: 'Invalid Request',
  [-32601]: 'Method not found',
  [-32602]: 'Invalid params',
  [-32603]: 'Internal error',
  [-32022]: 'Unsupported protocol version',
  [-32021]: 'Missing required client capability',
  [-32020]: 'Header mismatch',
};

/** What is left of a handler's or SDK's error: its code and a fixed sentence. Its text may hold anything. */
export function scrub(error: unknown): WireError {
  const { code: said, data } = (typeof error === 'object' && error !== null ? error : {}) as { code?: unknown; data?: unknown };
  const code = typeof said === 'number' && Object.hasOwn(PROTOCOL_ERRORS, said) ? said : -32603;
  const versions = code === -32022 ? versionsOf(data) : undefined;
  return { code, message: PROTOCOL_ERRORS[code] ?? 'Internal error', ...(versions === undefined ? {} : { data: versions }) };
}

/** Which protocol revisions are served: dates and nothing else. */
function versionsOf(data: unknown): { supported: string[]; requested?: string } | undefined {
  const { supported, requested } = (typeof data === 'object' && data !== null ? data : {}) as Record<string, unknown>;
  if (!Array.isArray(supported) || !supported.every(isRevision)) return undefined;
  return { supported, ...(isRevision(requested) ? { requested } : {}) };
}

function isRevision(value: unknown): value is string {
  return typeof value === 'string' && /^\d{4}-\d{2}-\d{2}$/.test(value);
}
