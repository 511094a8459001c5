import { parseArgs } from 'node:util';
import { openSession } from '@hmcp/agent';
import { protectedResourceMetadataUrl } from '@hmcp/auth';
import { coversAll, definePatientTool, explain, HmcpError, parseScopes } from '@hmcp/core';
import * as z from 'zod';
import { printable, shown } from './answer-text.js';
import { type CommandIo, EXIT, stateFolder, UsageError } from './command.js';
import {
  accountNamed,
  CommandFailure,
  type DeveloperAccount,
  openDeveloper,
  placeInList,
  readWorld,
  tellFailure,
} from './developer.js';
import type { WorldFacts } from './world.js';

const HELP = `hmcp call AGENT TOOL [ARGUMENTS] [--state DIR] [--account NAME] [--pick N] [--json]

Makes one call in a running "hmcp dev" world, as a person would: signs in, picks a patient, exchanges the token for the agent,
calls the tool in that patient's context, checks the answer, and prints it: JSON, or the text of a tool that answers with text.

  AGENT         one that listens; a child agent of "hmcp dev" is reached only by the program that starts it
  ARGUMENTS     a JSON object (default {})
  --state DIR   the state folder of the world (default: HMCP_STATE, else .hmcp)
  --account     who signs in (default: the first account)
  --pick N      which patient of the picker's list, from 1 (default 1); "hmcp patients" shows the list
  --json        print one line of JSON

Exit codes: 0 served · 1 refused, not answered, or answered with an error (the reason is on stderr) · 3 no world runs on that
state folder · 64 the command line is not understood
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
  const pick = placeInList('pick', values.pick);
  const state = stateFolder(values.state, io);
  let facts: WorldFacts;
  try {
    facts = await readWorld(state);
  } catch (error) {
    return tellFailure('hmcp call', error, { issuer: '', state }, io);
  }
  const agents = agentsOf(facts);
  const { resource, childOf } = agents.find(({ name }) => name === agentName) ?? {};
  if (childOf !== undefined)
    throw new UsageError(
      'that agent is a child: it listens nowhere, and only the program that starts it speaks to it, over its pipes',
    );
  if (resource === undefined)
    throw new UsageError(`the agents are ${agents.flatMap((one) => (one.childOf === undefined ? [one.name] : [])).join(', ')}`);
  const account = accountNamed(facts, values.account);

  const intent = crypto.randomUUID();
  const call: Call = { facts, account, pick, resource, agentName, tool, args, state, intent };
  try {
    const result = await callOnce(call);
    io.stdout.write(
      values.json
        ? `${printable(JSON.stringify({ type: 'call', agent: agentName, tool, intent, verdict: 'served', result }))}\n`
        : `${shown(result)}\n`,
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
    return tellFailure('hmcp call', error, { issuer: facts.issuer, state }, io);
  }
}

interface Call {
  readonly facts: WorldFacts;
  readonly account: DeveloperAccount;
  readonly pick: number;
  readonly resource: string;
  readonly agentName: string;
  readonly tool: string;
  readonly args: Record<string, unknown>;
  readonly state: string;
  readonly intent: string;
}

/** The call itself; the person behind it has signed in and picked when it is sent. */
async function callOnce(call: Call): Promise<unknown> {
  const { facts, account, pick, resource, agentName, tool, args, state, intent } = call;
  const developer = await openDeveloper(facts, state, [{ name: agentName, resource, kind: 'hmcp' }]);
  try {
    const grant = await developer.launch(account, pick);
    try {
      const session = await openSession({ agent: developer.agent, grant, id: () => intent });
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
        throw new CommandFailure(EXIT.notice, `${error.message}: its arguments or its handler; see "${look}"`);
      });
    } finally {
      await grant.revoke().catch(() => undefined);
    }
  } finally {
    await developer.close();
  }
}

/** The scopes the agent says it supports, as far as the grant covers them. */
async function scopeFor(resource: string, granted: string): Promise<string> {
  const own = parseScopes(granted);
  const { scopes_supported: supported = [] } = await metadataOf(resource);
  return supported.filter((scope) => coversAll(own, parseScopes(scope))).join(' ');
}

const Metadata = z.looseObject({ resource: z.string(), scopes_supported: z.array(z.string()).optional() });

/** What a server publishes of itself. @throws {CommandFailure} when nothing of that server answers there */
export async function metadataOf(resource: string): Promise<z.infer<typeof Metadata>> {
  const address = protectedResourceMetadataUrl(resource);
  const fails = (what: string) =>
    new CommandFailure(EXIT.notice, `the agent's server does not answer at ${address}: ${what}; see where it listens`);
  const response = await fetch(address, { signal: AbortSignal.timeout(5000), redirect: 'error' }).catch(() => {
    throw fails('no connection');
  });
  const text = await response.text().catch(() => '');
  if (!response.ok) throw fails(`${response.status}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw fails('what answers there is no MCP server');
  }
  const { data } = Metadata.safeParse(value);
  if (data === undefined) throw fails('what answers there is no MCP server');
  if (data.resource !== resource) throw fails('another server does');
  return data;
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

/** The parties that serve tools in context. */
function agentsOf({ parties, fhirServer, manager }: WorldFacts): WorldFacts['parties'] {
  return parties.filter(({ resource }) => resource !== undefined && resource !== fhirServer && resource !== manager.resource);
}
