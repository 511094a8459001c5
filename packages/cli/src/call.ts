import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createAgent, openSession } from '@hmcp/agent';
import { openFileAudit } from '@hmcp/audit';
import { createTokenExchanger, protectedResourceMetadataUrl, smartClient } from '@hmcp/auth';
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

Exit codes: 0 served · 1 refused (the reason is on stderr) · 3 no world runs on that state folder · 64 the command line is not
understood
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
    io.stderr.write('hmcp call: no world has been started on this state folder; start one with "hmcp dev"\n');
    return EXIT.unreadable;
  }
  const party = facts.parties.find(({ name, resource }) => name === agentName && resource !== undefined);
  if (party?.resource === undefined)
    throw new UsageError(
      `the agents are ${facts.parties
        .filter(isAgent)
        .map(({ name }) => name)
        .join(', ')}`,
    );
  const account =
    values.account === undefined ? facts.accounts[0] : facts.accounts.find(({ username }) => username === values.account);
  if (account === undefined)
    throw new UsageError(`the accounts are ${facts.accounts.map(({ username }) => username).join(', ')}`);

  try {
    const result = await callOnce({ facts, account, pick: pick - 1, resource: party.resource, agentName, tool, args, state });
    io.stdout.write(
      values.json
        ? `${JSON.stringify({ type: 'call', agent: agentName, tool, verdict: 'served', result })}\n`
        : `${JSON.stringify(result, null, 2)}\n`,
    );
    return EXIT.ok;
  } catch (error) {
    const refusal = HmcpError.from(error);
    if (!refusal) throw error;
    if (values.json)
      io.stdout.write(
        `${JSON.stringify({ type: 'refused', agent: agentName, tool, code: refusal.code, check: refusal.check, hop: refusal.data.hop })}\n`,
      );
    io.stderr.write(`${explain(refusal)}\n`);
    return EXIT.notice;
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
}

async function callOnce({ facts, account, pick, resource, agentName, tool, args, state }: Call): Promise<unknown> {
  const { clientId, redirectUri, scope, keyFile } = facts.client;
  const [privateKey] = (JSON.parse(await readFile(keyFile, 'utf8')) as { keys: (JWK & { kid: string; alg: string })[] }).keys;
  if (privateKey === undefined) throw new UsageError('the key file of the development client is empty');
  const smart = smartClient({ fhirServer: facts.fhirServer, clientId, redirectUri, privateKey });
  const grant = await smart.authorize({
    launch: 'patient',
    scope,
    open: (url) => signIn({ url, username: account.username, password: account.password, patient: pick }),
  });
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
    const session = await openSession({ agent, grant });
    const contract = definePatientTool({
      name: tool,
      description: tool,
      scope: await scopeFor(resource, grant.scope),
      input: z.looseObject({}),
      output: z.unknown(),
    });
    return await session.call(agentName, contract, args);
  } finally {
    await agent.close();
    await audit.close();
    await grant.revoke();
  }
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

async function readWorld(state: string): Promise<WorldFacts | undefined> {
  try {
    return JSON.parse(await readFile(join(state, 'world.json'), 'utf8')) as WorldFacts;
  } catch {
    return undefined;
  }
}

function isAgent({ name, resource }: { name: string; resource?: string | undefined }): boolean {
  return resource !== undefined && name !== 'fhir';
}
