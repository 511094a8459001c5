import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { plainText } from '@hmcp/audit';
import { createDirectory, type Person, parseConfig } from '@hmcp/authorization-server';
import { printable } from './answer-text.js';
import { type CommandIo, EXIT, stateFolder, UsageError } from './command.js';
import { accountNamed, CommandFailure, readWorld, tellFailure } from './developer.js';

const HELP = `hmcp patients [--account NAME] [--state DIR] [--json]

Whom an account of a development world may open, in the order of the patient picker: the place ("hmcp call" picks by it),
the FHIR id, date of birth and name. Read from the state folder; nothing needs to run. The picker shows the first of a long list, and
has a search for the others.

  --account     whose patients (default: the first account)
  --state DIR   the state folder of the world (default: HMCP_STATE, else .hmcp)
  --json        print one line of JSON: { "type": "patients", "account", "patients": [{ "pick", "id", "name", "birthDate" }] }

Exit codes: 0 listed · 1 the account may open nobody · 3 no world has been started on that state folder · 64 the command line is
not understood
`;

/** `hmcp patients`: whom an account may pick. */
export async function patientsCommand(argv: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      state: { type: 'string' },
      account: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    io.stdout.write(HELP);
    return EXIT.ok;
  }
  if (positionals.length > 0) throw new UsageError('it takes options only');
  const state = stateFolder(values.state, io);
  try {
    const { username } = accountNamed(await readWorld(state), values.account);
    const patients = (await patientsOf(state, username)).map(({ id, name, birthDate }, at) => ({
      pick: at + 1,
      id,
      name,
      birthDate,
    }));
    if (values.json) io.stdout.write(`${printable(JSON.stringify({ type: 'patients', account: username, patients }))}\n`);
    else for (const row of patients) io.stdout.write(line(row));
    if (patients.length > 0) return EXIT.ok;
    io.stderr.write(`hmcp patients: ${username} may open nobody\n`);
    return EXIT.notice;
  } catch (error) {
    return tellFailure('hmcp patients', error, { issuer: '', state }, io);
  }
}

function line({ pick, id, name, birthDate }: Pick<Person, 'id' | 'name' | 'birthDate'> & { pick: number }): string {
  return `${String(pick).padStart(4)}  ${plainText(id)}  ${plainText(birthDate).padEnd(10)}  ${plainText(name)}\n`;
}

/** By the directory that the picker of the world asks. */
async function patientsOf(state: string, username: string): Promise<readonly Person[]> {
  try {
    const config: unknown = JSON.parse(await readFile(join(state, 'config', 'authorization-server.json'), 'utf8'));
    return createDirectory(parseConfig(config)).patientsOf(username);
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError)
      throw new CommandFailure(EXIT.unreadable, `the state folder ${state} is of another version; start "hmcp dev" on it again`);
    throw error;
  }
}
