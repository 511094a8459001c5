import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Account, type ClientRegistration, smartConfiguration } from '@hmcp/authorization-server';
import { isPickable, PORTAL_SCOPE, patientSummaries } from '@hmcp/clinic';
import { canChange, MANAGER_SCOPES, parseScopes } from '@hmcp/core';
import type { JWK } from 'jose';
import { keptKey, keptSecret } from './kept-keys.js';
import type { ExtraParty, WorldFacts, WorldOptions } from './world-facts.js';
import { MANAGER, planManager } from './world-manager.js';

const AGENTS = ['portal', 'triage', 'labs', 'medications', 'orders'] as const;
/** Names of the parties every world has; an extra needs another one. */
export const CLINIC_PARTIES: readonly string[] = ['authorization-server', 'fhir', MANAGER, ...AGENTS];
/** Those of them that others may call. */
export const CLINIC_AGENTS: readonly string[] = AGENTS.filter((name) => name !== 'portal');
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

/** Scopes a developer's launch asks for: everything the world's agents can serve; those of extras are added. */
export const DEVELOPER_SCOPE =
  'launch/patient openid fhirUser offline_access patient/hmcp:read patient/hmcp:write patient/Patient.rs patient/Observation.rs patient/MedicationRequest.rs hmcp:context.switch hmcp:context.participate';

/** One process: what is run, and what it is told. */
export interface Planned {
  readonly name: string;
  readonly module: string;
  readonly args: readonly string[];
  readonly config: object;
  /** False for a child of another process. @default true */
  readonly starts?: boolean;
}

/** Everything the processes are told, computed from the public addresses. */
export async function planWorld(
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
    ...extras.filter((extra) => extra.name === name).flatMap(({ calls = [] }) => calls),
  ];
  // Whoever can be named in a session may ask the manager about it, with a token of the person or one of its own.
  const agents = [
    ...AGENTS.map((name) => ({ name, scope: withScope(SCOPES[name] ?? '', MANAGER_SCOPES.participate) })),
    ...extras.flatMap(({ name, scope }) =>
      scope === undefined ? [] : [{ name, scope: withScope(scope, MANAGER_SCOPES.participate) }],
    ),
  ];
  const bystanders = extras.filter(({ scope }) => scope === undefined);
  const attending = [
    ...AGENTS.filter((name) => name !== 'portal'),
    ...extras.filter(({ participates }) => participates).map(({ name }) => name),
  ];
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

  const children = extras.filter(({ childOf }) => childOf !== undefined);
  const ofProcess = (name: string): boolean => !children.some((child) => child.name === name);
  const manager = await planManager({
    state,
    publicUrl: url(MANAGER),
    issuer,
    fhirServer,
    pseudonymKey,
    timing: options.switchTiming,
    logLevel: options.logLevel ?? 'warn',
    // A person is at the portal and at the developer's terminal; whoever is told of a switch is told where it listens.
    clients: [
      { clientId: developer.clientId, name: 'hmcp', humanUi: true },
      ...agents.map(({ name }) => ({
        clientId: name,
        name,
        ...(name === 'portal' ? { humanUi: true } : {}),
        ...(name === 'orders' || extras.some((extra) => extra.name === name && isEffector(extra)) ? { effector: true } : {}),
        ...(name !== 'portal' && ofProcess(name) ? { endpoint: { url: url(name), resource: url(name) } } : {}),
      })),
    ],
  });
  clients.push(manager.registration);

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
      { resource: url(MANAGER), scopesSupported: [MANAGER_SCOPES.switch, MANAGER_SCOPES.participate, 'patient/Patient.r'] },
    ],
    managers: [manager.trusted],
  };
  const common = (name: string): object => ({
    name,
    role: name,
    publicUrl: name === 'fhir' ? fhirServer : url(name),
    issuer,
    fhirServer,
    managers: [manager.trusted],
    pseudonymKey,
    auditFile: auditFile(name),
    logLevel: options.logLevel ?? 'warn',
  });
  const program = fileURLToPath(new URL('./party.js', import.meta.url));
  const processes: Planned[] = [
    { name: 'authorization-server', module: program, args: ['authorization-server'], config: authorizationServer },
    {
      name: 'fhir',
      module: program,
      args: ['fhir'],
      config: { ...common('fhir'), data: options.data, smartConfiguration: smartConfiguration(authorizationServer) },
    },
    { name: MANAGER, module: program, args: [MANAGER], config: manager.config },
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
      ...resources.map(({ name }) => ({ name, url: url(name), resource: url(name), childOf: parents.get(name) })),
      ...bystanders.map(({ name }) => ({ name, url: url(name) })),
    ],
    accounts: accounts.map(({ username, password, name }) => ({ username, password, name })),
    client: developer,
    signingKeys,
    manager: { ...manager.facts, participants: resources.map(({ name }) => name) },
    audit: processes
      .filter(({ name }) => name !== MANAGER)
      .filter(({ name }) => extras.find((extra) => extra.name === name)?.audits !== false)
      .map(({ name }) => auditFile(name)),
    state,
    records: options.data ?? 'the people this project ships',
  };
  return { processes, facts };
}

/** What was said of it; else whether its scope can change anything. */
function isEffector({ scope = '', effector = canChange(parseScopes(scope)) }: ExtraParty): boolean {
  return effector;
}

/** A list of scopes with one more, unless it is there. */
function withScope(scope: string, more: string): string {
  return [...new Set([...scope.split(' '), more])].join(' ');
}
