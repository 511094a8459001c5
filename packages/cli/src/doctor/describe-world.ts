import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { EXIT } from '../command.js';
import { CommandFailure, readWorld } from '../developer.js';
import type { WorldFacts } from '../world-facts.js';
import { MANAGER } from '../world-manager.js';
import { DeploymentDescription } from './description.js';
import { publicPart } from './keys.js';

/** As much of the configuration of a party as is compared. */
const PartyTrust = z.looseObject({
  issuer: z.string(),
  fhirServer: z.string(),
  managers: z.array(z.looseObject({})).default([]),
});
const ManagerTrust = z.looseObject({
  publicUrl: z.url(),
  issuer: z.string(),
  fhirServer: z.string(),
  trustDomain: z.string(),
  client: z.looseObject({ clientId: z.string() }),
});
const SealKeys = z.looseObject({ keys: z.array(z.looseObject({ kty: z.string() })) });

/**
 * The development world on a state folder, described by what "hmcp dev" gave each process: its configuration there.
 * @throws {CommandFailure} when none was started there
 */
export async function describeWorld(state: string): Promise<DeploymentDescription> {
  const facts: WorldFacts = await readWorld(state);
  const { issuer, fhirServer, manager } = facts;
  const agents = facts.parties.filter(
    ({ name, resource }) => resource !== undefined && resource !== fhirServer && name !== MANAGER,
  );
  const servers = agents.map(async ({ name, resource, childOf }) => {
    // One whose configuration is missing is told of as a missing file.
    const own = PartyTrust.safeParse(await jsonIn(join(state, 'config', `${name}.json`))).data;
    return {
      name,
      resource,
      effects: name === 'orders', // the one agent of the clinic that signs anything
      issuers: [{ issuer: own?.issuer ?? issuer, fhirServer: own?.fhirServer ?? fhirServer }],
      managers: own?.managers ?? [manager.trusted],
      audit: join(state, 'audit', `${name}.jsonl`),
      stdio: childOf !== undefined,
    };
  });
  const described = DeploymentDescription.safeParse({
    nodeEnv: 'development',
    servers: await Promise.all(servers),
    stores: [manager.store],
    secrets: await secretsOf(state, facts),
    managers: await managersOf(state, manager),
  });
  if (described.success) return described.data;
  throw new CommandFailure(
    EXIT.unreadable,
    `the world on the state folder ${state} cannot be read; start it again with "hmcp dev"`,
  );
}

/** Every file that must be there, and whatever else is in the folders of keys and configurations. */
async function secretsOf(state: string, facts: WorldFacts): Promise<readonly string[]> {
  const { client, signingKeys, manager, parties, fhirServer } = facts;
  const withKey = parties.filter(
    ({ name, resource }) => name === 'portal' || (resource !== undefined && resource !== fhirServer),
  );
  const files = new Set([
    join(state, 'world.json'),
    join(state, 'keys', 'pseudonym.txt'),
    client.keyFile,
    signingKeys,
    manager.sealKeys,
    ...withKey.map(({ name }) => join(state, 'keys', `${name}.jwks.json`)),
    ...parties.map(({ name }) => join(state, 'config', `${name}.json`)),
  ]);
  for (const folder of ['keys', 'config'])
    for (const name of await readdir(join(state, folder)).catch(() => [])) files.add(join(state, folder, name));
  return [...files].filter((file) => file !== undefined);
}

async function managersOf(state: string, { sealKeys }: WorldFacts['manager']): Promise<readonly object[]> {
  const own = ManagerTrust.safeParse(await jsonIn(join(state, 'config', `${MANAGER}.json`))).data;
  if (own === undefined) return [];
  const keys = SealKeys.safeParse(await jsonIn(sealKeys)).data?.keys;
  return [
    {
      issuer: new URL(own.publicUrl).origin,
      resource: own.publicUrl,
      clientId: own.client.clientId,
      trustDomain: own.trustDomain,
      fhirServers: [own.fhirServer],
      tokenIssuers: [own.issuer],
      ...(keys === undefined ? {} : { keys: { keys: publicPart(keys) } }),
    },
  ];
}

async function jsonIn(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch {
    return undefined;
  }
}
