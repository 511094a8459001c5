import { resourceIdentifier, secureUrl } from './secure-url.js';

/** Protected-resource metadata as served. @see RFC 9728 section 2 */
export interface ProtectedResourceMetadata {
  readonly resource: string;
  readonly authorization_servers: readonly string[];
  readonly scopes_supported: readonly string[];
  readonly bearer_methods_supported: readonly ['header'];
}

/**
 * The document a client reads after a 401, to learn who issues tokens for this resource. Serve it without authentication,
 * with `Access-Control-Allow-Origin: *`, at {@link protectedResourceMetadataUrl}. `offline_access` is no scope of a resource and is left out.
 * @throws {TypeError} naming the option: not a secure URL, or no authorization server
 * @see RFC 9728 section 2
 */
export function protectedResourceMetadata(options: {
  readonly resource: string;
  readonly authorizationServers: readonly string[];
  readonly scopesSupported: readonly string[];
}): ProtectedResourceMetadata {
  const { resource, authorizationServers, scopesSupported } = options;
  secureUrl(resource, 'resource');
  if (authorizationServers.length === 0) throw new TypeError('"authorizationServers" must name at least one');
  for (const [index, server] of authorizationServers.entries()) secureUrl(server, `authorizationServers[${index}]`);
  return {
    resource: resourceIdentifier(resource, 'resource'),
    authorization_servers: [...new Set(authorizationServers)],
    scopes_supported: [...new Set(scopesSupported)].filter((scope) => scope !== 'offline_access'),
    bearer_methods_supported: ['header'],
  };
}

/**
 * Where the metadata of a resource is served: the well-known path goes between host and path of the resource identifier.
 * @throws {TypeError} when `resource` is not a secure URL
 * @see RFC 9728 section 3.1
 */
export function protectedResourceMetadataUrl(resource: string): string {
  const url = secureUrl(resource, 'resource');
  const path = url.pathname === '/' ? '' : url.pathname;
  return `${url.origin}/.well-known/oauth-protected-resource${path}${url.search}`;
}
