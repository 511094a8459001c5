import { readFile } from 'node:fs/promises';
import { type Command, type CommandIo, EXIT, UsageError } from './command.js';

interface Entry {
  /** What `hmcp --help` says of it, in a line. */
  readonly says: string;
  /** Loaded when it is called, so that `hmcp --help` and small commands start at once. */
  readonly load: () => Promise<Command>;
}

/** The command table; a new command is a file and a line here. */
const COMMANDS: Readonly<Record<string, Entry>> = {
  dev: { says: 'start the development world', load: async () => (await import('./dev.js')).devCommand },
  call: { says: 'make one call in it', load: async () => (await import('./call.js')).callCommand },
  patients: { says: 'whom one can pick in it', load: async () => (await import('./patients.js')).patientsCommand },
  context: { says: 'look at sessions, or switch a patient', load: async () => (await import('./context.js')).contextCommand },
  explain: {
    says: 'what a code means, or what happened to an intent',
    load: async () => (await import('./explain.js')).explainCommand,
  },
  doctor: {
    says: 'examine a deployment, and say what to change',
    load: async () => (await import('./doctor.js')).doctorCommand,
  },
  audit: { says: 'verify audit logs', load: async () => (await import('./audit.js')).auditCommand },
  token: { says: 'look into an access token', load: async () => (await import('./token.js')).tokenCommand },
};

/**
 * Runs `hmcp` with the arguments after its name. Never throws: whatever fails is a sentence on stderr and an exit code.
 * @returns one of {@link EXIT}, or 70 (`EX_SOFTWARE`) when the program itself failed
 */
export async function hmcp(argv: string[], io: CommandIo): Promise<number> {
  const [name, ...rest] = argv;
  if (name === '--version' || name === '-v') {
    io.stdout.write(`${await version()}\n`);
    return EXIT.ok;
  }
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    (name === undefined ? io.stderr : io.stdout).write(help());
    return name === undefined ? EXIT.usage : EXIT.ok;
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (entry === undefined) {
    io.stderr.write(`hmcp: there is no command of this name; the commands are ${Object.keys(COMMANDS).join(', ')}\n`);
    return EXIT.usage;
  }
  try {
    const command = await entry.load();
    return await command(rest, io);
  } catch (error) {
    return report(`hmcp ${name}`, error, io);
  }
}

function report(command: string, error: unknown, io: CommandIo): number {
  const { code } = (error ?? {}) as { code?: unknown };
  if (error instanceof UsageError) {
    io.stderr.write(`${command}: ${error.message}; try ${command} --help\n`);
    return EXIT.usage;
  }
  if (typeof code === 'string' && code.startsWith('ERR_PARSE_ARGS')) {
    // Not the parser's own text: it repeats the argument, which may be a token.
    const what = code === 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE' ? 'an option lacks its value' : 'an argument is not understood';
    io.stderr.write(`${command}: ${what}; try ${command} --help\n`);
    return EXIT.usage;
  }
  io.stderr.write(
    `${command}: failed (${error instanceof Error ? error.name : typeof error}${typeof code === 'string' ? `, ${code}` : ''})\n`,
  );
  return 70;
}

function help(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const commands = Object.entries(COMMANDS).map(([name, { says }]) => `  hmcp ${name.padEnd(width)}  ${says}`);
  return `hmcp: patient context, checked at every hop of a chain of agents

${commands.join('\n')}
  hmcp COMMAND --help   arguments and exit codes of a command
  hmcp --version

Exit codes: 0 done · 1 done, with something to look at (a warning, a refusal, nothing found) · 2 evidence of tampering ·
3 the input cannot be read · 64 the command line is not understood · 70 the program itself failed
`;
}

async function version(): Promise<string> {
  const manifest = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  return manifest.version;
}
