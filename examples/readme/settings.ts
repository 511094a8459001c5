// settings.ts: what the client must know about the place it runs in, here read from the state folder of `hmcp dev`
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openFileAudit } from '@hmcp/audit';
import { signIn } from '@hmcp/authorization-server';
import type { WorldFacts } from '@hmcp/cli/world';

const state = process.argv[2] ?? '.hmcp';
const facts = JSON.parse(await readFile(join(state, 'world.json'), 'utf8')) as WorldFacts;
const [privateKey] = JSON.parse(await readFile(facts.client.keyFile, 'utf8')).keys;
const [clinician] = facts.accounts;

export const { fhirServer } = facts;
export const { redirectUri } = facts.client;
export const client = { clientId: facts.client.clientId, privateKey };
export const problemsUrl = facts.parties.find(({ name }) => name === 'problems')?.url ?? '';
export const pseudonymKey = (await readFile(join(state, 'keys', 'pseudonym.txt'), 'utf8')).trim();
export const audit = await openFileAudit({ file: join(state, 'audit', `desk-${process.pid}.jsonl`), by: client.clientId });

/** Stands for the person at the browser: signs in, picks the first patient of the list, and comes back with the answer. */
export async function openBrowser(url: string): Promise<string> {
  if (clinician === undefined) throw new Error('the world has no account');
  return signIn({ url, username: clinician.username, password: clinician.password, patient: 0 });
}
