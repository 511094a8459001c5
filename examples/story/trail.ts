import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import type { WorldFacts } from '@hmcp/cli/world';
import type { AuditRecord } from '@hmcp/core';

/** One decision, read from the audit of the party that took it. */
export interface Hop extends AuditRecord {
  readonly party: string;
  readonly t: number;
}

const TOLD = ['request.served', 'request.refused', 'result.withheld', 'hop.dropped'];
const UNTOLD = ['initialize', 'server/discover', 'ping', 'tools/list'];

/** Follows the audit logs of a world: what was decided since the last look. An answer is released after its record is durable. */
export class Trail {
  readonly #files: readonly string[];
  readonly #read = new Map<string, number>();

  constructor(facts: WorldFacts) {
    this.#files = facts.audit;
  }

  /** New decisions on requests in context, in the order of hops, then of time. */
  async next(): Promise<Hop[]> {
    const found: Hop[] = [];
    for (const file of this.#files) {
      const party = basename(file, '.jsonl');
      for (const line of await this.#newLines(file)) {
        const record = JSON.parse(line) as Hop;
        if (TOLD.includes(record.event) && !UNTOLD.includes(record.method ?? '')) found.push({ ...record, party });
      }
    }
    return found.sort((a, b) => (a.hop ?? 0) - (b.hop ?? 0) || a.t - b.t);
  }

  async #newLines(file: string): Promise<string[]> {
    const from = this.#read.get(file) ?? 0;
    const handle = await open(file, 'r');
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
