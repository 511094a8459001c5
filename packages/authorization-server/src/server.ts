import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { createSealVerifier } from '@hmcp/auth';
import type { AuditSink } from '@hmcp/core';
import { type Authority, loadLibrary } from './authority.js';
import { type AuthorizationServerConfig, type AuthorizationServerConfigInput, parseConfig } from './config.js';
import { createDirectory, type Directory } from './directory.js';
import { createHandler } from './handler.js';
import { loadKeys } from './keys.js';
import { createLedger } from './ledger.js';

/** What {@link createAuthorizationServer} is made of. */
export interface AuthorizationServerOptions {
  readonly config: AuthorizationServerConfigInput;
  /** Receives one record for each token issued or refused; no token leaves before its record is durable. */
  readonly audit: AuditSink;
  /** Milliseconds since the epoch, for exchanges and client assertions. @default Date.now */
  readonly now?: (() => number) | undefined;
  /** Told of an internal fault by the route it happened on and the class of the error, never by its text. @default nothing */
  readonly onFault?: ((fault: { readonly route: string; readonly name: string }) => void) | undefined;
}

/** A running authorization server, to be reached at `issuer` through whatever forwards to {@link listen}'s port. */
export interface AuthorizationServer {
  readonly issuer: string;
  readonly config: AuthorizationServerConfig;
  /** Who may open whom; `withdraw` takes effect at the next token, refresh or exchange. */
  readonly directory: Directory;
  /** Answers one HTTP request; its `Host` header must be that of the issuer. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void;
  /** Listens on 127.0.0.1. @param port @default 0, any free one */
  listen(port?: number): Promise<{ readonly port: number; close(): Promise<void> }>;
}

/**
 * Makes a SMART on FHIR authorization server for development: code + PKCE with a patient picker, refresh, client credentials,
 * token exchange. Grants live in memory; keys in the state folder.
 * @throws {TypeError} when the configuration or the key file is not usable
 * @throws {Error} with `NODE_ENV=production`
 * @see protocol sections 2.1 and 5
 */
export async function createAuthorizationServer(options: AuthorizationServerOptions): Promise<AuthorizationServer> {
  if (process.env.NODE_ENV === 'production') throw new Error('the development authorization server does not start in production');
  const { audit, now = Date.now, onFault = () => {} } = options;
  const config = parseConfig(options.config);
  const authority: Authority = {
    library: await loadLibrary(),
    config,
    keys: await loadKeys(config.keysFile ?? join(config.state, 'authorization-server-keys.json')),
    directory: createDirectory(config),
    clients: new Map(config.clients.map((client) => [client.clientId, client])),
    resources: new Set([config.fhirServer, ...config.resources.map(({ resource }) => resource)]),
    ledger: createLedger(now),
    seals: createSealVerifier({ managers: config.managers, now }),
    contexts: new Map(),
    exchanged: new WeakMap(),
    now,
  };
  const handle = createHandler(authority, audit, onFault);
  return { issuer: config.publicUrl, config, directory: authority.directory, handle, listen: (port = 0) => listen(handle, port) };
}

async function listen(
  handle: AuthorizationServer['handle'],
  port: number,
): Promise<{ readonly port: number; close(): Promise<void> }> {
  const server = createServer(handle);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new TypeError('the server has no port');
  return {
    port: address.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
