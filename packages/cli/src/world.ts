import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AuditFailure, lockForWriting } from '@hmcp/audit';
import type { TrustedManager } from '@hmcp/auth';
import { type Account, type ClientRegistration, smartConfiguration } from '@hmcp/authorization-server';
import { isPickable, PORTAL_SCOPE, patientSummaries, type Records } from '@hmcp/clinic';
import { MANAGER_SCOPES } from '@hmcp/core';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { openProxy, type RecordedExchange, type ReverseProxy } from './proxy.js';

/** An agent somebody adds to the world: its own program, run as `node MODULE CONFIG`. */
export interface ExtraParty {
  readonly name: string;
  /** Path of the program. */
  readonly module: string;
  /** Largest scope its tokens may have, as a client and as a resource. Absent: it takes no part in authorization at all. */
  readonly scope?: string | undefined;
  /** Which parties of the world call it by its name. @default nobody */
  readonly calledBy?: readonly string[] | undefined;
  /**
   * The one party that starts it as its child and speaks to it over its pipes: then it listens nowhere, and its configuration is
   * the child's argument. @see protocol section 2.7
   */
  readonly childOf?: string | undefined;
  /** True when the portal names it in the sessions it opens. @default false */
  readonly participates?: boolean | undefined;
  /** True when it may cause effects in sessions. @default false */
  readonly effector?: boolean | undefined;
  /** False when it keeps no audit log. @default true */
  readonly audits?: boolean | undefined;
}

/** Least level the processes log at; they log to standard error. */
export type WorldLogLevel = 'warn' | 'error';

/** How a world is made. */
export interface WorldOptions {
  readonly records: Records;
  /** Where the records came from; `undefined` is the people this project ships. */
  readonly data?: string | undefined;
  /** Folder for keys, configurations and audit; made when absent. */
  readonly state: string;
  readonly extras?: readonly ExtraParty[] | undefined;
  /** Patients an account must not see; makes the account `visiting-nurse`. */
  readonly closedTo?: readonly string[] | undefined;
  /** @default "warn" */
  readonly logLevel?: WorldLogLevel | undefined;
  readonly record?: ((exchange: RecordedExchange) => void) | undefined;
  /** Ends a start that is under way: what runs by then is stopped, and the start rejects with `stopped`. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Why there is no world.
 * - `in_use`: another one runs on the state folder · `state`: the state folder cannot be used
 * - `production`: `NODE_ENV` is `production` · `ended`: a process ended or did not listen · `stopped`: the signal said so
 */
export type WorldErrorCode = 'in_use' | 'state' | 'production' | 'ended' | 'stopped';

/** A world that cannot be; the message is a sentence for the person at the keyboard. */
export class WorldError extends Error {
  readonly code: WorldErrorCode;

