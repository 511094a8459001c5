import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AuditRecord } from '@hmcp/core';
import { onTestFinished } from 'vitest';
import type { StoredRecord } from '../src/index.js';
import { type LogFile, openLogFile } from '../src/log-file.js';

export const LABS = 'http://labs.test/mcp';

/** Path of a log that does not exist yet, in a folder that goes away with the test. */
export async function freshLog(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hmcp-audit-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return join(folder, 'labs.jsonl');
}

export function served(intent: string): AuditRecord {
  return { event: 'request.served', outcome: 0, by: LABS, tool: 'list-results', intent, types: { Observation: 3 } };
}

export function refused(more: Partial<AuditRecord> = {}): AuditRecord {
  return { event: 'request.refused', outcome: 4, code: 40903, check: 'argument', by: LABS, clientId: 'triage', ...more };
}

/** Records of a log as its lines say, header included. */
export async function linesOf(file: string): Promise<StoredRecord[]> {
  const text = await readFile(file, 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as StoredRecord);
}

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made by a test`), { code });
}

/** A real log whose next write or sync does what a test says, and which counts what was asked of it. */
export class FaultyDisk {
  readonly calls: string[] = [];
  #faults: { operation: keyof LogFile; fault: (bytes?: Uint8Array, position?: number) => Promise<unknown> }[] = [];
  #file: LogFile | undefined;

  readonly open = async (path: string): Promise<LogFile> => {
    const file = await openLogFile(path);
    this.#file = file;
    return {
      write: (bytes, position) => this.#do('write', () => file.write(bytes, position), bytes, position),
      datasync: () => this.#do('datasync', () => file.datasync()),
      truncate: (size) => this.#do('truncate', () => file.truncate(size)),
      inspect: () => file.inspect(),
      close: () => file.close(),
    };
  };

  count(operation: keyof LogFile): number {
    return this.calls.filter((call) => call === operation).length;
  }

  /** The next `operation` rejects with this system error. */
  failNext(operation: keyof LogFile, code: string): void {
    this.#faults.push({ operation, fault: () => Promise.reject(systemError(code)) });
  }

  /** The next write stores only `bytes` bytes, and says so or fails. */
  shortenNextWrite(bytes: number, code?: string): void {
    this.#faults.push({
      operation: 'write',
      fault: async (all = new Uint8Array(), position = 0) => {
        const written = (await this.#file?.write(all.subarray(0, bytes), position)) ?? 0;
        if (code !== undefined) throw systemError(code);
        return written;
      },
    });
  }

  /** The next `operation` waits until the returned function is called. */
  holdNext(operation: 'write' | 'datasync'): { reached: Promise<void>; release: () => void } {
    let reach = (): void => {};
    let release = (): void => {};
    const reached = new Promise<void>((resolve) => {
      reach = resolve;
    });
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#faults.push({
      operation,
      fault: async (bytes = new Uint8Array(), position = 0) => {
        reach();
        await released;
        return operation === 'write' ? this.#file?.write(bytes, position) : this.#file?.datasync();
      },
    });
    return { reached, release };
  }

  async #do<T>(operation: keyof LogFile, real: () => Promise<T>, bytes?: Uint8Array, position?: number): Promise<T> {
    this.calls.push(operation);
    const at = this.#faults.findIndex((planned) => planned.operation === operation);
    const planned = at < 0 ? undefined : this.#faults.splice(at, 1)[0];
    return planned === undefined ? real() : ((await planned.fault(bytes, position)) as T);
  }
}
