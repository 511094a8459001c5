// Where the person sits: who signs in, which client this program is, and whom it may call. Everything is read from the state folder
// of `hmcp dev`; elsewhere it comes from your own configuration.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Agent, createAgent, type Peer } from '@hmcp/agent';
import { openFileAudit } from '@hmcp/audit';
import { createSealVerifier, createTokenExchanger, smartClient } from '@hmcp/auth';
import { signIn } from '@hmcp/authorization-server';
import type { WorldFacts } from '@hmcp/cli/world';

const state = process.env.HMCP_STATE ?? '.hmcp';
const facts = JSON.parse(await readFile(join(state, 'world.json'), 'utf8')) as WorldFacts;
const { clientId, redirectUri, keyFile } = facts.client;
const [privateKey] = JSON.parse(await readFile(keyFile, 'utf8')).keys;
const client = { clientId, privateKey };

export const smart = smartClient({ fhirServer: facts.fhirServer, redirectUri, ...client });
export const manager = facts.manager.resource;
const audit = await openFileAudit({ file: join(state, 'audit', `desk-${process.pid}.jsonl`), by: clientId });
const pseudonymKey = (await readFile(join(state, 'keys', 'pseudonym.txt'), 'utf8')).trim();

/** An agent of the world, as a peer: its name here, and its resource identifier. */
export function peer(name: string): Peer {
  const resource = facts.parties.find((party) => party.name === name)?.resource;
  if (resource === undefined) throw new Error(`the world has no agent "${name}"`);
  return { name, resource, kind: 'hmcp' };
}

/** This program as a caller of `peers`, and of nobody else. `await using` closes it, and its audit log, also when something is thrown. */
export function deskOf(...peers: Peer[]): Agent {
  const tokens = createTokenExchanger({ issuer: facts.issuer, client });
  const seals = createSealVerifier({ managers: [facts.manager.trusted] }); // whose seals are believed
  const desk = createAgent({ name: 'desk', clientId, peers, tokens, seals, audit, pseudonymKey });
  return Object.assign(desk, { [Symbol.asyncDispose]: () => desk.close().finally(() => audit.close()) });
}

/** Stands for a person at a browser: signs in, and picks a patient by the place in the list. */
export function openBrowser(url: string, patient = 0): Promise<string> {
  const [account] = facts.accounts;
  if (account === undefined) throw new Error('the world has no account');
  return signIn({ url, username: account.username, password: account.password, patient });
}
