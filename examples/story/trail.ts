import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import type { WorldFacts } from '@hmcp/cli/world';
import { type AuditRecord, PARTICIPANT_METHODS } from '@hmcp/core';

/** One decision, read from the audit of the party that took it. */
export interface Hop extends AuditRecord {
  readonly party: string;
  /** Name of the party this one called, or whose refusal it relays. */
  readonly other?: string | undefined;
  readonly t: number;
  /** 0 for the first server of a chain. */
  readonly depth: number;
}

const TOLD = ['request.served', 'request.refused', 'result.withheld', 'hop.dropped'];
/** Handshakes, catalogues, and what a manager says to a participant, which its own audit tells. */
const UNTOLD = [
  'initialize',
  'server/discover',
  'ping',
  'tools/list',
  ...Object.values(PARTICIPANT_METHODS),
] as readonly string[];

/** Follows the audit logs of a world: what was decided since the last look. An answer is released after its record is durable. */
export class Trail {
  readonly #files: readonly string[];
  readonly #read = new Map<string, number>();

  readonly #names: ReadonlyMap<string, string>;

  constructor(facts: WorldFacts) {
    this.#files = facts.audit;
    this.#names = new Map(facts.parties.map(({ name, url }) => [url, name]));
  }

  /** New decisions on requests in context, each caller before those it called. */
  async next(): Promise<Hop[]> {
    const found: Hop[] = [];
    for (const file of this.#files) {
      const party = basename(file, '.jsonl');
      for (const line of await this.#newLines(file)) {
        const record = JSON.parse(line) as Hop;
        if (TOLD.includes(record.event) && !UNTOLD.includes(record.method ?? ''))
          found.push({ ...record, party, depth: 0, other: this.#names.get(record.peer ?? '') });
      }
    }
    return asTree(found.sort((a, b) => a.t - b.t));
  }

  /** Looks until a decision of this kind is there, which may be written after what it follows was seen. Gives up after 5 s. */
  async until(wanted: (hop: Hop) => boolean): Promise<Hop | undefined> {
    const giveUp = AbortSignal.timeout(5_000);
    for (;;) {
      const found = (await this.next()).find(wanted);
      if (found !== undefined || giveUp.aborted) return found;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async #newLines(file: string): Promise<string[]> {
    const from = this.#read.get(file) ?? 0;
    // A child of another party has no log before it is first called.
    const handle = await open(file, 'r').catch(() => undefined);
    if (handle === undefined) return [];
    try {
      const { size } = await handle.stat();
      const bytes = Buffer.alloc(Math.max(size - from, 0));
      await handle.read(bytes, 0, bytes.length, from);
      const end = bytes.lastIndexOf(10) + 1;
      this.#read.set(file, from + end);
      return bytes
        .subarray(0, end)
        .toString('utf8')
        .split('\n')
        .filter((line) => line.includes('"event"'));
    } finally {
      await handle.close();
    }
  }
}

/** Puts each decision under the one of its caller, whose party name is its client id. */
function asTree(hops: readonly Hop[]): Hop[] {
  const parties = new Set(hops.filter(({ event }) => event !== 'hop.dropped').map(({ party }) => party));
  const told = (hop: Hop, depth: number): Hop[] => [
    { ...hop, depth },
    ...(hop.event === 'hop.dropped'
      ? []
      : hops.filter((next) => callerOf(next) === hop.party).flatMap((next) => told(next, depth + 1))),
  ];
  return hops.filter((hop) => !parties.has(callerOf(hop))).flatMap((hop) => told(hop, 0));
}

function callerOf({ event, party, clientId }: Hop): string {
  return event === 'hop.dropped' ? party : (clientId ?? '');
}
