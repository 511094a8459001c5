import {
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
  type ClientKey,
  createClientCredentials,
  createSealSigner,
  createSealVerifier,
  createTokenExchanger,
  createTokenVerifier,
  type Grant,
  type TrustedManager,
} from '@hmcp/auth';
import { createFhirServer, type Resource } from '@hmcp/clinic';
import { type ContextStore, createContextManager, memoryStore } from '@hmcp/context-manager';
import { type AuditRecord, type AuditSink, MANAGER_SCOPES, type PatientTool } from '@hmcp/core';
import type { AgentEnv, HmcpHandler } from '@hmcp/server';
import { AgentProcess, type Running } from './agent-process.js';
import { canariesOf, checkDeclared } from './canaries.js';
import { doublesOf } from './double.js';
import { checkFault, type Fault, Faults } from './fault.js';
import { type Held, type HoldAt, Holds } from './held.js';
import { Interleaving } from './interleaving.js';
import { auditWhile, fetchWhile, type Life } from './life.js';
import { type MemoryAudit, memoryAudit } from './memory-audit.js';
import { Network } from './network.js';
import { passages } from './passages.js';
import { chartsOf, people as shipped, type TestPerson } from './people.js';
import { checkTurns, Stillness, turn } from './stillness.js';
import { type TestClock, testClock } from './test-clock.js';
import { signingKey, testIssuer } from './test-issuer.js';
import { type Trace, TraceBook } from './trace.js';
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

/** Who is in a testbed: a server that keeps rows of its own can be given some about each of them. */
export interface Population {
  /** The people of the testbed and, where calls are interleaved, their doubles. */
  readonly people: readonly TestPerson[];
  /** A copy of somebody's chart, of one type when it is named. What a double's says is found wherever it turns up. */
  chartOf(person: Pick<TestPerson, 'id'>, type?: string): Resource[];
}

/**
 * What is served under a name: an agent of `defineAgent`, or a server of one's own behind `createProtection`'s `fetch`. One with
 * rows of its own takes them from the population, so that it knows the doubles, too.
 */
export interface ServedAgent {
  readonly name: string;
  create(env: AgentEnv, population: Population): Pick<HmcpHandler, 'fetch'> & Partial<Pick<HmcpHandler, 'undeclared' | 'close'>>;
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
  /** Whose charts there are: of those this package ships, or made by `personFrom`. @default all shipped ones */
  readonly people?: readonly TestPerson[] | undefined;
  /** Scope of the person's launches, beside what sessions need. @default everything about one patient */
  readonly scope?: string | undefined;
  /**
   * Whether each call of a tool that only reads is accompanied by like calls about a second patient, the double of the first: one
   * before, one across, one together with it. `false` for agents that know only their own people, or that wait for the test. @default true
   */
  readonly interleave?: boolean | undefined;
}

