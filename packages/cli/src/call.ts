import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createAgent, openSession } from '@hmcp/agent';
import { openFileAudit } from '@hmcp/audit';
import {
  AuthorityUnavailable,
  createTokenExchanger,
  type Grant,
  protectedResourceMetadataUrl,
  SmartError,
  smartClient,
} from '@hmcp/auth';
import { signIn } from '@hmcp/authorization-server';
import { coversAll, definePatientTool, explain, HmcpError, parseScopes } from '@hmcp/core';
import type { JWK } from 'jose';
import * as z from 'zod';
import { type CommandIo, EXIT, stateFolder, UsageError } from './command.js';
import type { WorldFacts } from './world.js';

const HELP = `hmcp call AGENT TOOL [ARGUMENTS] [--state DIR] [--account NAME] [--pick N] [--json]

Makes one call in a running "hmcp dev" world, as a person would: signs in, picks a patient, exchanges the token for the agent,
calls the tool in that patient's context, and checks the answer.

  ARGUMENTS     a JSON object (default {})
  --state DIR   the state folder of the world (default: HMCP_STATE, else .hmcp)
  --account     who signs in (default: the first account)
  --pick N      which patient of the picker's list, from 1 (default 1)
  --json        print one line of JSON

Exit codes: 0 served · 1 refused, or answered with an error (the reason is on stderr) · 3 no world runs on that state folder ·
64 the command line is not understood
`;

/** `hmcp call`: one call in context, from sign-in to checked answer. */
export async function callCommand(argv: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      state: { type: 'string' },
      account: { type: 'string' },
      pick: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    io.stdout.write(HELP);
    return EXIT.ok;
  }
  const [agentName, tool, given = '{}', ...more] = positionals;
  if (agentName === undefined || tool === undefined || more.length > 0)
    throw new UsageError('name an agent, a tool and at most one object of arguments');
  const args = readArguments(given);
  const pick = Number(values.pick);
  if (!Number.isInteger(pick) || pick < 1) throw new UsageError('"--pick" takes a place in the list, from 1');

  const state = stateFolder(values.state, io);
  const facts = await readWorld(state);
  if (facts === undefined) {
    io.stderr.write(`hmcp call: no world has been started on the state folder ${state}; start one with "hmcp dev"\n`);
    return EXIT.unreadable;
  }
  const agents = facts.parties.filter(isAgent);
  const resource = agents.find(({ name }) => name === agentName)?.resource;
  if (resource === undefined) throw new UsageError(`the agents are ${agents.map(({ name }) => name).join(', ')}`);
  const account =
    values.account === undefined ? facts.accounts[0] : facts.accounts.find(({ username }) => username === values.account);
  if (account === undefined)
    throw new UsageError(`the accounts are ${facts.accounts.map(({ username }) => username).join(', ')}`);

  const intent = crypto.randomUUID();
  const call: Call = { facts, account, pick: pick - 1, resource, agentName, tool, args, state, intent };
  try {
    const result = await callOnce(call);
    io.stdout.write(
      values.json
        ? `${JSON.stringify({ type: 'call', agent: agentName, tool, intent, verdict: 'served', result })}\n`
        : `${JSON.stringify(result, null, 2)}\n`,
    );
    return EXIT.ok;
  } catch (error) {
    const refusal = HmcpError.from(error);
    if (refusal) {
      const { code, check, data } = refusal;
      if (values.json)
        io.stdout.write(`${JSON.stringify({ type: 'refused', agent: agentName, tool, intent, code, check, hop: data.hop })}\n`);
      io.stderr.write(`${explain(refusal)}\n`);
      return EXIT.notice;
    }
    return tellFailure(error, call, io);
  }
}

interface Call {
  readonly facts: WorldFacts;
  readonly account: WorldFacts['accounts'][number];
  readonly pick: number;
  readonly resource: string;
  readonly agentName: string;
  readonly tool: string;
  readonly args: Record<string, unknown>;
  readonly state: string;
  readonly intent: string;
}

/** A call that came to no answer for a reason that is no refusal: a sentence and the exit code. */
class CallFailure extends Error {
  readonly exit: number;

  constructor(exit: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exit = exit;
  }
}

