import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { JSONWebKeySet } from 'jose';

/** Which server a process is; `burdened` is the planted fault. */
export type PartyKind = 'bare' | 'guarded, audit in memory' | 'guarded, audit on disk' | 'burdened';

/** What a server's process is told. */
export interface PartyConfig {
  readonly kind: PartyKind;
  readonly jwks: JSONWebKeySet;
  /** Where the log of the one with an audit on disk is. */
  readonly file: string;
}

/** What it says: first its port, later its CPU time when asked. */
export type PartyReport = { readonly port: number } | { readonly cpuMs: number };

/** A running server. */
export interface Party {
  readonly kind: PartyKind;
  readonly port: number;
  /** CPU time of its process so far, all threads, in ms. */
  cpuMs(): Promise<number>;
  close(): Promise<void>;
}

/** Starts a server and waits until it listens. */
export async function startParty(config: PartyConfig): Promise<Party> {
  const child = fork(fileURLToPath(new URL('./party.js', import.meta.url)), [JSON.stringify(config)]);
  const report = await nextReport(child);
  if (!('port' in report)) throw new Error('a server said no port');
  return {
    kind: config.kind,
    port: report.port,
    async cpuMs() {
      const answer = nextReport(child);
      child.send('cpu');
      const said = await answer;
      return 'cpuMs' in said ? said.cpuMs : Number.NaN;
    },
    async close() {
      if (child.exitCode !== null) return;
      const gone = once(child, 'exit');
      child.disconnect();
      await gone;
    },
  };
}

async function nextReport(child: ChildProcess): Promise<PartyReport> {
  const over = new AbortController();
  const { signal } = over;
  try {
    const died = once(child, 'exit', { signal }).then(() => {
      throw new Error('a server of the bench ended early');
    });
    const [message] = await Promise.race([once(child, 'message', { signal }), died]);
    return message as PartyReport;
  } finally {
    over.abort();
  }
}
