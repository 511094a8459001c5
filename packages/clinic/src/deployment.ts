import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Agent, createAgent, type ParticipationOptions, participate, permitAuthority } from '@hmcp/agent';
import { AuditFailure, createLogger, openFileAudit } from '@hmcp/audit';
import {
  type ClientKey,
  createClientCredentials,
  createSealVerifier,
  createTokenExchanger,
  createTokenVerifier,
  type SealVerifier,
} from '@hmcp/auth';
import type { AuditSink } from '@hmcp/core';
import { type AgentDefinition, type AgentEnv, serve, serveStdio } from '@hmcp/server';
import * as z from 'zod';
import { RecordsError } from './records.js';

const Peer = z.strictObject({
  name: z.string(),
  resource: z.url(),
  url: z.url().optional(),
  kind: z.enum(['hmcp', 'plain', 'external']),
  /** A child of this process, over its pipes. */
  command: z.strictObject({ program: z.string(), args: z.array(z.string()).default([]) }).optional(),
});

/** A context manager whose seals this party believes; its keys stand here. @see protocol section 1 */
const Manager = z.strictObject({
  issuer: z.url(),
  resource: z.url(),
  clientId: z.string(),
  keys: z.object({
    keys: z.array(z.looseObject({ kty: z.string(), kid: z.string(), d: z.exactOptional(z.never()) })),
  }),
  trustDomain: z.string(),
  fhirServers: z.array(z.url()),
  tokenIssuers: z.array(z.url()),
});

/** Configuration of one process of the clinic: a JSON file whose path is its first argument. */
export const PartyConfig = z.strictObject({
  name: z.string(),
  role: z.string(),
  /** Where others reach it; for an agent, also its resource identifier. */
  publicUrl: z.url(),
  issuer: z.url(),
  fhirServer: z.url(),
  /** This party as an OAuth client, with its private JWK for `private_key_jwt`; absent at a party that calls nobody. */
  client: z
    .strictObject({ clientId: z.string(), privateKey: z.looseObject({ kty: z.string(), kid: z.string(), alg: z.string() }) })
    .optional(),
  peers: z.array(Peer).default([]),
  /** Empty: every sealed envelope is refused. */
  managers: z.array(Manager).default([]),
  /** Client identifiers of agents this party names in the sessions it opens. */
  participants: z.array(z.string()).default([]),
  /** File of what this party itself keeps, where it keeps something. */
  store: z.string().optional(),
  /** HMAC key of pseudonyms in this process's audit. */
  pseudonymKey: z.string().min(16),
  auditFile: z.string(),
  logLevel: z.enum(['warn', 'error']).default('warn'),
  /** Folder of FHIR Bundles, for parties that read records; absent: the people this project ships. */
  data: z.string().optional(),
  /** What the FHIR server answers at `.well-known/smart-configuration`. */
  smartConfiguration: z.record(z.string(), z.unknown()).optional(),
});
export type PartyConfig = z.infer<typeof PartyConfig>;

/** Everything a party of the clinic runs on. */
export interface Deployment {
  readonly config: PartyConfig;
  readonly client: ClientKey;
  readonly audit: AuditSink;
  readonly agent: Agent;
  /** Believes the seals of the configured managers, and no others. */
  readonly seals: SealVerifier;
  readonly env: AgentEnv;
  /** The party is being stopped: what was under way fails from now on, which nobody needs to be told. */
  ending(): void;
  close(): Promise<void>;
}

/** What a party brings to the sessions that name it. */
export type PartInSessions = Pick<ParticipationOptions, 'role' | 'prepare' | 'drain' | 'purge'>;

/** How a party is deployed, where that is not in its configuration. */
export interface DeployOptions {
  /** @default a reader that accepts every switch and has nothing to save */
  readonly part?: PartInSessions | undefined;
  /** How it hears of switches; a party without an address asks. @default "push" */
  readonly delivery?: ParticipationOptions['delivery'] | undefined;
}

