import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Agent, createAgent, type Peer } from '@hmcp/agent';
import { openFileAudit, verifyAudit } from '@hmcp/audit';
import { createSealVerifier, createTokenExchanger, type Grant, type SmartClient, smartClient } from '@hmcp/auth';
import { signIn } from '@hmcp/authorization-server';
import { startWorld, type World, type WorldFacts, type WorldOptions } from '@hmcp/cli/world';
import { chooseCharts, type PatientSummary, type Records, recordsOf } from '@hmcp/clinic';
import { Checks } from './checks.js';

/** A run of an example in a development world of its own, with the shipped people. `a` and `b` are two of them. */
export interface WorldRun {
  readonly facts: WorldFacts;
  readonly records: Records;
  readonly a: PatientSummary;
  readonly b: PatientSummary;
  readonly checks: Checks;
  readonly smart: SmartClient;
  /** HMAC key of every audit log of the world. */
  readonly pseudonymKey: string;
  /** The control channel of a party, closed to everybody else. */
  readonly channel: World['channel'];
  /** Where a party is reached. @throws {TypeError} when the world has none of this name */
  urlOf(name: string): string;
  /** Stands for the person at the browser: signs in, and picks this patient. */
  readonly open: (patient: PatientSummary) => (url: string) => Promise<string>;
  /** A launch on this patient. */
  launch(patient: PatientSummary, scope: string): Promise<Grant>;
  /** The agent a person works with, and its audit log `<name>.jsonl`; closed with the world. */
  desk(name: string, peers: readonly Peer[]): Promise<Agent>;
  /** Stops the world, so that every log is closed. Idempotent. */
  stop(): Promise<void>;
  /** After {@link stop}: what an intact, closed log says of calls of tools and of tokens, as `event tool code`. */
  decisions(name: string): Promise<string[]>;
}

/** Plays an example in a world: whatever happens, the world is stopped, its folder removed, and the exit code is right. */
export async function playInWorld(options: Partial<WorldOptions>, play: (run: WorldRun) => Promise<void>): Promise<void> {
  const state = await mkdtemp(join(tmpdir(), 'hmcp-example-'));
  try {
    const run = await startRun({ ...options, state });
    try {
      await play(run);
    } finally {
      await run.stop();
    }
    run.checks.end();
  } finally {
    await rm(state, { recursive: true, force: true });
  }
}

async function startRun(options: Partial<WorldOptions> & Pick<WorldOptions, 'state'>): Promise<WorldRun> {
  const { state } = options;
  const records = await recordsOf(undefined);
  const { a, b } = chooseCharts(records);
  const world = await startWorld({ records, ...options });
  const { facts } = world;
  const { clientId, redirectUri, keyFile } = facts.client;
  const [privateKey] = JSON.parse(await readFile(keyFile, 'utf8')).keys;
  const pseudonymKey = (await readFile(join(state, 'keys', 'pseudonym.txt'), 'utf8')).trim();
  const smart = smartClient({ fhirServer: facts.fhirServer, clientId, redirectUri, privateKey });
  const closing: (() => Promise<void>)[] = [() => world.close()];
  const auditFile = (name: string): string => join(state, 'audit', `${name}.jsonl`);
  const open = (patient: PatientSummary) => (url: string) => {
    const [account] = facts.accounts;
    if (account === undefined) throw new TypeError('the world has no account');
    return signIn({ url, username: account.username, password: account.password, patient });
  };
  return {
    ...{ facts, records, a: a.patient, b: b.patient, smart, open, pseudonymKey },
    checks: new Checks(),
    channel: (name) => world.channel(name),
    urlOf(name) {
      const party = facts.parties.find((one) => one.name === name);
      if (party === undefined) throw new TypeError(`the world has no party "${name}"`);
      return party.url;
    },
    launch: (patient, scope) => smart.authorize({ launch: 'patient', scope, open: open(patient) }),
    async desk(name, peers) {
      const audit = await openFileAudit({ file: auditFile(name), by: clientId });
      const tokens = createTokenExchanger({ issuer: facts.issuer, client: { clientId, privateKey } });
      const seals = createSealVerifier({ managers: [facts.manager.trusted] });
      const agent = createAgent({ name: 'desk', clientId, peers, tokens, seals, audit, pseudonymKey });
      closing.push(async () => {
        await agent.close();
        await audit.close();
      });
      return agent;
    },
    async stop() {
      for (const close of closing.splice(0).reverse()) await close();
    },
    async decisions(name) {
      const told: string[] = [];
      const verdict = await verifyAudit(auditFile(name), {
        onRecord: ({ event, tool, method, check, code }) => {
          if (method === 'tools/call' || check === 'token')
            told.push([event, tool, code].filter((part) => part !== undefined).join(' '));
        },
      });
      return verdict.ok && verdict.warnings.length === 0 ? told : ['the log is not intact and closed', ...told];
    },
  };
}