/** A pipeline of agents in this process: no socket, no timer, nothing of a check replaced. */
export interface Testbed {
  readonly clock: TestClock;
  readonly trace: Trace;
  /**
   * The network of the portal: for a client's own transport that is put on a session, as there is no other way to an agent here. A client
   * that takes a `fetch` is given the session's.
   */
  readonly fetch: typeof globalThis.fetch;
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
   * @throws {TypeError} for somebody not in the testbed, or a session of another one; under fake timers that replace `setImmediate`
   */
  switch(
    session: Session,
    person: TestPerson,
    options?: { readonly confirm?: ((dialog: SwitchDialog) => Promise<SwitchAnswer>) | undefined },
  ): Promise<SwitchReport>;
  /**
   * Stops the next call of a tool at an agent until it is released. Any hop may be named as the trace has it: at `fhir` such as
   * `{ name: 'GET Observation' }`, at `context-manager` such as `{ name: 'hmcp-context-switch' }`.
   * @param options.at `request`: before the agent is asked. @default "answer": the agent has answered, nobody has got it
   * @throws {TypeError} for a party that is not in the testbed, or another `at`
   */
  hold(agent: string, contract: Pick<PatientTool, 'name'>, options?: { readonly at?: HoldAt | undefined }): Held;
  /**
   * Lets a fault befall the next call of a tool at an agent, or of any other hop, named as for {@link hold}.
   * @throws {TypeError} for a party that is not in the testbed; for a `crash` of what is no agent; for a `stale answer` where nothing
   * was answered yet; for a `context lost` at `fhir`, where there is none; for a `delayMs` that is negative; for what is no fault
   */
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
 * @throws {TypeError} under fake timers that replace `setImmediate`; for a name that is used twice, a person without a chart, charts that contradict each other, or a declared value that
 *   is not of one person alone
 */
export async function createTestbed(options: TestbedOptions): Promise<Testbed> {
  const { people = Object.values(shipped), scope = PATIENT_SCOPE, interleave = true } = options;
  const members = options.agents.map((one) => ('agent' in one ? one : { agent: one }));
  checkTurns();
  const names = [PORTAL, MANAGER, FHIR, ISSUER, ...members.map(({ agent }) => agent.name)];
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new TypeError(`the name "${twice}" is used twice in this testbed`);

  const isAgent = (name: string): boolean => members.some((one) => one.agent.name === name);
  const clock = testClock();
  const { now } = clock;
  const own = chartsOf(people);
  checkDeclared(own, people);
  const doubles = interleave ? doublesOf(people, own) : [];
  const records = chartsOf(
    people,
    doubles.map(({ chart }) => chart),
  );
  const everybody = [...people, ...doubles.map(({ person }) => person)];
  const population: Population = {
    people: everybody,
    chartOf: ({ id }, type) => structuredClone([...records.ofPatient(id, type)]),
  };
  const trace = new TraceBook({ canaries: canariesOf(records, everybody), people: everybody });
  const stillness = new Stillness();
  const holds = new Holds(stillness);
  const faults = new Faults();
  let interleaving: Interleaving | undefined;
  const look = passages({
    ...{ trace, holds, faults },
    interleaving: () => interleaving,
    isHop: (to) => to !== ISSUER,
    isJudged: (to) => to !== MANAGER,
    isTest: (from) => from === PORTAL,
    isRepeated: (from, to) => from === PORTAL && isAgent(to),
  });
  const network = new Network({ look, stir: () => stillness.stir(), advance: clock.advance });
  const audits = new Map<string, MemoryAudit>();
  const auditOf = (name: string, by: string): MemoryAudit => {
    const onRecord = (record: AuditRecord): void => {
      if (!interleaving?.recorded(record)) trace.audit.push(record);
    };
    const audit = memoryAudit({ by, now, onRecord });
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
  network.attach(issuerUrl, { name: ISSUER, serve: issuer.fetch });
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
  network.attach(fhirServer, { name: FHIR, serve: fhir.fetch });

  /** Somebody registered: a key, and an audit that outlives each process. */
  async function registered(name: string, resource: string | undefined, allowed: string): Promise<Registered> {
    const client = await issuer.register({ clientId: name, resource, scope: allowed });
    return { name, resource, client, audit: auditOf(name, resource ?? name), fetch: network.fetchOf(name) };
  }

  /** One process of somebody, as a client: its tokens and outgoing calls. */
  function clientOf({ name, resource, client, audit, fetch }: Registered) {
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
    return { tokens, agent, credentials };
  }

  const managerScope = `${Object.values(MANAGER_SCOPES).join(' ')} patient/Patient.r`;
  const manning = await registered(MANAGER, managerUrl, managerScope);
  const office = clientOf(manning);
  const store = memoryStore();
  const manager = await createContextManager({
    resource: managerUrl,
    clientId: MANAGER,
    trustDomain,
    authorizationServers: [issuerUrl],
    fhirServers: [fhirServer],
    verifier: verifierOf(managerUrl),
    store: chained(store, manning.audit),
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
    fetch: manning.fetch,
  });
  network.attach(managerUrl, { name: MANAGER, serve: manager.fetch });

  const processes: AgentProcess[] = [];
  for (const { agent: definition, role = 'reader', prepare, drain, purge } of members) {
    const { name } = definition;
    const resource = urlOf(name);
    const own = await registered(name, resource, `${scope} ${MANAGER_SCOPES.participate}`);
    const start = async (life: Life): Promise<Running> => {
      const audit = auditWhile(life, own.audit);
      const fetch = fetchWhile(life, own.fetch, [issuerUrl, managerUrl]);
      const { agent, tokens, credentials } = clientOf({ ...own, audit, fetch });
      const part = { role, delivery: 'push', prepare, drain, purge } as const;
      const participation = participate({ agent, manager: managerUrl, credentials, ...part });
      const env: AgentEnv = {
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
      };
      const handler = definition.create(env, population);
      await handler.undeclared;
      return {
        serve: handler.fetch,
        async close() {
          await participation.close();
          await agent.close();
          await handler.close?.();
        },
      };
    };
    processes.push(await AgentProcess.started({ name, url: resource, network, start }));
  }

  const portalScope = `${scope} ${SESSION_SCOPE}`;
  const desk = await registered(PORTAL, undefined, portalScope);
  const { agent: portal, tokens } = clientOf(desk);
  const launchFor = (person: TestPerson): Promise<Grant> => issuer.grant(person, PORTAL, portalScope);
  if (interleave) {
    const byPatient = new Map(doubles.map((double, at) => [people[at]?.id ?? '', double] as const));
    const launch = async (person: TestPerson): Promise<string> => (await launchFor(person)).accessToken;
    interleaving = new Interleaving({ doubles: byPatient, launch, tokens, fetch: desk.fetch, stillness });
  }
  const sessions = new Set<WatchedSession>();
  const opened = new WeakSet<Session>();
  const isIn = (person: TestPerson): void => {
    if (!people.includes(person)) throw new TypeError('this person is not in the testbed');
  };
  const launch = async (person: TestPerson): Promise<Grant> => {
    isIn(person);
    return launchFor(person);
  };

  const known = (name: string): void => {
    if (![FHIR, MANAGER].includes(name) && !isAgent(name)) throw new TypeError(`no agent "${name}" is in this testbed`);
  };

  const bed: Testbed = {
    clock,
    trace,
    fetch: desk.fetch,
    launch,
    async open(person, { assurance = 'manager' } = {}) {
      const managed =
        assurance === 'manager' ? { manager: managerUrl, participants: members.map(({ agent }) => agent.name) } : {};
      const session = await openSession({ agent: portal, grant: await launch(person), ...managed });
      const watched = new WatchedSession({ session, trace, during: (work) => holds.during(work), people, person });
      sessions.add(watched);
      opened.add(watched);
      trace.at('session opened at', person);
      return watched;
    },
    async switch(session, person, { confirm = async (dialog: SwitchDialog) => typedBy(dialog, people) } = {}) {
      // Told to the test, and not to the session: it would abort, and the test go on with the patient before.
      if (!opened.has(session)) throw new TypeError('this session was not opened in this testbed');
      isIn(person);
      checkTurns();
      return session.switchPatient({ authorize: () => launch(person), confirm });
    },
    hold(agent, contract, { at = 'answer' } = {}) {
      known(agent);
      if (at !== 'request' && at !== 'answer') throw new TypeError('"at" of a hold is "request" or "answer"');
      return holds.add(agent, contract.name, at);
    },
    fault(agent, contract, fault) {
      known(agent);
      if (fault === 'crash' && !isAgent(agent)) throw new TypeError(`only an agent can crash, not "${agent}"`);
      checkFault(fault);
      if (fault === 'context lost' && agent === FHIR)
        throw new TypeError('a request to a FHIR server carries no envelope to lose');
      const befell = faults.add(agent, contract.name, fault);
      const what = typeof fault === 'string' ? fault : `delay of ${fault.delayMs} ms`;
      trace.planted(`${what} at ${agent} ${contract.name}`, befell);
    },
    verifyAudit(party) {
      const audit = audits.get(party);
      if (audit === undefined) throw new TypeError(`no party "${party}" is in this testbed`);
      return audit.verify();
    },
    async close() {
      interleaving?.close();
      holds.releaseAll();
      faults.releaseAll();
      for (const session of sessions) await untilDone(session.close(), clock);
      sessions.clear();
      for (const one of processes.splice(0)) await one.close();
      await portal.close();
      await office.agent.close();
      await manager.close();
    },
    [Symbol.asyncDispose]: () => bed.close(),
  };
  return bed;
}

interface Registered {
  readonly name: string;
  readonly resource: string | undefined;
  readonly client: ClientKey;
  readonly audit: AuditSink;
  readonly fetch: typeof globalThis.fetch;
}

/** A session may close only when the permit of an effect nobody heard the end of is over: lets that time pass. */
async function untilDone(work: Promise<void>, clock: TestClock): Promise<void> {
  let over = false;
  const done = work.finally(() => {
    over = true;
  });
  for (let turns = 1; !over; turns += 1) {
    await turn();
    if (turns % 50 === 0) clock.advance(500);
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
function chained(store: ContextStore, audit: AuditSink): ContextStore {
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
