import { parseArgs } from 'node:util';
import { type CommandIo, EXIT, stateFolder, UsageError } from './command.js';
import { explainCode } from './explain-code.js';
import { readTrail, tellTrail } from './explain-trail.js';

const HELP = `hmcp explain CODE
hmcp explain INTENT|TXN [--state FOLDER]

With a code (40903), its name (patient_mismatch) or an HTTP status: what it means, whether to retry, how to mend it.
Digits that are a code are taken for it; of an id that begins so, give more.
With the id of an intent or of a chain of tokens (txn), or the first characters of one: what every hop decided about it,
and of the first refusal the hop, the check, which pseudonyms (pk) it compared, and the mend; read from the audit logs of a
state folder.

  --state FOLDER   state folder of \`hmcp dev\`; logs are FOLDER/audit/*.jsonl (default: HMCP_STATE, else .hmcp)

Exit codes: 0 explained · 1 no such code, no record of it, or more than one id begins so · 2 a log read for it was tampered
with · 3 the logs cannot be read · 64 the command line is not understood
`;

/** `hmcp explain`: a code, or what every hop decided about an intent. @see protocol sections 4 and 8 */
export async function explainCommand(argv: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseArgs({
    // A JSON-RPC code begins with a dash.
    args: argv.flatMap((argument) => (/^-\d+$/.test(argument) ? ['--', argument] : [argument])),
    allowPositionals: true,
    options: { state: { type: 'string' }, help: { type: 'boolean', short: 'h', default: false } },
  });
  if (values.help) {
    io.stdout.write(HELP);
    return EXIT.ok;
  }
  const [what] = positionals;
  if (what === undefined || positionals.length > 1) throw new UsageError('name one code, intent or txn');

  const meaning = explainCode(what);
  if (meaning !== undefined) {
    io.stdout.write(meaning);
    return EXIT.ok;
  }
  const perhapsCode = /^-?\d{1,5}$/.test(what);
  const noCode = (more = ''): number => {
    io.stderr.write(`hmcp explain: this protocol has no such code${more}\n`);
    return EXIT.notice;
  };
  if (/^(-\d{1,5}|\d{1,3})$/.test(what)) return noCode();
  if (!/^[A-Za-z0-9\-_.:]{4,256}$/.test(what)) throw new UsageError('an id has at least 4 of A-Z a-z 0-9 - _ . :');

  const state = stateFolder(values.state, io);
  const trail = await readTrail(state, what).catch((error: unknown) => {
    if (perhapsCode) return 'no logs';
    const { code } = (error ?? {}) as { code?: unknown };
    io.stderr.write(`hmcp explain: the audit logs of ${state} cannot be read (${String(code ?? 'unknown')})\n`);
    return undefined;
  });
  if (trail === undefined) return EXIT.unreadable;
  if (trail === 'no logs') return noCode(`, and the audit logs of ${state} cannot be read`);
  if (trail.logs === 0) {
    if (perhapsCode) return noCode(`, and there is no audit log in ${state}`);
    io.stderr.write(`hmcp explain: there is no audit log in ${state}\n`);
    return EXIT.unreadable;
  }
  for (const { file, line, reason } of trail.tampered)
    io.stderr.write(`hmcp explain: TAMPERED ${file}, line ${line}: ${reason}\n`);
  const told = tellTrail(trail);
  if (told !== undefined) io.stdout.write(told);
  else if (trail.ids.length > 1) io.stderr.write(`hmcp explain: several ids begin so: ${trail.ids.slice(0, 5).join(', ')}\n`);
  else if (perhapsCode) noCode(`, and no id in the audit logs of ${state} begins so`);
  else io.stderr.write(`hmcp explain: no record of it in the ${trail.logs} audit logs of ${state}\n`);
  if (trail.tampered.length > 0) return EXIT.evidence;
  return told === undefined ? EXIT.notice : EXIT.ok;
}
