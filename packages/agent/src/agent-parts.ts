import type { TokenExchanger } from '@hmcp/auth';
import type { AuditSink } from '@hmcp/core';
import type { AgentLog } from './hop-ledger.js';
import type { Managers } from './managers.js';
import type { LinkParts } from './peer-link.js';
import type { ResolvedPeer } from './peers.js';
import type { SealKeeper } from './seal-keeper.js';

/** What sessions and participation need of the agent they were given. */
export interface AgentParts {
  readonly tokens: TokenExchanger;
  readonly managers: Managers;
  readonly seals: SealKeeper;
  readonly audit: AuditSink;
  readonly now: () => number;
  /** Waits, in milliseconds; for repeating what was not answered. */
  readonly wait: (ms: number) => Promise<void>;
  readonly log: AgentLog | undefined;
  /** The declared peers, and what a connection to one is protected with. */
  readonly peers: ReadonlyMap<string, ResolvedPeer>;
  readonly link: LinkParts;
  readonly fetch: typeof globalThis.fetch;
}

const parts = new WeakMap<object, AgentParts>();

/** Remembers the parts of an agent, outside its public face. */
export function keepParts(agent: object, of: AgentParts): void {
  parts.set(agent, of);
}

/** @throws {TypeError} for an agent that `createAgent` did not make */
export function partsOf(agent: object): AgentParts {
  const found = parts.get(agent);
  if (found === undefined) throw new TypeError('"agent" was not made by createAgent');
  return found;
}
