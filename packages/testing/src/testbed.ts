import {
  type Agent,
  createAgent,
  openSession,
  type ParticipationOptions,
  participate,
  permitAuthority,
  type Session,
  type SwitchAnswer,
  type SwitchDialog,
  type SwitchReport,
} from '@hmcp/agent';
import type { AuditVerification } from '@hmcp/audit';
import {
  createClientCredentials,
  createSealSigner,
  createSealVerifier,
  createTokenExchanger,
  createTokenVerifier,
  type Grant,
  type TrustedManager,
} from '@hmcp/auth';
import { createFhirServer } from '@hmcp/clinic';
import { type ContextStore, createContextManager, memoryStore } from '@hmcp/context-manager';
import { type AuditRecord, MANAGER_SCOPES, type PatientTool } from '@hmcp/core';
import type { AgentEnv, HmcpHandler } from '@hmcp/server';
import { canariesOf } from './canaries.js';
import { type Fault, Faults } from './fault.js';
import { type Held, type HoldAt, Holds } from './held.js';
import { type MemoryAudit, memoryAudit } from './memory-audit.js';
import { Network } from './network.js';
import { chartsOf, people as shipped, type TestPerson } from './people.js';
import { type TestClock, testClock } from './test-clock.js';
import { signingKey, testIssuer } from './test-issuer.js';
import { type Trace, TraceBook, toolOf } from './trace.js';
import { WatchedSession } from './watched-session.js';

const PORTAL = 'portal';
const MANAGER = 'context-manager';
const FHIR = 'fhir';
const ISSUER = 'issuer';
const PSEUDONYM_KEY = 'pseudonym key of a testbed';
/** What opening a session and reading the identifiers of a confirmation need. */
const SESSION_SCOPE = `${MANAGER_SCOPES.switch} ${MANAGER_SCOPES.participate} patient/Patient.r`;
const PATIENT_SCOPE = 'patient/*.cruds patient/hmcp:read patient/hmcp:write';

const urlOf = (name: string) => `https://${name}.testbed.example/mcp`;

/** What is served under a name: an agent of `defineAgent`, or a server of one's own behind `createProtection`'s `fetch`. */
export interface ServedAgent {
  readonly name: string;
  create(env: AgentEnv): Pick<HmcpHandler, 'fetch'> & Partial<Pick<HmcpHandler, 'undeclared' | 'close'>>;
}

/** An agent with what it brings to sessions; an effector causes effects. */
export interface TestbedAgent extends Pick<ParticipationOptions, 'prepare' | 'drain' | 'purge'> {
  readonly agent: ServedAgent;
  /** @default "reader" */
  readonly role?: ParticipationOptions['role'] | undefined;
}

/** What a testbed is made of. */
export interface TestbedOptions {
  /** Each is served under its name, may call every other one, and is named in every session. */
  readonly agents: readonly (ServedAgent | TestbedAgent)[];
  /** Whose charts there are. @default all shipped ones */
  readonly people?: readonly TestPerson[] | undefined;
  /** Scope of the person's launches, beside what sessions need. @default everything about one patient */
  readonly scope?: string | undefined;
}

