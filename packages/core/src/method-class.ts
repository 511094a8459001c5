import type { VerifiedToken } from './access-token.js';
import { PARTICIPANT_METHODS } from './session.js';

/**
 * How a method is treated; anything not listed is `context`. `switch`: what a manager says to a participant during a switch.
 * @see protocol sections 3 and 6
 */
export type MethodClass = 'handshake' | 'catalogue' | 'switch' | 'context';

const CLASSES: Readonly<Record<string, MethodClass>> = {
  initialize: 'handshake',
  'server/discover': 'handshake',
  ping: 'handshake',
  'tools/list': 'catalogue',
  'prompts/list': 'catalogue',
  'resources/templates/list': 'catalogue',
  'logging/setLevel': 'catalogue',
  [PARTICIPANT_METHODS.prepare]: 'switch',
  [PARTICIPANT_METHODS.drain]: 'switch',
  [PARTICIPANT_METHODS.decided]: 'switch',
};

/** The class of a JSON-RPC method; closed lists, unknown methods need a patient. @see protocol section 3 */
export function methodClass(method: string): MethodClass {
  return Object.hasOwn(CLASSES, method) ? (CLASSES[method] ?? 'context') : 'context';
}

/** Client notifications a server accepts; all others are dropped and audited. @see protocol section 3 */
export const CLIENT_NOTIFICATIONS: readonly string[] = [
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/progress',
  'notifications/roots/list_changed',
];

/** What tells a context manager's tokens from all others. @see protocol section 1 */
export interface ManagerClient {
  readonly issuer: string;
  /** Its client identifier at the authorization servers in `tokenIssuers`. */
  readonly clientId: string;
  readonly tokenIssuers: readonly string[];
}

/**
 * The manager whose control token this is: issued to its own client, with `hmcp:context.control`, for nobody's patient and on
 * nobody's behalf. Such a token reaches handshake and `switch` methods, nothing else, and no other token reaches the latter.
 * @see protocol section 6
 */
export function controllingManager<M extends ManagerClient>(
  token: Pick<VerifiedToken, 'issuer' | 'clientId' | 'scopes' | 'patient' | 'actors' | 'chain'>,
  managers: readonly M[],
): M | undefined {
  if (token.patient !== undefined || token.actors.length > 0 || token.chain.length > 0) return undefined;
  if (!token.scopes.some((scope) => scope.kind === 'control' && scope.grant === 'control')) return undefined;
  return managers.find(({ clientId, tokenIssuers }) => clientId === token.clientId && tokenIssuers.includes(token.issuer));
}
