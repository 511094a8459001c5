import { protectedResourceMetadata, protectedResourceMetadataUrl } from '@hmcp/auth';
import type { AgentEnv } from './define-agent.js';

/** Answers a GET of the metadata, at the path of the resource and at the root; `undefined` for any other request. */
export function serveMetadata(request: Request, env: AgentEnv, scopesSupported: readonly string[]): Response | undefined {
  const { pathname } = new URL(request.url);
  const paths = [new URL(protectedResourceMetadataUrl(env.resource)).pathname, '/.well-known/oauth-protected-resource'];
  if (!paths.includes(pathname)) return undefined;
  if (request.method !== 'GET') return new Response(null, { status: 405, headers: { Allow: 'GET' } });
  const metadata = protectedResourceMetadata({
    resource: env.resource,
    authorizationServers: env.authorizationServers,
    scopesSupported,
  });
  return Response.json(metadata, { headers: { 'Access-Control-Allow-Origin': '*', 'Cache-Control': 'public, max-age=300' } });
}