/** A pipeline of agents in this process: no socket, no timer, nothing of a check replaced. */
export interface Testbed {
  readonly clock: TestClock;
  readonly trace: Trace;
  /** What signing in for a patient yields to the portal: to renew a session with. @throws {TypeError} for somebody not in the testbed */
  launch(person: TestPerson): Promise<Grant>;
  /**
   * Signs the person at the portal in for a patient and opens a session.
   * @param options.assurance `process`: without the context manager. @default "manager"
   */
  open(person: TestPerson, options?: { readonly assurance?: Session['assurance'] | undefined }): Promise<Session>;
  /**
   * Switches a session: a new grant, and the confirmation typed by a person who reads the chart.
   * @param options.confirm answers instead of that person
   */
  switch(
    session: Session,
    person: TestPerson,
    options?: { readonly confirm?: ((dialog: SwitchDialog) => Promise<SwitchAnswer>) | undefined },
  ): Promise<SwitchReport>;
  /**
   * Stops the next call of a tool at an agent until it is released.
   * @param options.at `request`: before the agent is asked. @default "answer": the agent has answered, nobody has got it
   * @throws {TypeError} for an agent that is not in the testbed
   */
  hold(agent: string, contract: Pick<PatientTool, 'name'>, options?: { readonly at?: HoldAt | undefined }): Held;
  /** Lets a fault befall the next call of a tool at an agent. @throws {TypeError} for an agent that is not in the testbed */
  fault(agent: string, contract: Pick<PatientTool, 'name'>, fault: Fault): void;
  /** Verifies the audit chain of one party: an agent, `portal`, `fhir` or `context-manager`. */
  verifyAudit(party: string): Promise<AuditVerification>;
  /** Releases what is held, and ends sessions, agents and manager; the clock moves on where an end has to be waited for. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes a testbed: every agent's real handler, a real context manager over a store in memory, a FHIR server with the charts, tokens
 * minted and exchanged by the protocol's rules, and audit chains in memory.
 * @throws {TypeError} for a name that is used twice, or a person who is not shipped
 */
export async function createTestbed(options: TestbedOptions): Promise<Testbed> {
  const { people = Object.values(shipped), scope = PATIENT_SCOPE } = options;
  const members = options.agents.map((one) => ('agent' in one ? one : { agent: one }));
  const names = [PORTAL, MANAGER, FHIR, ISSUER, ...members.map(({ agent }) => agent.name)];
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new TypeError(`the name "${twice}" is used twice in this testbed`);

  const clock = testClock();
  const { now } = clock;
  const records = chartsOf(people);
  const trace = new TraceBook({ canaries: canariesOf(records, people), people });
  const holds = new Holds();
  const faults = new Faults();
  const network = new Network((from, to, request, body) => {
    const hop = to === ISSUER ? undefined : trace.sent(from, to, request, body, to !== MANAGER);
    if (hop === undefined) return undefined;
    const tool = toolOf(body);
    const stop = holds.of(to, tool);
    return {
      ...hop,
      fault: faults.of(to, tool),
      before: () => stop.pass('request'),
      piece: async (text) => {
        await hop.piece(text);
        await stop.pass('answer');
      },
    };
  });
  const audits = new Map<string, MemoryAudit>();
  const auditOf = (name: string, by: string): MemoryAudit => {
    const audit = memoryAudit({ by, now, onRecord: (record) => trace.audit.push(record) });
    audits.set(name, audit);
    trace.name(by, name);
    return audit;
  };

  const fhirServer = `https://${FHIR}.testbed.example/r4`;
  const issuerUrl = `https://${ISSUER}.testbed.example`;
  const managerUrl = urlOf(MANAGER);
  const sealKey = (await signingKey('seals')).secret;
  const trustDomain = 'testbed';
  const self = { issuer: new URL(managerUrl).origin, trustDomain };
  const trusted: TrustedManager = {
    ...self,
    resource: managerUrl,
    clientId: MANAGER,
    keys: (await createSealSigner({ ...self, key: sealKey, now })).jwks,
    fhirServers: [fhirServer],
    tokenIssuers: [issuerUrl],
  };
  const seals = createSealVerifier({ managers: [trusted], now });
  const issuer = await testIssuer({ issuer: issuerUrl, fhirServer, seals, now });
  network.attach(ISSUER, issuerUrl, issuer.fetch);
  const verifierOf = (resource: string) =>
    createTokenVerifier({ resource, issuers: [{ issuer: issuerUrl, fhirServer, jwks: issuer.jwks }], now });

  const fhir = createFhirServer({
    base: fhirServer,
    records,
    verifier: verifierOf(fhirServer),
    audit: auditOf(FHIR, fhirServer),
    auditKey: PSEUDONYM_KEY,
    smartConfiguration: { issuer: issuerUrl, token_endpoint: `${issuerUrl}/token` },
    now,
  });
  network.attach(FHIR, fhirServer, fhir.fetch);

  /** One party as a client: its own network, key, tokens and outgoing calls. */
  async function partyOf(name: string, resource: string | undefined, registered: string) {
    const client = await issuer.register({ clientId: name, resource, scope: registered });
    const fetch = network.fetchOf(name);
    const audit = auditOf(name, resource ?? name);
    const tokens = createTokenExchanger({ issuer: issuerUrl, client, fetch, now });
    const peers = members
      .filter(({ agent }) => agent.name !== name)
      .map(({ agent }) => ({ name: agent.name, resource: urlOf(agent.name), kind: 'hmcp' as const }));
    const agent = createAgent({
      name,
      resource,
      clientId: name,
      peers,
      tokens,
      audit,
      pseudonymKey: PSEUDONYM_KEY,
      seals,
      now,
      fetch,
      wait: async (ms) => clock.advance(ms),
    });
    const credentials = createClientCredentials({ issuer: issuerUrl, client, fetch, now });
    return { fetch, audit, tokens, agent, credentials };
  }

  const managerScope = `${Object.values(MANAGER_SCOPES).join(' ')} patient/Patient.r`;
  const office = await partyOf(MANAGER, managerUrl, managerScope);
  const store = memoryStore();
  const manager = await createContextManager({
    resource: managerUrl,
    clientId: MANAGER,
    trustDomain,
    authorizationServers: [issuerUrl],
    fhirServers: [fhirServer],
    verifier: verifierOf(managerUrl),
    store: chained(store, office.audit),
    sealKey,
    tenantKey: PSEUDONYM_KEY,
    pseudonymKey: PSEUDONYM_KEY,
    clients: [
      { clientId: PORTAL, name: PORTAL, humanUi: true },
      ...members.map(({ agent: { name }, role }) => ({
        clientId: name,
        name,
        effector: role === 'effector',
        endpoint: { url: urlOf(name), resource: urlOf(name) },
      })),
    ],
    tokens: office.tokens,
    credentials: office.credentials,
    clock,
    fetch: office.fetch,
  });
  network.attach(MANAGER, managerUrl, manager.fetch);

  const handlers: ReturnType<ServedAgent['create']>[] = [];
  const closing: (() => Promise<void>)[] = [];
  for (const { agent: definition, role = 'reader', prepare, drain, purge } of members) {
    const { name } = definition;
    const resource = urlOf(name);
    const { agent, audit, tokens, credentials, fetch } = await partyOf(name, resource, `${scope} ${MANAGER_SCOPES.participate}`);
    const part = { role, delivery: 'push', prepare, drain, purge } as const;
    const participation = participate({ agent, manager: managerUrl, credentials, ...part });
    const handler = definition.create({
      resource,
      authorizationServers: [issuerUrl],
      verifier: verifierOf(resource),
      audit,
      pseudonymKey: PSEUDONYM_KEY,
      tokens,
      outbound: agent,
      managers: [trusted],
      permits: permitAuthority({ agent, participation }),
      participation,
      fetch,
      now,
    });
    await handler.undeclared;
    handlers.push(handler);
    network.attach(name, resource, handler.fetch);
    closing.push(
      () => participation.close(),
      () => agent.close(),
    );
  }

  const portalScope = `${scope} ${SESSION_SCOPE}`;
  const portal: Agent = (await partyOf(PORTAL, undefined, portalScope)).agent;
  const sessions = new Set<WatchedSession>();
  const launch = async (person: TestPerson): Promise<Grant> => {
    if (!people.includes(person)) throw new TypeError('this person is not in the testbed');
    return issuer.grant(person, PORTAL, portalScope);
  };

  const known = (agent: string): void => {
    if (!members.some((one) => one.agent.name === agent)) throw new TypeError(`no agent "${agent}" is in this testbed`);
  };

  const bed: Testbed = {
    clock,
    trace,
    launch,
    async open(person, { assurance = 'manager' } = {}) {
      const managed =
        assurance === 'manager' ? { manager: managerUrl, participants: members.map(({ agent }) => agent.name) } : {};
      const session = await openSession({ agent: portal, grant: await launch(person), ...managed });
      const watched = new WatchedSession({ session, trace, people, person });
      sessions.add(watched);
      trace.at('session opened at', person);
      return watched;
    },
    switch: (session, person, { confirm = async (dialog: SwitchDialog) => typedBy(dialog, people) } = {}) =>
      session.switchPatient({ authorize: () => launch(person), confirm }),
    hold(agent, contract, { at = 'answer' } = {}) {
      known(agent);
      return holds.add(agent, contract, at);
    },
    fault(agent, contract, fault) {
      known(agent);
      faults.add(agent, contract, fault);
    },
    verifyAudit(party) {
      const audit = audits.get(party);
      if (audit === undefined) throw new TypeError(`no party "${party}" is in this testbed`);
      return audit.verify();
    },
    async close() {
      holds.releaseAll();
      for (const session of sessions) await untilDone(session.close(), clock);
      sessions.clear();
      for (const end of closing.splice(0)) await end();
      await portal.close();
      await office.agent.close();
      await manager.close();
      for (const handler of handlers.splice(0)) await handler.close?.();
    },
    [Symbol.asyncDispose]: () => bed.close(),
  };
  return bed;
}

/** A session may close only when the permit of an effect nobody heard the end of is over: lets that time pass. */
async function untilDone(work: Promise<void>, clock: TestClock): Promise<void> {
  let over = false;
  const done = work.finally(() => {
    over = true;
  });
  for (let turn = 1; !over; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    if (turn % 50 === 0) clock.advance(500);
  }
  await done;
}

/** What a person who reads the chart of the next patient types. */
function typedBy({ fields, target }: SwitchDialog, people: readonly TestPerson[]): SwitchAnswer {
  const person = people.find(({ id }) => id === target.patient);
  if (person === undefined) return 'decline';
  const { birthDate, recordNumberLast4 } = person;
  const known: Readonly<Record<string, string>> = { birthDate, recordNumberLast4 };
  return Object.fromEntries(fields.map(({ name, kind }) => [name, kind === 'yes-no' ? true : (known[name] ?? '')]));
}

/** The store, with every record that became durable in it also in an audit chain. */
function chained(store: ContextStore, audit: MemoryAudit): ContextStore {
  const when = async <R>(done: R, record: AuditRecord): Promise<R> => {
    if (done === 'done') await audit.append(record);
    return done;
  };
  return {
    ...store,
    create: async (session, openKey, record) => when(await store.create(session, openKey, record), record),
    compareAndSet: async (next, record) => when(await store.compareAndSet(next, record), record),
    audit,
  };
}
