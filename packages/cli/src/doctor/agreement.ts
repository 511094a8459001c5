import { SEAL_ALGORITHMS } from '@hmcp/auth';
import { meaningOf } from '@hmcp/core';
import type { DeploymentDescription, DescribedManager, DescribedServer } from './description.js';
import { type Finding, failure, ok } from './finding.js';
import { judgeKeys, thumbprintsOf } from './keys.js';
import { judgeSameKeys } from './trust.js';

const TEXTS = ['issuer', 'resource', 'clientId', 'trustDomain'] as const;

/** What comes of a member that is not the manager's. */
function consequence(name: string): string {
  if (name === 'resource') return 'no session is opened or renewed by way of it';
  if (name === 'clientId') return 'its messages of a switch are refused';
  return `its seals are refused, 40903: ${meaningOf(40903, 'seal').says}`;
}

/** One server's entry for a manager. */
interface Entry {
  readonly server: DescribedServer;
  readonly manager: DescribedManager;
}

/**
 * Compares what servers say of one context manager: with that manager where it is described itself, else with each other. Who
 * differs refuses every seal of that manager, or opens none.
 * @see protocol sections 1 and 2.3
 */
export async function judgeAgreement({ servers, managers }: DeploymentDescription): Promise<readonly Finding[]> {
  const entries = servers.flatMap((server) => server.managers.map((manager) => ({ server, manager })));
  const findings: Finding[] = [];
  for (const [at, entry] of entries.entries()) {
    const self = managers.find((one) => isSame(one, entry.manager));
    if (self !== undefined) {
      findings.push(...(await withItself(entry, self)));
      continue;
    }
    // The first that described it stands for all; which of two is right nobody here can know.
    const first = entries.slice(0, at).find(({ manager }) => isSame(manager, entry.manager));
    if (first !== undefined) findings.push(...(await withAnother(first, entry)));
  }
  return findings;
}

/** One manager, whose name or address may have been written wrongly. */
function isSame(one: DescribedManager, other: DescribedManager): boolean {
  return one.issuer === other.issuer || one.resource === other.resource;
}

async function withItself({ server, manager }: Entry, self: DescribedManager): Promise<readonly Finding[]> {
  const about = server.name;
  const different: string[] = TEXTS.filter((name) => manager[name] !== self[name]);
  const opened = self.fhirServers;
  const lacking = opened.some((base) => serves(server, base) && !manager.fhirServers.includes(base));
  if (lacking || manager.fhirServers.some((base) => !opened.includes(base))) different.push('fhirServers');
  const findings = different.map((name) =>
    failure(
      'trust',
      about,
      `its manager ${manager.issuer} is not described as that manager is: another "${name}" (${consequence(name)})`,
      `write "${name}" in \`managers\` of ${about} as the manager has it`,
    ),
  );
  const [described, own] = [await keysOf(manager), await keysOf(self)];
  // Without a usable key that is the fault, and told where they are asked for.
  const keys = described?.size && own && judgeSameKeys(about, described, own, `${manager.issuer} signs with`);
  if (keys && keys.level !== 'ok') return [...findings, keys];
  if (findings.length > 0) return findings;
  return [ok('trust', about, `its description of ${manager.issuer} is as that manager is configured`)];
}

async function withAnother(first: Entry, second: Entry): Promise<readonly Finding[]> {
  const different: string[] = TEXTS.filter((name) => first.manager[name] !== second.manager[name]);
  if (apart(first, second) || apart(second, first)) different.push('fhirServers');
  if (await otherKeys(first.manager, second.manager)) different.push('keys');
  const about = `${first.server.name}, ${second.server.name}`;
  return different.map((name) =>
    failure(
      'trust',
      about,
      `they describe the manager ${first.manager.issuer} with different "${name}": at one of them ${consequence(name)}`,
      `write "${name}" in \`managers\` of both as the manager has it`,
    ),
  );
}

/** A base that only one of two names. A server of other patients may leave it out, if who names it has patients of it. */
function apart(naming: Entry, other: Entry): boolean {
  return naming.manager.fhirServers.some(
    (base) => !other.manager.fhirServers.includes(base) && (serves(other.server, base) || !serves(naming.server, base)),
  );
}

function serves({ issuers }: DescribedServer, base: string): boolean {
  return issuers.some(({ fhirServer }) => fhirServer === base);
}

/** Where one names an address of the keys and the other holds them, asking the manager compares them. */
async function otherKeys(first: DescribedManager, second: DescribedManager): Promise<boolean> {
  if (first.jwksUri !== undefined && second.jwksUri !== undefined) return first.jwksUri !== second.jwksUri;
  const [a, b] = [await keysOf(first), await keysOf(second)];
  return a !== undefined && b !== undefined && (a.size !== b.size || [...a].some((key) => !b.has(key)));
}

async function keysOf({ keys }: DescribedManager): Promise<ReadonlySet<string> | undefined> {
  const verdict = keys && (await judgeKeys(keys, SEAL_ALGORITHMS));
  return verdict && thumbprintsOf(verdict.usable);
}
