import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Agent, createAgent, type Peer } from '@hmcp/agent';
import { openFileAudit } from '@hmcp/audit';
import { AuthorityUnavailable, createSealVerifier, createTokenExchanger, type Grant, SmartError, smartClient } from '@hmcp/auth';
import { signIn } from '@hmcp/authorization-server';
import type { JWK } from 'jose';
import * as z from 'zod';
import { type CommandIo, EXIT, UsageError } from './command.js';
import type { WorldFacts } from './world.js';

/** Somebody who can sign in. */
export type DeveloperAccount = WorldFacts['accounts'][number];

/** Something came to no end for a reason that is no refusal: a sentence and the exit code. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  readonly exit: number;

  constructor(exit: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exit = exit;
  }
}

/** The development client at work in a running world. */
export interface Developer {
  readonly agent: Agent;
  /** Signs in and picks, as a person does at the pages. @param pick place in the picker's list, from 0 */
  launch(account: DeveloperAccount, pick: number): Promise<Grant>;
  close(): Promise<void>;
}

/** Opens the development client: its key, its audit log, and an agent that may call the given peers. @throws {CommandFailure} */
export async function openDeveloper(facts: WorldFacts, state: string, peers: readonly Peer[]): Promise<Developer> {
  const { clientId, redirectUri, scope, keyFile } = facts.client;
  const [privateKey] = (JSON.parse(await readFile(keyFile, 'utf8')) as { keys: (JWK & { kid: string; alg: string })[] }).keys;
  if (privateKey === undefined) throw new CommandFailure(EXIT.unreadable, 'the key file of the development client is empty');
  const audit = await openFileAudit({ file: join(state, 'audit', `${clientId}-${process.pid}.jsonl`), by: clientId });
  const agent = createAgent({
    name: clientId,
    clientId,
    peers,
    tokens: createTokenExchanger({ issuer: facts.issuer, client: { clientId, privateKey } }),
    seals: createSealVerifier({ managers: [facts.manager.trusted] }),
    audit,
    pseudonymKey: (await readFile(join(state, 'keys', 'pseudonym.txt'), 'utf8')).trim(),
  });
  const smart = smartClient({ fhirServer: facts.fhirServer, clientId, redirectUri, privateKey });
  return {
    agent,
    launch: ({ username, password }, patient) =>
      smart.authorize({
        launch: 'patient',
        scope,
        open: (url) =>
          signIn({ url, username, password, patient }).catch((error: unknown) => {
            if (!(error instanceof Error) || error.name !== 'Error')
              throw new AuthorityUnavailable('the pages could not be reached');
            const see = /list of patients/.test(error.message) ? '; "hmcp patients" shows it' : '';
            throw new CommandFailure(EXIT.notice, `the launch came to no end: ${error.message}${see}`);
          }),
      }),
    async close() {
      await agent.close();
      await audit.close();
    },
  };
}

/** As much of {@link WorldFacts} as a command needs; the file may be of another version, or of another making. */
const Facts = z.looseObject({
  issuer: z.url(),
  fhirServer: z.url(),
  parties: z.array(z.looseObject({ name: z.string(), url: z.url(), resource: z.url().optional() })),
  accounts: z.array(z.looseObject({ username: z.string(), password: z.string() })).min(1),
  client: z.looseObject({ clientId: z.string(), redirectUri: z.url(), scope: z.string(), keyFile: z.string() }),
  manager: z.looseObject({
    resource: z.url(),
    participants: z.array(z.string()),
    store: z.string(),
    trusted: z.looseObject({ issuer: z.url() }),
  }),
});

/** The facts of the world that was last started on a state folder. @throws {CommandFailure} when none was */
export async function readWorld(state: string): Promise<WorldFacts> {
  try {
    const facts: unknown = JSON.parse(await readFile(join(state, 'world.json'), 'utf8'));
    if (Facts.safeParse(facts).success) return facts as WorldFacts;
  } catch {
    // said below
  }
  const sentence = `no world has been started on the state folder ${state}; start one with "hmcp dev"`;
  throw new CommandFailure(EXIT.unreadable, sentence);
}

/** The account of this user name, the first one when none is given. @throws {UsageError} */
export function accountNamed(facts: WorldFacts, username: string | undefined): DeveloperAccount {
  const found = username === undefined ? facts.accounts[0] : facts.accounts.find((one) => one.username === username);
  if (found === undefined) throw new UsageError(`the accounts are ${facts.accounts.map((one) => one.username).join(', ')}`);
  return found;
}

/** A place in the picker's list, from 1, as typed. @returns the place from 0 @throws {UsageError} */
export function placeInList(option: string, typed: string): number {
  const place = Number(typed);
  if (!Number.isInteger(place) || place < 1) throw new UsageError(`"--${option}" takes a place in the list, from 1`);
  return place - 1;
}

/** Says why a command came to no end, and with which code it exits. Rethrows what it does not know. */
export function tellFailure(command: string, error: unknown, world: Pick<WorldFacts, 'issuer' | 'state'>, io: CommandIo): number {
  const { code } = (error ?? {}) as { code?: unknown };
  if (error instanceof CommandFailure) {
    io.stderr.write(`${command}: ${error.message}\n`);
    return error.exit;
  }
  if (error instanceof AuthorityUnavailable || (error instanceof SmartError && error.code === 'discovery_failed')) {
    io.stderr.write(
      `${command}: nothing that belongs to this world answers at ${world.issuer}; start it with "hmcp dev --state ${world.state}"\n`,
    );
    return EXIT.unreadable;
  }
  if (error instanceof SmartError) {
    io.stderr.write(`${command}: the authorization server did not grant the launch (${error.oauth ?? error.code})\n`);
    return EXIT.notice;
  }
  if (code === 'ENOENT' || code === 'EACCES') {
    io.stderr.write(`${command}: a file of the state folder ${world.state} cannot be read or written (${code})\n`);
    return EXIT.unreadable;
  }
  throw error;
}