  constructor(code: WorldErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'WorldError';
    this.code = code;
  }
}

/** One party as others see it. */
export interface PartyAddress {
  readonly name: string;
  readonly url: string;
  /** Resource identifier, for parties that accept tokens. */
  readonly resource?: string | undefined;
}

/** What is needed to use a running world; also written to `<state>/world.json`. Development keys and accounts only. */
export interface WorldFacts {
  readonly issuer: string;
  readonly fhirServer: string;
  readonly portal: string;
  readonly parties: readonly PartyAddress[];
  readonly accounts: readonly { readonly username: string; readonly password: string; readonly name: string }[];
  /** The client `hmcp call` uses: may launch, and exchange for every agent. */
  readonly client: { readonly clientId: string; readonly redirectUri: string; readonly scope: string; readonly keyFile: string };
  /** Private signing keys of the authorization server, a JWK set. */
  readonly signingKeys: string;
  readonly audit: readonly string[];
  /** The context manager: its resource identifier, the clients that can be named in a session, and the file of its sessions. */
  readonly manager: {
    readonly resource: string;
    readonly participants: readonly string[];
    readonly store: string;
    readonly sealKeys: string;
    readonly trusted: TrustedManager;
  };
  readonly state: string;
  readonly records: string;
}

/** Messages between the launcher and one of its processes. */
export interface PartyChannel {
  send(message: { readonly type: string }): void;
  /** The next message of this type, counted from the call. */
  next(type: string): Promise<{ readonly type: string }>;
}

/** A running world. */
export interface World {
  readonly facts: WorldFacts;
  /** Stops every process, then every proxy. Idempotent. */
  close(): Promise<void>;
  /**
   * The control channel of a process of this world: no network, and closed to everybody but its parent.
   * @throws {TypeError} when the world has no process of this name
   */
  channel(name: string): PartyChannel;
  /** Resolves to a sentence when a process ends that should not. */
  readonly failed: Promise<string>;
}

const MANAGER = 'context-manager';
const TRUST_DOMAIN = 'hmcp-development';
const AGENTS = ['portal', 'triage', 'labs', 'medications', 'orders'] as const;
/** Names of the parties every world has; an extra needs another one. */
export const CLINIC_PARTIES: readonly string[] = ['authorization-server', 'fhir', MANAGER, ...AGENTS];
const SCOPES: Readonly<Record<string, string>> = {
  portal: PORTAL_SCOPE,
  triage: 'patient/hmcp:read patient/Patient.rs patient/Observation.rs patient/MedicationRequest.rs',
  labs: 'patient/Observation.rs',
  medications: 'patient/MedicationRequest.rs',
  orders: 'patient/hmcp:read patient/hmcp:write',
};
const CALLS: Readonly<Record<string, readonly string[]>> = {
  portal: ['triage', 'orders'],
  triage: ['labs', 'medications'],
  labs: [],
  medications: [],
  orders: [],
};
type PublicKey = NonNullable<ClientRegistration['jwks']>['keys'][number];

const START_MS = 15_000;

/** Scopes a developer's launch asks for: everything the world's agents can serve; those of extras are added. */
export const DEVELOPER_SCOPE =
  'launch/patient openid fhirUser offline_access patient/hmcp:read patient/hmcp:write patient/Patient.rs patient/Observation.rs patient/MedicationRequest.rs hmcp:context.switch hmcp:context.participate';

/**
 * Starts the development world: authorization server, FHIR server, context manager, portal, triage, labs, medications, orders and
 * any extras, each its own process on a free loopback port behind a proxy that holds its public address. One world at a time holds a state folder.
 * @throws {WorldError}
 */
export async function startWorld(options: WorldOptions): Promise<World> {
  const { state, extras = [], signal } = options;
  if (process.env.NODE_ENV === 'production')
    throw new WorldError('production', 'this is a development world; it does not start with NODE_ENV=production');
  const release = await holdState(state);
  const listeners = extras.filter(({ childOf }) => childOf === undefined);
  const names = [...CLINIC_PARTIES, ...listeners.map(({ name }) => name)];
  const proxies = new Map<string, ReverseProxy>();
  const children: ChildProcess[] = [];
  const running = new Map<string, ChildProcess>();
  let closing: Promise<void> | undefined;
  let fail: (sentence: string) => void = () => undefined;
  const failed = new Promise<string>((resolve) => {
    fail = resolve;
  });
  const closeAll = async (): Promise<void> => {
    await Promise.all(children.map(stop));
    await Promise.all([...proxies.values()].map((proxy) => proxy.close()));
    await release();
  };
  const close = (): Promise<void> => {
    closing ??= closeAll();
    return closing;
  };

  try {
    const before = await previousPorts(state);
    for (const name of names) proxies.set(name, await openProxy(name, before.get(name) ?? 0, options.record));
    const origin = (name: string): string => `http://127.0.0.1:${proxies.get(name)?.port}`;
    const plan = await planWorld(options, origin);
    const configured = plan.processes.map(({ name, config }) =>
      writeFile(join(state, 'config', `${name}.json`), JSON.stringify(config, null, 2), { mode: 0o600 }),
    );
    await Promise.all(configured);
    const started = plan.processes.filter(({ starts }) => starts !== false);
    const starts = started.map(async ({ name, module, args }) => {
      const file = join(state, 'config', `${name}.json`);
      if (closing !== undefined || signal?.aborted) return;
      // A process group of its own: Ctrl-C reaches the launcher, which stops its children in order.
      const child = fork(module, [...args, file], {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
        execArgv: [],
        detached: process.platform !== 'win32',
      });
      children.push(child);
      running.set(name, child);
      child.once('exit', () => {
        if (closing === undefined) fail(`the process "${name}" ended`);
      });
      proxies.get(name)?.forwardTo(await listening(child, name));
    });
    await Promise.race([Promise.all(starts), whenAborted(signal)]);
    await writeFile(join(state, 'world.json'), JSON.stringify(plan.facts, null, 2), { mode: 0o600 });
    return { facts: plan.facts, close, failed, channel: (name) => channelOf(running.get(name)) };
  } catch (error) {
    await close();
    if (signal?.aborted) throw new WorldError('stopped', 'the world was stopped while it started');
    throw error;
  }
}

function channelOf(child: ChildProcess | undefined): PartyChannel {
  if (child === undefined) throw new TypeError('the world has no process of this name');
  return {
    send: (message) => void child.send(message),
    next: (type) =>
      new Promise((resolve) => {
        const heard = (message: unknown): void => {
          const said = message as { readonly type: string };
          if (said?.type !== type) return;
          child.off('message', heard);
          resolve(said);
        };
        child.on('message', heard);
      }),
  };
}

/** Rejects when the signal aborts; never settles otherwise. */
function whenAborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    if (signal?.aborted) reject(signal.reason);
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** Makes the state folder and takes it for this world. @returns what gives it back */
async function holdState(state: string): Promise<() => Promise<void>> {
  try {
    for (const folder of ['keys', 'config', 'audit']) await mkdir(join(state, folder), { recursive: true, mode: 0o700 });
    return await lockForWriting(join(state, 'world'));
  } catch (error) {
    if (error instanceof AuditFailure)
      throw new WorldError(
        'in_use',
        `another world runs on the state folder ${state}: stop it, or name another folder with --state (if none runs, remove ${join(state, 'world.lock')})`,
      );
    const { code } = (error ?? {}) as { code?: unknown };
    throw new WorldError('state', `the state folder ${state} cannot be used (${String(code ?? 'unknown')})`, { cause: error });
  }
}

interface Planned {
  readonly name: string;
  readonly module: string;
  readonly args: readonly string[];
  readonly config: object;
  /** False for a child of another process. @default true */
  readonly starts?: boolean;
}

/** Everything the processes are told, computed from the public addresses. */
async function planWorld(
  options: WorldOptions,
  origin: (name: string) => string,
): Promise<{ processes: Planned[]; facts: WorldFacts }> {
  const { state, records, extras = [] } = options;
  const issuer = origin('authorization-server');
  const fhirServer = `${origin('fhir')}/fhir`;
  const parents = new Map(extras.map(({ name, childOf }) => [name, childOf]));
  const url = (name: string): string => {
    const parent = parents.get(name);
    if (parent !== undefined) return `${origin(parent)}/child/${name}`;
    return name === 'portal' ? origin(name) : `${origin(name)}/mcp`;
  };
  const pseudonymKey = await keptSecret(join(state, 'keys', 'pseudonym.txt'));
  const auditFile = (name: string): string => join(state, 'audit', `${name}.jsonl`);
  const callees = (name: string): string[] => [
    ...(CALLS[name] ?? []),
    ...extras.filter(({ calledBy }) => calledBy?.includes(name)).map((extra) => extra.name),
  ];
  // Whoever can be named in a session may ask the manager about it, with a token of the person or one of its own.
  const agents = [
    ...AGENTS.map((name) => ({ name, scope: withScope(SCOPES[name] ?? '', MANAGER_SCOPES.participate) })),
    ...extras.flatMap(({ name, scope }) =>
      scope === undefined ? [] : [{ name, scope: withScope(scope, MANAGER_SCOPES.participate) }],
    ),
  ];
  const bystanders = extras.filter(({ scope }) => scope === undefined);
  const resources = agents.filter(({ name }) => name !== 'portal');

  const clients: ClientRegistration[] = [];
  const keys = new Map<string, JWK>();
  for (const { name, scope } of agents) {
    const key = await keptKey(join(state, 'keys', `${name}.jwks.json`), name);
    keys.set(name, key.privateKey);
    const portal = name === 'portal';
    clients.push({
      clientId: name,
      name,
      scope,
      jwks: { keys: [key.publicKey] },
      redirectUris: portal ? [`${url('portal')}/callback`] : [],
      targets: portal ? [...callees('portal'), MANAGER].map(url) : [],
      grants: portal ? ['authorization_code', 'refresh_token', 'token-exchange'] : ['token-exchange', 'client_credentials'],
      ...(portal ? {} : { resource: url(name) }),
    });
  }
  const developer = {
    clientId: 'hmcp-cli',
    redirectUri: `${issuer}/callback-of-hmcp-cli`,
    keyFile: join(state, 'keys', 'hmcp-cli.jwks.json'),
    scope: [...new Set([DEVELOPER_SCOPE, ...extras.map(({ scope }) => scope ?? '')].join(' ').split(' ').filter(Boolean))].join(
      ' ',
    ),
  };
  const developerKey = await keptKey(developer.keyFile, developer.clientId);
  clients.push({
    clientId: developer.clientId,
    name: 'hmcp call',
    scope: developer.scope,
    jwks: { keys: [developerKey.publicKey] },
    redirectUris: [developer.redirectUri],
    targets: [...resources.map(({ name }) => url(name)), url(MANAGER)],
    grants: ['authorization_code', 'refresh_token', 'token-exchange'],
  });

  const managerScope = withScope(Object.values(MANAGER_SCOPES).join(' '), 'patient/Patient.r');
  const managerKey = await keptKey(join(state, 'keys', `${MANAGER}.jwks.json`), MANAGER);
  const sealKeys = join(state, 'keys', `${MANAGER}-seals.jwks.json`);
  const sealKey = await keptKey(sealKeys, `${MANAGER}-seals`, 'ES256');
  clients.push({
    clientId: MANAGER,
    name: MANAGER,
    scope: managerScope,
    jwks: { keys: [managerKey.publicKey] },
    redirectUris: [],
    targets: [],
    grants: ['token-exchange', 'client_credentials'],
    resource: url(MANAGER),
  });
  const trusted = {
    issuer: origin(MANAGER),
    resource: url(MANAGER),
    clientId: MANAGER,
    keys: { keys: [sealKey.publicKey] },
    trustDomain: TRUST_DOMAIN,
    fhirServers: [fhirServer],
    tokenIssuers: [issuer],
  };

  const people = patientSummaries(records).filter(isPickable);
  const closed = new Set(options.closedTo ?? []);
  const accounts: Account[] = [
    { username: 'dr-okafor', password: 'development', name: 'Dr. Ada Okafor', fhirUser: 'Practitioner/dr-okafor', patients: '*' },
    {
      username: 'visiting-nurse',
      password: 'development',
      name: 'Nurse Lindqvist',
      fhirUser: 'Practitioner/visiting-nurse',
      patients: people.filter(({ id }) => !closed.has(id)).map(({ id }) => id),
    },
  ];
  const signingKeys = join(state, 'keys', 'authorization-server.jwks.json');
  const authorizationServer = {
    publicUrl: issuer,
    fhirServer,
    state,
    keysFile: signingKeys,
    auditFile: auditFile('authorization-server'),
    pseudonymKey,
    people: people.map(({ id, name, birthDate, gender, identifierLast4 }) => ({
      id,
      name,
      birthDate,
      ...(['male', 'female', 'other', 'unknown'].includes(gender) ? { gender } : {}),
      ...(/^[A-Za-z0-9]{1,4}$/.test(identifierLast4) ? { identifierLast4 } : {}),
    })),
    accounts,
    clients,
    resources: [
      ...resources.map(({ name, scope }) => ({ resource: url(name), scopesSupported: scope.split(' ') })),
      { resource: url(MANAGER), scopesSupported: [MANAGER_SCOPES.switch, MANAGER_SCOPES.participate] },
    ],
    managers: [trusted],
  };
  const common = (name: string): object => ({
    name,
    role: name,
    publicUrl: name === 'fhir' ? fhirServer : url(name),
    issuer,
    fhirServer,
    managers: [trusted],
    pseudonymKey,
    auditFile: auditFile(name),
    logLevel: options.logLevel ?? 'warn',
  });
  const store = join(state, `${MANAGER}.sqlite`);
  const children = extras.filter(({ childOf }) => childOf !== undefined);
  const ofProcess = (name: string): boolean => !children.some((child) => child.name === name);
  const attending = [
    ...AGENTS.filter((name) => name !== 'portal'),
    ...extras.filter(({ participates }) => participates).map(({ name }) => name),
  ];
  const effectors = new Set(['orders', ...extras.filter(({ effector }) => effector).map(({ name }) => name)]);
  // A person is at the portal and at the developer's terminal; whoever is told of a switch is told where it listens.
  const known = [
    { clientId: developer.clientId, name: 'hmcp', humanUi: true },
    ...agents.map(({ name }) => ({
      clientId: name,
      name,
      ...(name === 'portal' ? { humanUi: true } : {}),
      ...(effectors.has(name) ? { effector: true } : {}),
      ...(name !== 'portal' && ofProcess(name) ? { endpoint: { url: url(name), resource: url(name) } } : {}),
    })),
  ];
  const contextManager = {
    name: MANAGER,
    role: MANAGER,
    publicUrl: url(MANAGER),
    issuer,
    fhirServer,
    trustDomain: TRUST_DOMAIN,
    client: { clientId: MANAGER, privateKey: managerKey.privateKey },
    sealKeys,
    tenantKey: pseudonymKey,
    pseudonymKey,
    clients: known,
    store,
    logLevel: options.logLevel ?? 'warn',
  };
  const program = fileURLToPath(new URL('./party.js', import.meta.url));
  const processes: Planned[] = [
    { name: 'authorization-server', module: program, args: ['authorization-server'], config: authorizationServer },
    {
      name: 'fhir',
      module: program,
      args: ['fhir'],
      config: { ...common('fhir'), data: options.data, smartConfiguration: smartConfiguration(authorizationServer) },
    },
    { name: MANAGER, module: program, args: [MANAGER], config: contextManager },
    ...agents.map(({ name }): Planned => {
      const extra = extras.find((party) => party.name === name);
      const peers = callees(name).map((peer) => {
        const child = children.find((one) => one.name === peer && one.childOf === name);
        const command = child && { program: process.execPath, args: [child.module, join(state, 'config', `${peer}.json`)] };
        return { name: peer, resource: url(peer), kind: 'hmcp', ...(command ? { command } : {}) };
      });
      const config = {
        ...common(name),
        client: { clientId: name, privateKey: keys.get(name) },
        peers,
        ...(extra ? { data: options.data } : {}),
        ...(name === 'orders' ? { store: join(state, 'orders.jsonl') } : {}),
        ...(name === 'portal' ? { participants: attending } : {}),
      };
      return { name, module: extra?.module ?? program, args: extra ? [] : [name], config, starts: ofProcess(name) };
    }),
    ...bystanders.map(
      ({ name, module }): Planned => ({ name, module, args: [], config: { ...common(name), data: options.data } }),
    ),
  ];
  const facts: WorldFacts = {
    issuer,
    fhirServer,
    portal: url('portal'),
    parties: [
      { name: 'authorization-server', url: issuer },
      { name: 'fhir', url: fhirServer, resource: fhirServer },
      { name: MANAGER, url: url(MANAGER), resource: url(MANAGER) },
      { name: 'portal', url: url('portal') },
      ...resources.map(({ name }) => ({ name, url: url(name), resource: url(name) })),
      ...bystanders.map(({ name }) => ({ name, url: url(name) })),
    ],
    accounts: accounts.map(({ username, password, name }) => ({ username, password, name })),
    client: developer,
    signingKeys,
    manager: { resource: url(MANAGER), participants: resources.map(({ name }) => name), store, sealKeys, trusted },
    audit: processes
      .filter(({ name }) => name !== MANAGER)
      .filter(({ name }) => extras.find((extra) => extra.name === name)?.audits !== false)
      .map(({ name }) => auditFile(name)),
    state,
    records: options.data ?? 'the people this project ships',
  };
  return { processes, facts };
}

function listening(child: ChildProcess, name: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new WorldError('ended', `the process "${name}" did not listen within ${START_MS / 1000} s`)),
      START_MS,
    );
    child.once('exit', () => {
      clearTimeout(timer);
      reject(new WorldError('ended', `the process "${name}" ended before it listened`));
    });
    child.on('message', (message: { type?: unknown; port?: unknown }) => {
      if (message.type !== 'listening' || typeof message.port !== 'number') return;
      clearTimeout(timer);
      resolve(message.port);
    });
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
  await ended;
  clearTimeout(timer);
}

