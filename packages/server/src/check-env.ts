import { protectedResourceMetadata } from '@hmcp/auth';
import { checkHashKey, unusable } from '@hmcp/core';
import type { AgentEnv } from './define-agent.js';
import { fenceOf } from './fence.js';

/**
 * Checks a deployment before anything is served by it.
 * @throws {TypeError} naming the member that cannot be used, never its value, and what its requests would be answered
 * @see protocol section 9
 */
export function checkEnv(env: AgentEnv): void {
  const { resource, authorizationServers, verifier, pseudonymKey, transition, operations } = env;
  protectedResourceMetadata({ resource, authorizationServers, scopesSupported: [] });
  if (verifier.resource !== resource) throw unusable('"verifier" accepts tokens of another resource', 401);
  checkHashKey(pseudonymKey, 'pseudonymKey');
  if (transition && !Number.isFinite(new Date(transition.until).getTime()))
    throw new TypeError('"transition.until" must be a time in milliseconds');
  fenceOf(env);
  for (const kind of ['tools', 'resources', 'prompts', 'methods'] as const) {
    const blank = Object.values(operations?.[kind] ?? {}).some(({ scope }) => scope.trim() === '');
    if (blank) throw unusable(`"operations.${kind}" holds an operation without scope`, 40303);
  }
}
