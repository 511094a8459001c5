import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AuditSink } from '@hmcp/core';
import type { Context } from 'oidc-provider';
import type { Authority } from './authority.js';
import type { AuthorizationServerConfig } from './config.js';
import { interactionPages } from './interaction.js';
import { createProvider } from './provider.js';
import { smartConfiguration } from './smart-configuration.js';
import { auditTokens } from './token-audit.js';
import { registerGrants } from './token-endpoint.js';

/** The server as one Node request handler. */
export function createHandler(
  authority: Authority,
  audit: AuditSink,
  onFault: (fault: { readonly route: string; readonly name: string }) => void,
): (request: IncomingMessage, response: ServerResponse) => void {
  const { config } = authority;
  const provider = createProvider(authority);
  registerGrants(provider, authority);
  provider.proxy = true;
  provider.on('grant.revoked', (_ctx, grantId) => void authority.contexts.delete(grantId));
  provider.on('error', (error) => onFault({ route: 'http', name: error.name }));
  provider.on('server_error', (ctx, error) => onFault({ route: ctx.oidc.route ?? 'unknown', name: error.name }));
  provider.use(auditTokens(provider, authority, audit));
  provider.use(interactionPages(provider, authority));
  provider.use((ctx, next) => (ctx.path === '/.well-known/smart-configuration' ? describe(ctx, config) : next()));
  provider.use((ctx, next) => {
    if (ctx.path === '/auth') ctx.query = completeQuery(ctx.query);
    return next();
  });

  const callback = provider.callback();
  const { host, protocol } = new URL(config.publicUrl);
  return (request, response) => {
    if (request.headers.host !== host) {
      response
        .writeHead(421, { 'content-type': 'text/plain' })
        .end(`this server answers as ${config.publicUrl}; keep the Host header\n`);
      return;
    }
    // The library builds URLs from what the request says; a proxy in front has the one truth, and it is configured.
    for (const name of Object.keys(request.headers)) if (name.startsWith('x-forwarded-')) delete request.headers[name];
    request.headers['x-forwarded-proto'] = protocol.slice(0, -1);
    callback(request, response);
  };
}

/** `aud` is SMART's name for `resource`; a refresh token is only kept by the library for requests that prompt for consent. */
function completeQuery(query: Context['query']): Context['query'] {
  const { aud, resource, scope, prompt = '' } = query;
  const prompts = [prompt].flat().join(' ').split(' ');
  const offline = typeof scope === 'string' && scope.split(' ').includes('offline_access');
  const quiet = Array.isArray(prompt) || prompts.includes('none') || prompts.includes('consent');
  return {
    ...query,
    ...(typeof aud === 'string' && resource === undefined ? { resource: aud } : {}),
    ...(offline && !quiet ? { prompt: `${prompt} consent`.trim() } : {}),
  };
}

function describe(ctx: Context, config: AuthorizationServerConfig): void {
  ctx.set('access-control-allow-origin', '*');
  ctx.body = smartConfiguration(config);
}