async function previousPorts(state: string): Promise<Map<string, number>> {
  try {
    const { parties } = JSON.parse(await readFile(join(state, 'world.json'), 'utf8')) as WorldFacts;
    return new Map(parties.map(({ name, url }) => [name, Number(new URL(url).port)]));
  } catch {
    return new Map();
  }
}

/** A list of scopes with one more, unless it is there. */
function withScope(scope: string, more: string): string {
  return [...new Set([...scope.split(' '), more])].join(' ');
}

async function keptSecret(file: string): Promise<string> {
  const kept = await readFile(file, 'utf8').catch(() => undefined);
  if (kept !== undefined) return kept.trim();
  const secret = randomBytes(32).toString('base64url');
  await writeFile(file, `${secret}\n`, { mode: 0o600 });
  return secret;
}

async function keptKey(
  file: string,
  keyId: string,
  alg: 'ES384' | 'ES256' = 'ES384',
): Promise<{ privateKey: JWK; publicKey: PublicKey }> {
  const kept = await readFile(file, 'utf8').catch(() => undefined);
  let privateKey = kept === undefined ? undefined : (JSON.parse(kept) as { keys: JWK[] }).keys[0];
  if (privateKey === undefined) {
    const pair = await generateKeyPair(alg, { extractable: true });
    privateKey = { ...(await exportJWK(pair.privateKey)), kid: `${keyId}-1`, alg, use: 'sig' };
    await writeFile(file, JSON.stringify({ keys: [privateKey] }), { mode: 0o600 });
  }
  const { d: _, ...publicKey } = privateKey;
  return { privateKey, publicKey: publicKey as PublicKey };
}

export type { RecordedExchange } from './proxy.js';
