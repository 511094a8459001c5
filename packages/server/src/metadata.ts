import { protectedResourceMetadata, protectedResourceMetadataUrl } from '@hmcp/auth';
import type { AgentEnv } from './define-agent.js';

/** True for the metadata document of a resource: at the path of the resource, and at the root. */
export function isMetadataPath(request: Request, env: AgentEnv): boolean {
  const { pathname } = new URL(request.url);
  return (
    pathname === '/.well-known/oauth-protected-resource' ||
    pathname === new URL(protectedResourceMetadataUrl(env.resource)).pathname
  );
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
