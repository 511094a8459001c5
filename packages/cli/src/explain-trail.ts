import { basename, extname } from 'node:path';
import { type BrokenAudit, plainText, type StoredRecord } from '@hmcp/audit';
import { AUDIT_REASONS, type AuditEventName, type ComparedPatient, ERRORS, isHmcpErrorCode } from '@hmcp/core';
import { auditLogsAt, verifyLog } from './audit-logs.js';
import { counted } from './counted.js';
import { explainRefusal } from './explain-code.js';

/** One decision and the party whose log it stands in. */
interface Step {
  readonly party: string;
  readonly record: StoredRecord;
  /** It names no intent: the trace its request was sent in is all that says where it belongs. */
  readonly joined?: true;
}

/** What the audit logs of a state folder say about an id. */
export interface Trail {
  /** Number of logs read. */
  readonly logs: number;
  /** The ids asked for: the one given, or every one that begins with it. */
  readonly ids: readonly string[];
  /** Their decisions, oldest first; only verified records. */
  readonly steps: readonly Step[];
  readonly tampered: readonly BrokenAudit[];
}

/** Most records kept of one id. */
const MOST_STEPS = 10_000;
/** Most records kept that name nobody's intent; the newest count. */
const MOST_STRAYS = 10_000;
/** Most of those that are shown: a trace is what a caller says it is. */
const MOST_JOINED = 20;

/** The trace id of a W3C `traceparent`. */
function traceOf({ traceparent }: StoredRecord): string | undefined {
  return traceparent?.split('-')[1];
}

/**
 * Reads and verifies every audit log of a state folder and keeps what concerns an intent or txn, given whole or by its
 * first characters; and records of the same traces that name neither: what a server refused before it knew whose request it was.
 * @throws system errors when the folder or a log cannot be read
 */
export async function readTrail(state: string, id: string): Promise<Trail> {
  const files = await auditLogsAt(state);
  const ids = new Set<string>();
  const steps: Step[] = [];
  const strays: Step[] = [];
  const tampered: BrokenAudit[] = [];
  for (const file of files) {
    const party = basename(file, extname(file));
    const verdict = await verifyLog(file, {
      onRecord: (record) => {
        if (record.intent === undefined && record.txn === undefined && traceOf(record) !== undefined) {
          strays.push({ party, record, joined: true });
          if (strays.length > 2 * MOST_STRAYS) strays.splice(0, MOST_STRAYS);
        }
        const named = [record.intent, record.txn].filter((known) => known?.startsWith(id));
        if (named.length === 0 || steps.length >= MOST_STEPS) return;
        for (const known of named) if (known !== undefined) ids.add(known);
        steps.push({ party, record });
      },
    });
    if (!verdict.ok) tampered.push(verdict);
  }
  const exact = ids.has(id);
  const own = exact ? steps.filter(({ record }) => record.intent === id || record.txn === id) : steps;
  return { logs: files.length, ids: exact ? [id] : [...ids], steps: withJoined(own, strays), tampered };
}

/** The decisions about an id, and those of the same traces that name none, oldest first. */
function withJoined(own: readonly Step[], strays: readonly Step[]): readonly Step[] {
  const traces = new Set(own.flatMap(({ record }) => traceOf(record) ?? []));
  const joined = strays.filter(({ record }) => traces.has(traceOf(record) ?? '')).slice(0, MOST_JOINED);
  return [...own, ...joined].sort((a, b) => a.record.t - b.record.t);
}

/** The trail hop by hop, with the first refusal explained; `undefined` unless it is about exactly one id. */
export function tellTrail({ ids, steps }: Trail): string | undefined {
  const [first] = steps;
  if (ids.length !== 1 || first === undefined) return undefined;
  const start = first.record.t;
  const parties = new Set(steps.map(({ party }) => party)).size;
  const width = Math.max(...steps.map(({ party }) => party.length));
  const joined = steps.filter((step) => step.joined).length;
  const how = joined === 0 ? '' : `; ${joined} of them name${joined === 1 ? 's' : ''} no intent, joined by trace`;
  const head = `${ids[0]}: ${counted(steps.length, 'decision')} of ${parties} part${parties === 1 ? 'y' : 'ies'} from ${new Date(start).toISOString()}${how}\n`;
  const lines = steps.map(({ party, record, joined: byTrace }) => {
    const when = `+${record.t - start} ms`.padStart(10);
    const indent = '  '.repeat(Math.min(record.hop ?? 0, 8));
    const hop = record.hop === undefined ? '' : `hop ${record.hop}`;
    return `${when}  ${indent}${party.padEnd(width)}  ${hop.padEnd(5)}  ${tell(record)}${byTrace ? ' · joined by trace' : ''}\n`;
  });
  const fault = steps.find(({ record }) => mendOf(record) !== undefined);
  const refusal = firstRefusal(steps);
  const ends = [...(fault === undefined ? [] : [tellFault(fault)]), ...(refusal === undefined ? [] : [tellRefusal(refusal)])];
  return `${head}\n${lines.join('')}${ends.map((end) => `\n${end}`).join('')}`;
}

