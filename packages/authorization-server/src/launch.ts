import { coversAll, parseScopes, type Scope } from '@hmcp/core';
import type { ClientRegistration } from './config.js';

/** An OAuth error code with the fixed words that go with it; nothing of the request is repeated. */
export interface OAuthRefusal {
  readonly ok: false;
  readonly error: 'invalid_request' | 'invalid_scope' | 'invalid_target' | 'invalid_grant';
  readonly reason: string;
}

/** Makes an {@link OAuthRefusal}. */
export function refuse(error: OAuthRefusal['error'], reason: string): OAuthRefusal {
  return { ok: false, error, reason };
}

/** Parameters of an authorization request that decide what may be granted; `undefined` when absent. */
export interface LaunchRequest {
  readonly scope?: string | undefined;
  readonly aud?: string | undefined;
  readonly resource?: string | readonly string[] | undefined;
  readonly launch?: string | undefined;
}

/** What a launch will ask the person for. */
export interface LaunchPlan {
  readonly ok: true;
  readonly scopes: readonly Scope[];
  /** A patient must be picked before anything is granted. */
  readonly picksPatient: boolean;
}

const CONTEXTS = new Set(['launch/patient', 'launch/encounter']);

/**
 * Decides whether an authorization request may be shown to the person at all. Every scope must be understood, fit a person and
 * lie within the client's registration; `aud` is a synonym of `resource`, and one of them names one known resource.
 * `launch` (a launch begun by an EHR) is refused: this server begins none, so every value is unknown to it.
 * @see SMART App Launch, scopes and launch context; RFC 8707
 */
export function planLaunch(
  request: LaunchRequest,
  client: Pick<ClientRegistration, 'scope'>,
  resources: ReadonlySet<string>,
): LaunchPlan | OAuthRefusal {
  const named = [request.resource ?? [], request.aud ?? []].flat();
  if (new Set(named).size > 1) return refuse('invalid_target', '"aud" and "resource" must name one resource');
  if (!named.every((uri) => resources.has(uri))) return refuse('invalid_target', 'the resource is not known here');

  const scopes = parseScopes(request.scope ?? '');
  if (scopes.length === 0) return refuse('invalid_scope', '"scope" is missing');
  if (request.launch !== undefined || scopes.some((scope) => scope.raw === 'launch'))
    return refuse('invalid_request', 'the launch is not known here');

  const registered = parseScopes(client.scope);
  for (const scope of scopes) {
    if (scope.kind === 'unknown' || scope.kind === 'extension') return refuse('invalid_scope', 'a scope is not understood');
    if (scope.kind === 'launch' && !CONTEXTS.has(scope.raw)) return refuse('invalid_scope', 'a launch context is not offered');
    if (scope.kind === 'resource' && scope.level === 'system')
      return refuse('invalid_scope', 'system scopes are not for applications a person uses');
    // Launch and identity members grant no data, so a registration need not repeat them.
    if (scope.kind !== 'launch' && scope.kind !== 'identity' && !coversAll(registered, [scope]))
      return refuse('invalid_scope', 'a scope goes beyond the registration of the client');
  }
  return { ok: true, scopes, picksPatient: wantsPatient(scopes) };
}

/** `launch/patient`, or any patient scope (SMART: the server may infer the former from the latter). */
export function wantsPatient(scopes: readonly Scope[]): boolean {
  return scopes.some((scope) => scope.raw === 'launch/patient' || scope.raw.startsWith('patient/'));
}
