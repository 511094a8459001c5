import { protectedResourceMetadata, protectedResourceMetadataUrl } from '@hmcp/auth';
import type { AgentEnv } from './define-agent.js';

const WELL_KNOWN = '/.well-known/oauth-protected-resource';

/** Where the metadata document of a resource is: at the root, and with the path of the resource. */
export function metadataPaths({ resource }: Pick<AgentEnv, 'resource'>): readonly string[] {
  return [WELL_KNOWN, new URL(protectedResourceMetadataUrl(resource)).pathname];
}

/** True for the metadata document of a resource: at the path of the resource, and at the root. */
export function isMetadataPath(request: Request, env: AgentEnv): boolean {
  return metadataPaths(env).includes(new URL(request.url).pathname);
}

/** Answers a GET of the metadata document. */
export function serveMetadata(request: Request, env: AgentEnv, scopesSupported: readonly string[]): Response {
  if (request.method !== 'GET') return new Response(null, { status: 405, headers: { Allow: 'GET' } });
  const metadata = protectedResourceMetadata({
    resource: env.resource,
    authorizationServers: env.authorizationServers,
    scopesSupported,
  });
  return Response.json(metadata, { headers: { 'Access-Control-Allow-Origin': '*', 'Cache-Control': 'public, max-age=300' } });
}