const VERBS: Readonly<Partial<Record<AuditEventName, string>>> = {
  'request.served': 'served',
  'request.refused': 'refused',
  'result.withheld': 'withheld the result of',
  'notification.dropped': 'dropped a notification',
  'hop.call': 'called',
  'hop.disclosure': 'called, without context,',
  'hop.result': 'took the answer of',
  'hop.dropped': 'dropped the answer of',
  'hop.refused': 'was refused',
  'token.issued': 'issued a token',
  'token.refused': 'refused a token',
};

function tell(record: StoredRecord): string {
  const { event, outcome, tool, method, peer, clientId, code, check, reason, types, unverifiable, binding, folded } = record;
  const parts = [event === 'request.served' && outcome !== 0 ? 'failed' : (VERBS[event] ?? event)];
  const operation = tool ?? method;
  if (operation !== undefined) parts.push(plainText(operation, 128));
  if (peer !== undefined) parts.push(`at ${plainText(peer)}`);
  else if (clientId !== undefined) parts.push(`for ${plainText(clientId)}`);
  if (code !== undefined) parts.push(`· ${isHmcpErrorCode(code) ? `${code} ${ERRORS[code].name}` : code}`);
  if (check !== undefined) parts.push(`· check "${check}"`);
  if (reason !== undefined) parts.push(`· ${plainText(reason)}`);
  if (types !== undefined) parts.push(...Object.entries(types).map(([type, n]) => `· ${n} ${plainText(type, 64)}`));
  if (unverifiable !== undefined && unverifiable > 0) parts.push(`· ${unverifiable} unverifiable`);
  if (binding === 'none') parts.push('· no binding expected');
  if (folded !== undefined) parts.push(`· ${folded} like it`);
  return parts.join(' ');
}

/** What to do about a call that failed before its tool ran, by the reason its server gave in the audit. */
const MENDS: ReadonlyMap<string | undefined, string> = new Map([
  [
    AUDIT_REASONS.invalidArguments,
    'see whether its `patientArgument` in `operations` is null or misspelt, so that the patient was not filled in; else send what the tool requires',
  ],
  [AUDIT_REASONS.noSuchTool, 'correct the name in `operations` of the server'],
]);

function mendOf({ reason }: StoredRecord): string | undefined {
  return MENDS.get(reason);
}

function tellFault({ party, record }: Step): string {
  const where = record.hop === undefined ? '' : ` (hop ${record.hop})`;
  return `Failed at ${party}${where} before the tool ran: ${record.reason}. Mend: ${mendOf(record)}.\n`;
}

/** Characters of a pseudonym that are shown: enough to find it in the log, and to tell two apart. */
const SHOWN = 10;

function tellRefusal({ party, record }: Step): string {
  const { code = 0, check, hop, compared = [], reason } = record;
  const where = `${hop === undefined ? '' : ` (hop ${hop})`}${check === undefined ? '' : `, check "${check}"`}`;
  return `First refused by ${party}${where}. ${explainRefusal(code, check)}${tellCause(code, check, reason)}${tellCompared(compared)}`;
}

/** Which of several causes it was that a caller is not told. */
function tellCause(code: number, check: string | undefined, reason: string | undefined): string {
  if (code !== 40903 || check !== 'result' || reason === undefined) return '';
  const mend = reason.startsWith(AUDIT_REASONS.uncheckable)
    ? 'No row of somebody else was found. Mend: let the tool answer `structuredContent` and declare `output` for it in `operations` (the `outputSchema` of a v1 tool does not count), or leave that part out'
    : 'Mend: look at what that server answers';
  return `Its audit says: ${plainText(reason)}. ${mend}.\n`;
}

function tellCompared(compared: readonly ComparedPatient[]): string {
  const first = compared.find(({ pk }) => pk !== undefined)?.pk;
  if (first === undefined) return '';
  const rows = compared.map(({ said, argument, pk }) => {
    const side = argument === undefined ? plainText(said, 16) : `${plainText(said, 16)} "${plainText(argument, 64)}"`;
    return [side, pk === undefined ? 'whose it is could not be told' : saidBy(pk, first)] as const;
  });
  const width = Math.max(...rows.map(([side]) => side.length));
  return `Compared, by pseudonym (pk):\n${rows.map(([side, who]) => `  ${side.padEnd(width)}  ${who}\n`).join('')}`;
}

function saidBy(pk: string, first: string): string {
  return `${plainText(pk.slice(0, SHOWN), SHOWN)}…${pk === first ? '' : '  another patient'}`;
}

/**
 * The refusal that came first; of those in one millisecond the one furthest on, since a refusal travels back: one without a hop that was
 * joined by its trace is of a server that did not yet know its place.
 */
function firstRefusal(steps: readonly Step[]): Step | undefined {
  const refusals = steps.filter(({ record }) => record.code !== undefined);
  const [first] = refusals;
  return refusals.filter(({ record }) => record.t === first?.record.t).toSorted((a, b) => place(b) - place(a))[0];
}

function place({ record, joined }: Step): number {
  return joined ? Number.POSITIVE_INFINITY : (record.hop ?? 0);
}
