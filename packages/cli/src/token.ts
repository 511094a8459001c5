import { parseArgs } from 'node:util';
import { type CommandIo, EXIT, UsageError } from './command.js';
import { describeToken } from './token-description.js';

const HELP = `hmcp token inspect [TOKEN|-] [--show-patient]

Says what a token (a JWT) claims: header, issuer, audience, times, scopes one by one, chain and hop. Its signature is NOT
verified, and the token itself is never printed. Without TOKEN, or with "-", it is read from standard input, which keeps
it out of the shell's history and the list of processes. Patient and encounter are hidden, and of claims this command
does not know only the names are shown.

  --show-patient   show the ids of patient and encounter

Exit codes: 0 described · 1 described, and no hop would accept it · 3 it is no JWT · 64 the command line is not understood
`;

/** Largest input read, in characters; far above any token. */
const MOST_CHARACTERS = 65_536;

/** `hmcp token inspect`: what a JWT claims, unverified, without printing it. @see protocol section 2.1 */
export async function tokenCommand(argv: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: { 'show-patient': { type: 'boolean', default: false }, help: { type: 'boolean', short: 'h', default: false } },
  });
  if (values.help) {
    io.stdout.write(HELP);
    return EXIT.ok;
  }
  const [verb, given, ...more] = positionals;
  if (verb !== 'inspect') throw new UsageError('the one thing to do with a token is "inspect"');
  if (more.length > 0) throw new UsageError('give one token');

  const text = given === undefined || given === '-' ? await readAll(io) : given;
  const token = text.trim().replace(/^Bearer /i, '');
  const description = describeToken(token, { now: io.now(), showPatient: values['show-patient'] });
  if (!description.ok) {
    io.stderr.write(`hmcp token inspect: ${description.reason}\n`);
    return EXIT.unreadable;
  }
  io.stdout.write(description.text);
  return description.unusable ? EXIT.notice : EXIT.ok;
}

async function readAll(io: CommandIo): Promise<string> {
  let text = '';
  for await (const chunk of io.stdin) {
    text += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('latin1');
    if (text.length > MOST_CHARACTERS) break;
  }
  return text;
}
