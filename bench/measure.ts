import { fork } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { diskFolder, timeSyncs } from './disk.js';
import { figuresOf, type Phase, type Round } from './figures.js';
import type { InProcessConfig, InProcessReport } from './in-process.js';
import { load } from './load.js';
import { thisMachine } from './machine.js';
import { type Party, type PartyKind, startParty } from './party-link.js';
import type { Results } from './results.js';
import { median, quantile } from './statistics.js';
import { answerOfTool, createMint, type Mint, patientOf, requestFor, type Sent } from './workload.js';

/** How much is measured. */
export interface Extent {
  readonly rounds: number;
  /** Of each phase of load. */
  readonly seconds: number;
  readonly syncs: number;
  readonly inProcess: InProcessConfig;
}

export const FULL: Extent = { rounds: 7, seconds: 4, syncs: 300, inProcess: { rounds: 7, requests: 800 } };
/** Under a minute, for CI. */
export const QUICK: Extent = { rounds: 5, seconds: 0.8, syncs: 60, inProcess: { rounds: 5, requests: 160 } };

const CONNECTIONS = 32;
const FOLDER = fileURLToPath(new URL('.', import.meta.url));

/** A run, and what it saw of the planted fault: throughput of a server that computes 3 ms for each record, of the bare server's. */
export interface Measured {
  readonly results: Results;
  readonly burdened: number;
}

/** Measures everything. @param say told what is going on */
export async function measure(extent: Extent, say: (line: string) => void): Promise<Measured> {
  const disk = await diskFolder(FOLDER);
  const machine = thisMachine(disk.fileSystem);
  const parties: Party[] = [];
  try {
    const rows = answerOfTool();
    const patient = patientOf(rows.results);
    const mint = await createMint(patient);
    say('in process: the decision, and hop 4 beside hop 1');
    const inProcess = await runInProcess(extent.inProcess);
    const start = async (kind: PartyKind): Promise<Party> => {
      const party = await startParty({ kind, jwks: mint.jwks, file: join(disk.path, 'audit.jsonl') });
      parties.push(party);
      return party;
    };
    const bare = await start('bare');
    const memory = await start('guarded, audit in memory');
    const durable = await start('guarded, audit on disk');
    const requests = new Requests(mint, patient, await mint.token(1));
    const phase = (party: Party, connections: number, seconds: number, fresh?: readonly string[]) =>
      loaded(party, connections, seconds, requests, fresh);

    say('warm-up');
    for (const party of [bare, memory, durable, bare, memory, durable])
      await phase(party, CONNECTIONS, Math.max(1, extent.seconds / 2));

    const rounds: Round[] = [];
    for (let round = 0; round < extent.rounds; round += 1) {
      say(`round ${round + 1} of ${extent.rounds}`);
      const tokens = await requests.fresh(Math.ceil(700 * extent.seconds));
      // Each round begins with another server, so that none is always the first.
      const many = await inTurn(round, {
        bare: () => phase(bare, CONNECTIONS, extent.seconds),
        'guarded, audit in memory': () => phase(memory, CONNECTIONS, extent.seconds),
        'guarded, audit on disk': () => phase(durable, CONNECTIONS, extent.seconds),
        'guarded, audit in memory, cold': () => phase(memory, CONNECTIONS, extent.seconds, tokens),
      });
      const one = await inTurn(round, {
        bare: () => phase(bare, 1, extent.seconds / 2),
        'guarded, audit on disk': () => phase(durable, 1, extent.seconds / 2),
      });
      rounds.push({ many, one, syncMs: quantile(await timeSyncs(disk.path, extent.syncs), 0.5) });
    }

    say('the planted fault');
    const burden = await start('burdened');
    const { requestsPerSecond } = await phase(burden, CONNECTIONS, 0.6);
    const settings = {
      rounds: extent.rounds,
      seconds: extent.seconds,
      connections: CONNECTIONS,
      answerBytes: Buffer.byteLength(JSON.stringify(rows)),
    };
    const results: Results = {
      version: 1,
      measuredAt: new Date().toISOString(),
      machine,
      settings,
      figures: figuresOf(rounds, inProcess),
      rounds,
      inProcess,
    };
    return { results, burdened: requestsPerSecond / median(rounds.map(({ many }) => many.bare.requestsPerSecond)) };
  } finally {
    await Promise.all(parties.map((party) => party.close()));
    await rm(disk.path, { recursive: true, force: true });
  }
}

/** Makes the requests of a run, each with an id and an intent of its own. */
class Requests {
  readonly #mint: Mint;
  readonly #patient: string;
  readonly #token: string;
  #serial = 0;

  constructor(mint: Mint, patient: string, token: string) {
    this.#mint = mint;
    this.#patient = patient;
    this.#token = token;
  }

  next(token = this.#token): Sent {
    this.#serial += 1;
    return requestFor(token, this.#patient, this.#serial);
  }

  fresh(count: number): Promise<string[]> {
    return Promise.all(Array.from({ length: count }, () => this.#mint.token(1)));
  }
}

/** @param fresh a token for each request; the phase ends when there are no more */
async function loaded(
  party: Party,
  connections: number,
  seconds: number,
  requests: Requests,
  fresh?: readonly string[],
): Promise<Phase> {
  let used = 0;
  const next = (): Sent | undefined => {
    if (fresh === undefined) return requests.next();
    const token = fresh[used];
    used += 1;
    return token === undefined ? undefined : requests.next(token);
  };
  const before = await party.cpuMs();
  const found = await load({ port: party.port, connections, seconds, next, guarded: party.kind !== 'bare' });
  const cpuMs = (await party.cpuMs()) - before;
  return {
    requestsPerSecond: found.requests / found.seconds,
    p50: quantile(found.latencies, 0.5),
    cpuMicros: (1000 * cpuMs) / found.requests,
  };
}

/** Runs all of them one after the other, beginning with the `first`th. */
async function inTurn<K extends string>(
  first: number,
  tasks: Readonly<Record<K, () => Promise<Phase>>>,
): Promise<Record<K, Phase>> {
  const names = Object.keys(tasks) as K[];
  const found: Partial<Record<K, Phase>> = {};
  for (let i = 0; i < names.length; i += 1) {
    const name = names[(first + i) % names.length];
    if (name !== undefined) found[name] = await tasks[name]();
  }
  return Object.fromEntries(names.map((name) => [name, found[name]])) as Record<K, Phase>;
}

async function runInProcess(config: InProcessConfig): Promise<InProcessReport> {
  const child = fork(join(FOLDER, 'in-process.js'), [JSON.stringify(config)]);
  return new Promise((resolve, reject) => {
    let report: InProcessReport | undefined;
    child.once('message', (message) => {
      report = message as InProcessReport;
    });
    child.once('exit', () => (report === undefined ? reject(new Error('the bench in process ended early')) : resolve(report)));
  });
}
