import { AuthorityUnavailable, DiscoveryError, discover, protectedResourceMetadataUrl } from '@hmcp/auth';
import { type ClockReading, judgeClock } from './clock.js';
import type { DeploymentDescription, DescribedManager, DescribedServer } from './description.js';
import { type Finding, note, warning } from './finding.js';
import { type JsonWebKey, judgeKeys } from './keys.js';
import { judgeServer } from './mode.js';
import { type Probe, readJson } from './probe.js';
import { examineAudit, examineStore } from './store.js';
import { judgeAddress, judgeCertificate } from './tls.js';
import { judgeKeySet, judgeMetadata, judgeResource, judgeSealKeys, type MetadataAnswer } from './trust.js';

const TOKEN_ALGORITHMS = ['ES256', 'RS256', 'EdDSA'];
const SEAL_ALGORITHMS = ['ES256', 'EdDSA'];
const LEEWAY_SECONDS = 30;

/** Examines a deployment: asks issuers and managers, looks at files, judges the rest. Changes nothing. */
export async function examine(description: DeploymentDescription, probe: Probe): Promise<readonly Finding[]> {
  const { servers, stores, nodeEnv } = description;
  const production = nodeEnv === 'production';
  const addresses = new Set(servers.flatMap(addressesOf));
  const findings: Finding[] = [environment(nodeEnv, [...addresses])];
  for (const url of addresses) {
    const judged = judgeAddress(url, production);
    if (judged !== undefined) findings.push(judged);
  }
  const origins = new Map([...addresses].map((url) => [new URL(url).origin, new URL(url)]));
  for (const [origin, url] of origins) {
    if (url.protocol === 'https:') findings.push(judgeCertificate(origin, await probe.certificate(url), probe.now()));
  }
  const tokenKeys: JsonWebKey[] = [];
  // Two servers may trust one issuer by other keys or algorithms: each way is looked at.
  const issuers = distinct(
    servers.flatMap((server) => server.issuers.map((entry) => ({ entry, server }))),
    ({ entry, server }) => [entry.issuer, entry.jwks, server.algorithms],
  );
  for (const { entry, server } of issuers) {
    const asked = await examineIssuer(entry.issuer, entry.jwks, server, servers, probe);
    findings.push(...asked.findings);
    tokenKeys.push(...asked.keys);
  }
  const managers = distinct(
    servers.flatMap((server) => server.managers),
    ({ issuer, keys, jwksUri }) => [issuer, keys, jwksUri],
  );
  for (const manager of managers) findings.push(...(await examineManager(manager, tokenKeys, probe)));
  for (const server of servers) findings.push(...judgeServer(server), ...(await examineResource(server, probe)));
  for (const file of new Set(servers.flatMap(({ audit }) => (audit === undefined ? [] : [audit]))))
    findings.push(...(await examineAudit(file)));
  for (const file of new Set(stores)) findings.push(...(await examineStore(file)));
  return findings;
}

/** One of each that `by` does not tell apart. */
function distinct<T>(all: readonly T[], by: (one: T) => readonly unknown[]): Iterable<T> {
  return new Map(all.map((one) => [JSON.stringify(by(one)), one])).values();
}

function addressesOf({ resource, issuers, managers }: DescribedServer): readonly string[] {
  return [
    resource,
    ...issuers.flatMap(({ issuer, fhirServer }) => [issuer, fhirServer]),
    ...managers.flatMap((manager) => [manager.resource, ...(manager.jwksUri === undefined ? [] : [manager.jwksUri])]),
  ];
}

function environment(nodeEnv: string | undefined, addresses: readonly string[]): Finding {
  const about = 'NODE_ENV';
  if (nodeEnv === 'production')
    return note('environment', about, 'production, as described or set here: no http, no store that forgets');
  const local = addresses.every((url) => new URL(url).protocol === 'http:');
  if (local)
    return note(
      'environment',
      about,
      `${nodeEnv === undefined ? 'neither described nor set here' : 'not production, as described or set here'}: for development`,
    );
  const change = 'run every process with NODE_ENV=production';
  return warning('environment', about, 'not production: http to loopback and a store in memory are allowed', change);
}

/** The clock is read from the answer that carried the metadata or the keys. */
async function examineIssuer(
  issuer: string,
  configured: unknown,
  server: DescribedServer,
  servers: readonly DescribedServer[],
  probe: Probe,
): Promise<{ readonly findings: readonly Finding[]; readonly keys: readonly JsonWebKey[] }> {
  const algorithms = server.algorithms ?? TOKEN_ALGORITHMS;
  let reading: ClockReading | undefined;
  const watched: Probe['fetch'] = async (input, init) => {
    const before = probe.now();
    const response = await probe.fetch(input, init);
    const { headers } = response;
    reading = { date: headers.get('date'), age: headers.get('age'), at: (before + probe.now()) / 2 };
    return response;
  };
  let jwks: unknown;
  let answer: MetadataAnswer = 'answered';
  try {
    const { jwks_uri: place } = await discover({ issuer }, { fetch: watched });
    jwks = configured ?? (place === undefined ? undefined : await readJson(place, probe));
  } catch (error) {
    answer = faultOf(error);
    jwks = configured;
  }
  const leeway = Math.min(...servers.filter((one) => one.issuers.some((entry) => entry.issuer === issuer)).map(leewayOf));
  const findings: Finding[] = [judgeMetadata(issuer, answer)];
  // Keys that cannot be discovered are the fault that was just told.
  if (answer === 'answered' || configured !== undefined) findings.push(...judgeKeySet(issuer, jwks, algorithms));
  if (reading !== undefined) findings.push(judgeClock(issuer, reading, leeway));
  return { findings, keys: judgeKeys(jwks, algorithms)?.usable ?? [] };
}

function leewayOf({ leewaySeconds }: DescribedServer): number {
  return leewaySeconds ?? LEEWAY_SECONDS;
}

function faultOf(error: unknown): MetadataAnswer {
  if (error instanceof DiscoveryError) return error.fault;
  if (error instanceof AuthorityUnavailable) return 'no answer';
  if (error instanceof TypeError) return 'not asked';
  throw error;
}

async function examineResource({ resource, issuers }: DescribedServer, probe: Probe): Promise<readonly Finding[]> {
  let place: string;
  try {
    place = protectedResourceMetadataUrl(resource);
  } catch {
    return []; // its address is not secure, which was told
  }
  const known = issuers.map(({ issuer }) => issuer);
  return [judgeResource(resource, await readJson(place, probe), known)];
}

async function examineManager(
  { issuer, keys, jwksUri }: DescribedManager,
  tokenKeys: readonly JsonWebKey[],
  probe: Probe,
): Promise<readonly Finding[]> {
  const about = `seals of ${issuer}`;
  const jwks = keys ?? (jwksUri === undefined ? undefined : await readJson(jwksUri, probe));
  const usable = judgeKeys(jwks, SEAL_ALGORITHMS)?.usable ?? [];
  return [...judgeKeySet(about, jwks, SEAL_ALGORITHMS), ...judgeSealKeys(about, usable, tokenKeys)];
}
