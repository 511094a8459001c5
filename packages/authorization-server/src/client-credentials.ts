import { coversAll, parseScopes, type Scope } from '@hmcp/core';
import type { ClientRegistration } from './config.js';
import { type OAuthRefusal, refuse } from './launch.js';

/** Life of a client-credentials token in seconds. @see SMART Backend Services */
export const BACKEND_TOKEN_SECONDS = 300;

/** What a client that acts for itself is given. */
export interface BackendGrant {
  readonly ok: true;
  readonly resource: string;
  readonly scope: string;
}

/**
 * Decides a client-credentials request: only registered `system/` and `hmcp:` scopes, for one known resource. Nobody stands
 * behind such a token, so `patient/` and `user/` are refused, never silently dropped. Manager traffic (`hmcp:context.*`) goes
 * alone, for a resource that is named, and never to switch a patient: that is for a person.
 * @see SMART Backend Services; protocol section 6
 */
export function decideClientCredentials(
  request: { readonly scope?: string | undefined; readonly resource?: string | readonly string[] | undefined },
  client: Pick<ClientRegistration, 'scope'>,
  resources: ReadonlySet<string>,
  defaultResource: string,
): BackendGrant | OAuthRefusal {
  const named = [request.resource ?? []].flat();
  const [resource = defaultResource, ...others] = named;
  if (others.length > 0 || !resources.has(resource)) return refuse('invalid_target', 'one known resource must be named');
  const scopes = parseScopes(request.scope ?? '');
  if (scopes.length === 0) return refuse('invalid_scope', '"scope" is missing');
  if (!scopes.every(fitsBackend))
    return refuse('invalid_scope', 'only system/ and hmcp: scopes are for a client that acts for itself');
  const manager = scopes.some(({ kind }) => kind === 'control');
  if (manager && !scopes.every((scope) => scope.kind === 'control' && scope.grant !== 'switch'))
    return refuse('invalid_scope', 'hmcp:context scopes go alone, and switching is for a person');
  if (!coversAll(parseScopes(client.scope), scopes))
    return refuse('invalid_scope', 'a scope goes beyond the registration of the client');
  if (manager && named.length === 0) return refuse('invalid_target', 'one known resource must be named');
  return { ok: true, resource, scope: [...new Set(scopes.map((scope) => scope.raw))].join(' ') };
}

function fitsBackend(scope: Scope): boolean {
  if (scope.kind === 'resource') return scope.level === 'system';
  if (scope.kind === 'hmcp') return scope.level === 'unprefixed';
  return scope.kind === 'access' || scope.kind === 'control';
}
