import { parseArgs } from 'node:util';
import { plainText } from '@hmcp/audit';
import { type CommandIo, EXIT, stateFolder, UsageError } from './command.js';
import { counted } from './counted.js';
import { CommandFailure } from './developer.js';
import { describeWorld } from './doctor/describe-world.js';
import { type DeploymentDescription, readDescription } from './doctor/description.js';
import { examine } from './doctor/examine.js';
import type { Finding } from './doctor/finding.js';
import { certificateAt, type Probe } from './doctor/probe.js';

const HELP = `hmcp doctor [DESCRIPTION] [--json] [--state FOLDER]

Examines a deployment and says what to change: trust lists, keys, clocks, TLS, modes, stores, files, NODE_ENV. It changes
nothing; beside audit logs and stores it writes a small file, syncs it, and removes it again. Run it on the machine, and as the
user, of the servers. Without DESCRIPTION it examines the development world on a state folder, by the configurations there.

What it says "ok" to it has looked at, or asked: issuers, context managers, FHIR servers and servers for what they publish,
files for their modes. A "note" is sound as described, and was not asked: a server tells its mode to callers with a token only,
and its trust lists to nobody. It reads the description, not a program: it cannot see what a running server was started with.
A server, manager or FHIR server that does not answer is a warning, one that answers otherwise a failure; so is an issuer, or
a "jwksUri", that does not answer. "Others" of a file are its group and everybody else; on Windows no modes are looked at.

  DESCRIPTION      a JSON file that says how the servers are deployed; it holds no secret:
                   {
                     "nodeEnv": "production",          (default: NODE_ENV of this command)
                     "servers": [{
                       "name": "labs",
                       "resource": "https://labs.example/mcp",
                       "stdio": false,                 (true: served over pipes, nobody listens at "resource")
                       "context": "session",           ("token" (default), "envelope" or "session")
                       "effects": true,                (declares operations with effects; default false)
                       "issuers": [{ "issuer": …, "fhirServer": …, "tenants": […]?, "jwks": {…}? }],
                       "managers": [{ "issuer", "resource", "clientId", "jwksUri" or "keys", "trustDomain",
                                      "fhirServers", "tokenIssuers", "tenants"? }],
                       "algorithms": ["ES256"],        (optional, as of createTokenVerifier)
                       "leewaySeconds": 30,            (optional, the same)
                       "audit": "audit/labs.jsonl"     (optional; from the working directory, as all files)
                     }],
                     "managers": [{ … }],              (optional: each manager as it is configured itself, with the members
                                                       above; what servers say of it is compared with it)
                     "stores": ["manager.sqlite"],     (session stores of context managers)
                     "secrets": ["labs.json"]          (files with a private key, pseudonymKey or tenantKey: only their
                                                       modes are looked at)
                   }
  --json           one JSON object: { "findings": [{ level, area, about, found, change? }], "failures", "warnings", "notes" };
                   level is "ok", "note", "warning" or "failure"
  --state FOLDER   state folder of \`hmcp dev\` (default: HMCP_STATE, else .hmcp)

Exit codes: 0 nothing failed (there may be warnings) · 1 something failed · 3 the description, or the world, cannot be read
· 64 the command line is not understood
`;

/** `hmcp doctor`: examines a deployment and says what to change. @see protocol section 9 */
export async function doctorCommand(
  argv: string[],
  io: CommandIo,
  network: Omit<Probe, 'now'> = {
    fetch: (input, init) => fetch(input, init),
    certificate: (url) => certificateAt(url),
  },
): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      state: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    io.stdout.write(HELP);
    return EXIT.ok;
  }
  const [file] = positionals;
  if (positionals.length > 1) throw new UsageError('name one description');
  if (file !== undefined && values.state !== undefined) throw new UsageError('give a description or "--state", not both');
  const description = await described(file, stateFolder(values.state, io), io);
  if (description === undefined) return EXIT.unreadable;
  const nodeEnv = description.nodeEnv ?? io.env.NODE_ENV;
  const findings = await examine({ ...description, nodeEnv }, { ...network, now: io.now });
  const failures = findings.filter(({ level }) => level === 'failure').length;
  const warnings = findings.filter(({ level }) => level === 'warning').length;
  const notes = findings.filter(({ level }) => level === 'note').length;
  io.stdout.write(
    values.json
      ? `${JSON.stringify({ findings, failures, warnings, notes })}\n`
      : told(findings, { failure: failures, warning: warnings, note: notes }),
  );
  return failures > 0 ? EXIT.notice : EXIT.ok;
}

async function described(file: string | undefined, state: string, io: CommandIo): Promise<DeploymentDescription | undefined> {
  const say = (what: string): undefined => {
    io.stderr.write(`hmcp doctor: ${what}\n`);
    return undefined;
  };
  if (file === undefined) {
    return describeWorld(state).catch((error: unknown) => {
      if (error instanceof CommandFailure) return say(`${error.message}, or name a description (hmcp doctor --help)`);
      throw error;
    });
  }
  const read = await readDescription(file).catch((error: NodeJS.ErrnoException) =>
    say(`the description cannot be read (${error.code ?? 'unknown'})`),
  );
  if (read === undefined || 'description' in read) return read?.description;
  for (const fault of read.unusable) say(plainText(fault));
  return undefined;
}

const MARKS: Readonly<Record<Finding['level'], string>> = {
  ok: 'ok      ',
  note: 'note    ',
  warning: 'WARNING ',
  failure: 'FAILURE ',
};

function told(findings: readonly Finding[], counts: Readonly<Record<'failure' | 'warning' | 'note', number>>): string {
  const lines = findings.map(({ level, area, about, found, change }) => {
    const mend = change === undefined ? '' : `         change: ${plainText(change, 512)}\n`;
    return `${MARKS[level]} ${area.padEnd(11)} ${plainText(about, 512)}: ${plainText(found, 512)}\n${mend}`;
  });
  return `${lines.join('')}\n${counted(findings.length, 'finding')}: ${Object.entries(counts)
    .map(([what, n]) => counted(n, what))
    .join(', ')}\n`;
}
