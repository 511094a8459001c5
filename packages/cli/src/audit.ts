import { parseArgs } from 'node:util';
import type { AuditVerification, AuditWarning } from '@hmcp/audit';
import { auditLogsAt, verifyLog } from './audit-logs.js';
import { type CommandIo, EXIT, UsageError } from './command.js';
import { counted } from './counted.js';

const HELP = `hmcp audit verify FILE|FOLDER… [--json]

Verifies audit logs from their first byte to their last: every record's hash over its exact bytes, then its place in the
chain. A folder stands for its *.jsonl logs and *.sqlite session stores, a state folder also for those of its audit/. Reads
only; logs in use are welcome.
A chain without a witness cannot show that whole records were removed from the end of a log that was not closed.

  --json   one JSON line for each log

Exit codes: 0 every log is what was written · 1 that, with warnings (a torn or unclosed end) · 2 evidence of tampering ·
3 a log cannot be read, or there is none · 64 the command line is not understood
`;

const WARNINGS: Readonly<Record<AuditWarning, string>> = {
  torn: 'its last write was interrupted and never acknowledged; the next start of its writer cuts it off',
  unclosed: 'it was not closed: its writer was killed, or records were removed from its end',
};

type Finding = AuditVerification | { readonly ok: false; readonly file: string; readonly unreadable: string };

/** `hmcp audit verify`: exit 0, 1 warnings, 2 tamper evidence, 3 unreadable. @see protocol section 8 */
export async function auditCommand(argv: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', short: 'h', default: false } },
  });
  if (values.help) {
    io.stdout.write(HELP);
    return EXIT.ok;
  }
  const [verb, ...paths] = positionals;
  if (verb !== 'verify') throw new UsageError('the one thing to do with audit logs is "verify"');
  if (paths.length === 0) throw new UsageError('name the logs or folders to verify');

  const findings: Finding[] = [];
  for (const path of paths) {
    for await (const finding of findingsAt(path)) {
      findings.push(finding);
      io.stdout.write(values.json ? `${JSON.stringify(finding)}\n` : sentence(finding));
    }
  }
  return exitCode(findings);
}

async function* findingsAt(path: string): AsyncGenerator<Finding> {
  let files: string[];
  try {
    files = await auditLogsAt(path);
  } catch (error) {
    yield unreadable(path, error);
    return;
  }
  if (files.length === 0) yield { ok: false, file: path, unreadable: 'there is no audit log' };
  for (const file of files) yield await verifyLog(file).catch((error: unknown) => unreadable(file, error));
}

function unreadable(file: string, error: unknown): Finding {
  const { code } = (error ?? {}) as { code?: unknown };
  return {
    ok: false,
    file,
    unreadable: code === 'ENOENT' ? 'there is no such file' : `it cannot be read (${String(code ?? 'unknown')})`,
  };
}

function sentence(finding: Finding): string {
  const { file } = finding;
  if ('unreadable' in finding) return `UNREADABLE  ${file}: ${finding.unreadable}\n`;
  if (!finding.ok) {
    const { line, offset, seq, reason, records } = finding;
    return `TAMPERED    ${file}: line ${line} (offset ${offset}, seq ${seq}): ${reason}; ${counted(records, 'record')} before it hold\n`;
  }
  const { records, runs, interrupted, live, first, last, warnings } = finding;
  const used = `${counted(runs, 'run')}${interrupted > 0 ? `, ${interrupted} of them interrupted` : ''}${live ? ', in use' : ''}`;
  const span =
    first === undefined || last === undefined ? '' : `, ${new Date(first).toISOString()} to ${new Date(last).toISOString()}`;
  const head = warnings.length === 0 ? 'ok        ' : 'WARNING   ';
  const notes = warnings.map((warning) => `            ${WARNINGS[warning]}\n`);
  return `${head}  ${file}: ${counted(records, 'record')}, ${used}${span}\n${notes.join('')}`;
}

function exitCode(findings: readonly Finding[]): number {
  if (findings.some((finding) => !finding.ok && !('unreadable' in finding))) return EXIT.evidence;
  if (findings.some((finding) => 'unreadable' in finding)) return EXIT.unreadable;
  return findings.some((finding) => finding.ok && finding.warnings.length > 0) ? EXIT.notice : EXIT.ok;
}
