import { readFile } from 'node:fs/promises';
import { type Agent, createAgent } from '@hmcp/agent';
import { createLogger, openFileAudit } from '@hmcp/audit';
import { createTokenExchanger, createTokenVerifier } from '@hmcp/auth';
import type { AuditSink } from '@hmcp/core';
import { type AgentDefinition, type AgentEnv, serve } from '@hmcp/server';
import * as z from 'zod';

const Peer = z.strictObject({ name: z.string(), resource: z.url(), url: z.url().optional(), kind: z.enum(['hmcp', 'plain', 'external']) });

/** Configuration of one process of the clinic: a JSON file whose path is its first argument. */
export const PartyConfig = z.looseObject({
  name: z.string(),
  role: z.string(),
  /** Where others reach it; for an agent, also its resource identifier. */
  publicUrl: z.url(),
  issuer: z.url(),
  fhirServer: z.url(),
  clientId: z.string(),
  /** Private JWK for `private_key_jwt`. */
  privateKey: z.looseObject({ kty: z.string(), kid: z.string(), alg: z.string() }),
  peers: z.array(Peer).default([]),
  /** HMAC key of pseudonyms in this process's audit. */
  pseudonymKey: z.string().min(16),
  auditFile: z.string(),
});
export type PartyConfig = z.infer<typeof PartyConfig>;

/** Everything a party of the clinic runs on. */
export interface Deployment {
  readonly config: PartyConfig;
  readonly audit: AuditSink;
  readonly agent: Agent;
  readonly env: AgentEnv;
  close(): Promise<void>;
}

/** Builds what a party runs on: verifier, exchange, outgoing calls, audit, log. */
export async function deploy(config: PartyConfig): Promise<Deployment> {
  const audit = await openFileAudit({ file: config.auditFile, by: config.publicUrl });
  const log = createLogger({ name: config.name });
  const client = { clientId: config.clientId, privateKey: config.privateKey };
  const tokens = createTokenExchanger({ issuer: config.issuer, client });
  const agent = createAgent({ name: config.name, resource: config.publicUrl, clientId: config.clientId, peers: config.peers, tokens, audit, pseudonymKey: config.pseudonymKey });
  const env: AgentEnv = {
    resource: config.publicUrl,
    authorizationServers: [config.issuer],
    verifier: createTokenVerifier({ resource: config.publicUrl, issuers: [{ issuer: config.issuer, fhirServer: config.fhirServer }] }),
    audit,
    pseudonymKey: config.pseudonymKey,
    tokens,
    outbound: agent,
    log,
  };
  return {
    config,
    audit,
    agent,
    env,
    async close() {
      await agent.close();
      await audit.close();
    },
  };
}

/** A process of the clinic that listens: where, and how to stop it. */
export interface Listening {
  readonly port: number;
  close(): Promise<void>;
}

/** Serves one agent as a party. */
export async function serveParty(agent: AgentDefinition, config: PartyConfig): Promise<Listening> {
  const deployment = await deploy(config);
  const served = await serve(agent, deployment.env);
  return {
    port: served.port,
    async close() {
      await served.close();
      await deployment.close();
    },
  };
}

/**
 * Runs a party as a process: reads its configuration, listens, tells its parent the port, and ends with it
 * (SIGTERM, SIGINT or a closed channel).
 */
export async function runParty(file: string | undefined, listen: (config: PartyConfig) => Promise<Listening>): Promise<void> {
  if (file === undefined) throw new TypeError('the first argument must be a configuration file');
  const config = PartyConfig.parse(JSON.parse(await readFile(file, 'utf8')));
  const party = await listen(config);
  let stopping = false;
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    void party.close().finally(() => process.exit(0));
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  process.once('disconnect', stop);
  process.send?.({ type: 'listening', port: party.port });
}