function tellFailure(error: unknown, { facts, state }: Call, io: CommandIo): number {
  const { code } = (error ?? {}) as { code?: unknown };
  if (error instanceof CallFailure) {
    io.stderr.write(`hmcp call: ${error.message}\n`);
    return error.exit;
  }
  if (error instanceof AuthorityUnavailable || (error instanceof SmartError && error.code === 'discovery_failed')) {
    io.stderr.write(
      `hmcp call: nothing that belongs to this world answers at ${facts.issuer}; start it with "hmcp dev --state ${state}"\n`,
    );
    return EXIT.unreadable;
  }
  if (error instanceof SmartError) {
    io.stderr.write(`hmcp call: the authorization server did not grant the launch (${error.oauth ?? error.code})\n`);
    return EXIT.notice;
  }
  if (code === 'ENOENT' || code === 'EACCES') {
    io.stderr.write(`hmcp call: a file of the state folder ${state} cannot be read or written (${code})\n`);
    return EXIT.unreadable;
  }
  throw error;
}

/** The call itself; the person behind it has signed in and picked when it is sent. */
async function callOnce(call: Call): Promise<unknown> {
  const { facts, resource, agentName, tool, args, state, intent } = call;
  const { clientId, keyFile } = facts.client;
  const [privateKey] = (JSON.parse(await readFile(keyFile, 'utf8')) as { keys: (JWK & { kid: string; alg: string })[] }).keys;
  if (privateKey === undefined) throw new CallFailure(EXIT.unreadable, 'the key file of the development client is empty');
  const grant = await launch(call, privateKey);
  const audit = await openFileAudit({ file: join(state, 'audit', `${clientId}-${process.pid}.jsonl`), by: clientId });
  const agent = createAgent({
    name: clientId,
    clientId,
    peers: [{ name: agentName, resource, kind: 'hmcp' }],
    tokens: createTokenExchanger({ issuer: facts.issuer, client: { clientId, privateKey } }),
    audit,
    pseudonymKey: (await readFile(join(state, 'keys', 'pseudonym.txt'), 'utf8')).trim(),
  });
  try {
    const session = await openSession({ agent, grant, id: () => intent });
    const contract = definePatientTool({
      name: tool,
      description: tool,
      scope: await scopeFor(resource, grant.scope),
      input: z.looseObject({}),
      output: z.unknown(),
    });
    return await session.call(agentName, contract, args).catch((error: unknown) => {
      // The agent's own sentences; whatever else there is, is no refusal either.
      if (HmcpError.from(error) || !(error instanceof Error) || error.name !== 'Error') throw error;
      const look = `hmcp explain ${intent} --state ${state}`;
      throw new CallFailure(EXIT.notice, `${error.message}: its arguments or its handler; see "${look}"`);
    });
  } finally {
    await agent.close();
    await audit.close();
    await grant.revoke().catch(() => undefined);
  }
}

/** Signs in and picks, as a person does at the pages. */
async function launch({ facts, account, pick }: Call, privateKey: JWK & { kid: string; alg: string }): Promise<Grant> {
  const { clientId, redirectUri, scope } = facts.client;
  const smart = smartClient({ fhirServer: facts.fhirServer, clientId, redirectUri, privateKey });
  return smart.authorize({
    launch: 'patient',
    scope,
    open: (url) =>
      signIn({ url, username: account.username, password: account.password, patient: pick }).catch((error: unknown) => {
        if (!(error instanceof Error) || error.name !== 'Error') throw new AuthorityUnavailable('the pages could not be reached');
        throw new CallFailure(EXIT.notice, `the launch came to no end: ${error.message}`);
      }),
  });
}

/** The scopes the agent says it supports, as far as the grant covers them. */
async function scopeFor(resource: string, granted: string): Promise<string> {
  const response = await fetch(protectedResourceMetadataUrl(resource), { signal: AbortSignal.timeout(5000) });
  const { scopes_supported: supported = [] } = (await response.json()) as { scopes_supported?: string[] };
  const own = parseScopes(granted);
  return supported.filter((scope) => coversAll(own, parseScopes(scope))).join(' ');
}

function readArguments(given: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(given);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // said below
  }
  throw new UsageError('the arguments are no JSON object');
}

/** As much of {@link WorldFacts} as a call needs; the file may be of another version, or of another making. */
const Facts = z.looseObject({
  issuer: z.url(),
  fhirServer: z.url(),
  parties: z.array(z.looseObject({ name: z.string(), url: z.url(), resource: z.url().optional() })),
  accounts: z.array(z.looseObject({ username: z.string(), password: z.string() })).min(1),
  client: z.looseObject({ clientId: z.string(), redirectUri: z.url(), scope: z.string(), keyFile: z.string() }),
});

async function readWorld(state: string): Promise<WorldFacts | undefined> {
  try {
    const facts: unknown = JSON.parse(await readFile(join(state, 'world.json'), 'utf8'));
    return Facts.safeParse(facts).success ? (facts as WorldFacts) : undefined;
  } catch {
    return undefined;
  }
}

function isAgent({ name, resource }: { name: string; resource?: string | undefined }): boolean {
  return resource !== undefined && name !== 'fhir';
}
