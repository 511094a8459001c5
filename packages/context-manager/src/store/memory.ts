import type { AuditRecord } from '@hmcp/core';
import { Session } from '../session-row.js';
import type { ContextStore } from '../store.js';
import { Watchers } from './watchers.js';

/** A store for tests and nothing else: it forgets. */
export interface MemoryStore extends ContextStore {
  /** Every audit record, in order. */
  readonly records: readonly AuditRecord[];
}

/** Makes a {@link MemoryStore}; rows are copied in and out, as from a disk. */
export function memoryStore(): MemoryStore {
  const rows = new Map<string, string>();
  const opened = new Map<string, string>();
  const records: AuditRecord[] = [];
  const watchers = new Watchers();
  const read = async (sid: string): Promise<Session | undefined> => {
    const row = rows.get(sid);
    return row === undefined ? undefined : Session.parse(JSON.parse(row));
  };
  return {
    durable: false,
    records,
    async create(session, openKey, record) {
      if (opened.has(openKey) || rows.has(session.sid)) return 'exists';
      rows.set(session.sid, JSON.stringify(session));
      opened.set(openKey, session.sid);
      records.push(record);
      return 'done';
    },
    read,
    async readOpened(openKey) {
      return read(opened.get(openKey) ?? '');
    },
    async compareAndSet(next, record) {
      const row = rows.get(next.sid);
      if (row === undefined || (JSON.parse(row) as Session).version !== next.version - 1) return 'conflict';
      rows.set(next.sid, JSON.stringify(next));
      records.push(record);
      watchers.notify(next.sid);
      return 'done';
    },
    async undecided() {
      return [...rows].filter(([, row]) => (JSON.parse(row) as Session).pending !== undefined).map(([sid]) => sid);
    },
    watch: (sid, changed) => watchers.watch(sid, changed),
    audit: {
      append: async (record) => {
        records.push(record);
      },
      close: async () => undefined,
    },
    close: async () => undefined,
  };
}