/** Builds what a party runs on: verifier, exchange, outgoing calls, sessions, audit, log. */
export async function deploy(config: PartyConfig, options: DeployOptions = {}): Promise<Deployment> {
  const audit = await openFileAudit({ file: config.auditFile, by: config.publicUrl });
  const log = createLogger({ name: config.name, level: config.logLevel });
  const { client } = config;
  if (client === undefined) throw new ConfigurationError('the configuration is not usable: "client" is missing');
  const tokens = createTokenExchanger({ issuer: config.issuer, client });
  const seals = createSealVerifier({ managers: config.managers });
  const agent = createAgent({
    name: config.name,
    resource: config.publicUrl,
    clientId: client.clientId,
    peers: config.peers,
    tokens,
    audit,
    pseudonymKey: config.pseudonymKey,
    seals,
  });
  const [manager] = config.managers;
  const { part = { role: 'reader' }, delivery = 'push' } = options;
  const credentials = createClientCredentials({ issuer: config.issuer, client });
  const participation = manager && participate({ agent, manager: manager.resource, credentials, delivery, ...part });
  let isEnding = false;
  const env: AgentEnv = {
    resource: config.publicUrl,
    authorizationServers: [config.issuer],
    verifier: createTokenVerifier({
      resource: config.publicUrl,
      issuers: [{ issuer: config.issuer, fhirServer: config.fhirServer }],
    }),
    audit,
    pseudonymKey: config.pseudonymKey,
    tokens,
    outbound: agent,
    managers: config.managers,
    permits: permitAuthority({ agent, participation }),
    participation,
    log: {
      warn: (fields, notice) => (isEnding ? undefined : log.warn(fields, notice)),
      error: (fields, notice) => (isEnding ? undefined : log.error(fields, notice)),
    },
  };
  return {
    config,
    client,
    audit,
    agent,
    seals,
    env,
    ending() {
      isEnding = true;
    },
    async close() {
      await participation?.close();
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
export async function serveParty(
  agent: AgentDefinition,
  config: PartyConfig,
  options: Pick<DeployOptions, 'part'> = {},
): Promise<Listening> {
  const deployment = await deploy(config, options);
  const served = await serve(agent, deployment.env);
  return {
    port: served.port,
    async close() {
      deployment.ending();
      await served.close();
      await deployment.close();
    },
  };
}

/**
 * Serves one agent to the process that started this one, over stdin and stdout, until stdin ends. Standard output belongs to the
 * protocol. @see protocol section 2.7
 */
export async function serveChild(agent: AgentDefinition, config: PartyConfig): Promise<void> {
  endOnFault(config.name);
  const deployment = await deploy(config, { delivery: 'pull' });
  const served = serveStdio(agent, deployment.env);
  let stopping = false;
  const stop = async (): Promise<void> => {
    if (stopping) return;
    stopping = true;
    deployment.ending();
    await served.close();
    await deployment.close();
    process.exit(0);
  };
  // A signal goes to the parent, too; it ends this one by closing the pipe.
  process.stdin.once('end', stop).once('close', stop);
  process.once('SIGTERM', stop);
}

/** A configuration that cannot be used; the message names each wrong key and no value. */
export class ConfigurationError extends TypeError {
  override readonly name = 'ConfigurationError';
}

/** Reads a party's configuration file. @throws {ConfigurationError} */
export async function readPartyConfig(file: string): Promise<PartyConfig> {
  const parsed = PartyConfig.safeParse(await readJson(file));
  if (parsed.success) return parsed.data;
  throw new ConfigurationError(
    `the configuration is not usable: ${parsed.error.issues.map(({ path, code }) => `"${path.join('.')}" ${code}`).join('; ')}`,
  );
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch {
    throw new ConfigurationError('the configuration file cannot be read as JSON');
  }
}

/**
 * Runs a party as this process: listens, tells the parent the port, and ends with it (SIGTERM, SIGINT or a closed
 * channel). Whatever fails ends it too, as {@link endOnFault} says.
 */
export async function runParty(listen: () => Promise<Listening>): Promise<void> {
  endOnFault(basename(process.argv[2] ?? 'party'));
  const party = await listen();
  let stopping = false;
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    void party.close().finally(() => process.exit(0));
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  process.once('disconnect', stop);
  // The parent may have gone while this one started; nobody would stop it then.
  if (process.connected === false) stop();
  else process.send?.({ type: 'listening', port: party.port });
}

let watched = false;

/**
 * From now on an error nobody caught ends this process with one line on standard error: its class, and its message only
 * where that is a sentence of ours. Any other message may hold what the process worked on. Only the first call counts.
 */
export function endOnFault(name: string): void {
  if (watched) return;
  watched = true;
  process.once('uncaughtException', (error: unknown) => {
    const told = error instanceof RecordsError || error instanceof AuditFailure || error instanceof ConfigurationError;
    const what = error instanceof Error ? error.name : typeof error;
    process.stderr.write(`${name}: ended by ${what}${told ? `: ${error.message}` : ''}\n`);
    process.exit(1);
  });
}
