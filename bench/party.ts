// A server of a run, in a process of its own: `node party.js '<PartyConfig as JSON>'`. Ends when its parent lets go of it.
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { nodeListener } from '@hmcp/server';
import { toNodeHandler } from '@modelcontextprotocol/node';
import type { PartyConfig, PartyReport } from './party-link.js';
import { bareHandler, burdenedAudit, fileAudit, guardedHandler, memoryAudit } from './servers.js';

const config = JSON.parse(process.argv[2] ?? '') as PartyConfig;

/** Each as its users mount it: both on node:http, by the SDK's adapter. */
async function listenerOf({ kind, jwks, file }: PartyConfig): Promise<RequestListener> {
  if (kind === 'bare') return toNodeHandler(bareHandler()) as RequestListener;
  if (kind === 'guarded, audit in memory') return nodeListener(guardedHandler(jwks, memoryAudit()));
  if (kind === 'burdened') return nodeListener(guardedHandler(jwks, burdenedAudit()));
  return nodeListener(guardedHandler(jwks, await fileAudit(file)));
}

const http = createServer(await listenerOf(config));
http.listen(0, '127.0.0.1', () => {
  report({ port: (http.address() as AddressInfo).port });
});
process.on('message', () => {
  const { user, system } = process.cpuUsage();
  report({ cpuMs: (user + system) / 1000 });
});
process.on('disconnect', () => process.exit(0));

function report(message: PartyReport): void {
  process.send?.(message);
}
