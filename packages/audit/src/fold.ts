import type { AuditEventName, AuditRecord } from '@hmcp/core';
import type { SinkFacts } from './record-line.js';

/** Bounds of the folding; all per {@link FoldLimits.windowMs}. */
export interface FoldLimits {
  /** Refusals of one group written one by one before folding begins. @default 20 */
  readonly individually: number;
  /** Length of a window in ms; it begins with the first refusal of a group. @default 60000 */
  readonly windowMs: number;
  /** Distinct refusals of one group that are still written after that. @default 100 */
  readonly kinds: number;
  /** Groups remembered at a time; the oldest is summed up early when there are more. @default 1000 */
  readonly groups: number;
}

const DEFAULTS: FoldLimits = { individually: 20, windowMs: 60_000, kinds: 100, groups: 1_000 };

/** Only plain refusals (outcome 4) fold. Served, withheld, dropped and failed answers are always written. */
const FOLDABLE: ReadonlySet<AuditEventName> = new Set([
  'request.refused',
  'notification.dropped',
  'hop.refused',
  'token.refused',
  'switch.proposed',
]);

interface Group {
  readonly first: AuditRecord;
  readonly start: number;
  readonly kinds: Set<string>;
  written: number;
  folded: number;
  since: number;
  until: number;
}

/**
 * Folds like refusals, so that a flood cannot fill the disk and hide what matters. A group is (event, check, code,
 * clientId, by). Its first 20 in a minute are written one by one; after that a refusal is written only when it is a
 * distinct one (other reason, subject, patient, session, tool, method, peer or hop than any before it), and the rest is counted
 * into one record with `folded`, `since` and `until`. Pure: time is given, and summaries are collected, not pushed.
 * @see protocol section 8
 */
export class RefusalFold {
  readonly #limits: FoldLimits;
  readonly #groups = new Map<string, Group>();
  #early: (AuditRecord & SinkFacts)[] = [];

  constructor(limits: Partial<FoldLimits> = {}) {
    this.#limits = { ...DEFAULTS, ...limits };
  }

  /** True when the record must be written; false when it was counted. Ask for {@link due} first. @param t wall time in ms */
  admit(record: AuditRecord, t: number): boolean {
    if (record.outcome !== 4 || !FOLDABLE.has(record.event)) return true;
    const group = this.#groupOf(record, t);
    const kind = kindOf(record);
    const distinct = !group.kinds.has(kind) && group.kinds.size < this.#limits.kinds;
    if (distinct) group.kinds.add(kind);
    if (distinct || group.written < this.#limits.individually) {
      group.written += 1;
      return true;
    }
    if (group.folded === 0) group.since = t;
    group.folded += 1;
    group.until = t;
    return false;
  }

  /** Summaries of the windows that have ended by `t`; each is given out once. */
  due(t: number): (AuditRecord & SinkFacts)[] {
    const summaries = this.#early;
    this.#early = [];
    for (const [key, group] of this.#groups) {
      // Groups stand in the order of their windows; a clock that went back ends a window too.
      if (t >= group.start && t - group.start < this.#limits.windowMs) break;
      this.#groups.delete(key);
      if (group.folded > 0) summaries.push(summaryOf(group));
    }
    return summaries;
  }

  /** Summaries of everything still counted, for closing. */
  drain(): (AuditRecord & SinkFacts)[] {
    return this.due(Number.POSITIVE_INFINITY);
  }

  /** Takes back a summary that could not be written; it is due again at once. */
  restore(summary: AuditRecord & SinkFacts): void {
    this.#early.push(summary);
  }

  /** Something admitted could not be written: nothing counts as written any more, so the next ones are written again. */
  distrust(): void {
    for (const group of this.#groups.values()) {
      group.written = 0;
      group.kinds.clear();
    }
  }

  #groupOf(record: AuditRecord, t: number): Group {
    const key = JSON.stringify([record.event, record.check, record.code, record.clientId, record.by]);
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    if (this.#groups.size >= this.#limits.groups) {
      for (const [oldestKey, oldest] of this.#groups) {
        this.#groups.delete(oldestKey);
        if (oldest.folded > 0) this.#early.push(summaryOf(oldest));
        break;
      }
    }
    const group: Group = { first: record, start: t, kinds: new Set(), written: 0, folded: 0, since: t, until: t };
    this.#groups.set(key, group);
    return group;
  }
}

function kindOf({ reason, issuer, subject, pk, sid, tool, method, peer, hop }: AuditRecord): string {
  return JSON.stringify([reason, issuer, subject, pk, sid, tool, method, peer, hop]);
}

function summaryOf({ first, folded, since, until }: Group): AuditRecord & SinkFacts {
  const { event, outcome, code, check, by, clientId } = first;
  return { event, outcome, code, check, reason: 'like refusals, folded', by, clientId, folded, since, until };
}
