import { AuthorityUnavailable, DiscoveryError, discover, protectedResourceMetadataUrl, SEAL_ALGORITHMS } from '@hmcp/auth';
import { type ClockReading, judgeClock } from './clock.js';
import type { DescribedManager, DescribedServer } from './description.js';
import { type Finding, warning } from './finding.js';
import { judgeKeys, thumbprintsOf } from './keys.js';
import { judgeFhirServer, judgeManager, judgeResource } from './parties.js';
import { ask, type Probe, readJson } from './probe.js';
import { judgeKeySet, judgeMetadata, judgeSameKeys, judgeSealKeys, type MetadataAnswer } from './trust.js';

const TOKEN_ALGORITHMS = ['ES256', 'RS256', 'EdDSA'];
const LEEWAY_SECONDS = 30;
/** A seal is not believed before its time but for 2 s, and lives 30 s. */
const SEALS = { what: 'seals', ahead: 2, behind: 30 } as const;
/** Where a context manager publishes the public keys of its seals. */
const SEAL_KEYS = '/.well-known/hmcp-seal-keys.json';

/** Asks an issuer for its metadata and keys. The clock is read from the answer that carried them. */
export async function askIssuer(
  issuer: string,
  configured: unknown,
  server: DescribedServer,
  servers: readonly DescribedServer[],
  probe: Probe,
): Promise<{ readonly findings: readonly Finding[]; readonly keys: ReadonlySet<string> }> {
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
  const verdict = await judgeKeys(jwks, algorithms);
  // Keys that cannot be discovered are the fault that was just told.
  if (answer === 'answered' || configured !== undefined) findings.push(...judgeKeySet(issuer, verdict, algorithms));
  if (reading !== undefined) findings.push(judgeClock(issuer, reading, { what: 'tokens', ahead: leeway, behind: leeway }));
  return { findings, keys: await thumbprintsOf(verdict?.usable ?? []) };
}

/** Asks a server for its metadata. One that is served over pipes listens nowhere. */
export async function askServer({ resource, issuers, stdio }: DescribedServer, probe: Probe): Promise<readonly Finding[]> {
  const place = metadataOf(resource);
  if (place === undefined || stdio) return [];
  const known = issuers.map(({ issuer }) => issuer);
  return [judgeResource(resource, await ask(place, probe), known)];
}

/** Asks a FHIR server for its SMART configuration, or else for its capability statement. */
export async function askFhirServer(fhirServer: string, issuers: readonly string[], probe: Probe): Promise<Finding> {
  const base = fhirServer.replace(/\/+$/, '');
  const smart = await ask(`${base}/.well-known/smart-configuration`, probe);
  const capabilities = smart?.document === undefined ? await ask(`${base}/metadata`, probe) : undefined;
  return judgeFhirServer(fhirServer, issuers, smart, capabilities);
}

/**
 * Asks a context manager for its metadata, its clock and its keys, and compares these with the described ones.
 * @param tokenKeys thumbprints of keys that sign tokens
 */
export async function askManager(
  { issuer, resource, keys, jwksUri, tokenIssuers }: DescribedManager,
  tokenKeys: ReadonlySet<string>,
  probe: Probe,
): Promise<readonly Finding[]> {
  const about = `seals of ${issuer}`;
  const verdict = await judgeKeys(keys ?? (jwksUri === undefined ? undefined : await readJson(jwksUri, probe)), SEAL_ALGORITHMS);
  const described = await thumbprintsOf(verdict?.usable ?? []);
  const findings = [...judgeKeySet(about, verdict, SEAL_ALGORITHMS), ...judgeSealKeys(about, described, tokenKeys)];
  const place = metadataOf(resource);
  if (place === undefined) return findings;
  const answer = await ask(place, probe);
  findings.push(judgeManager(resource, answer, tokenIssuers));
  if (answer === undefined) return findings;
  findings.push(judgeClock(resource, answer.clock, SEALS));
  const published = new URL(SEAL_KEYS, resource).href;
  if (published === jwksUri) return findings;
  const own = await judgeKeys(await readJson(published, probe), SEAL_ALGORITHMS);
  const compared =
    own === undefined
      ? jwksUri === undefined && unpublished(about, published)
      : described.size > 0 && judgeSameKeys(about, described, await thumbprintsOf(own.usable), 'it publishes');
  return compared ? [...findings, compared] : findings;
}

function unpublished(about: string, place: string): Finding {
  const found = `the described keys cannot be compared: it publishes none at ${place}`;
  return warning('trust', about, found, 'compare them with those of the manager by other means');
}

/** Where a resource's metadata is; `undefined` when its address is not secure, which is told elsewhere. */
function metadataOf(resource: string): string | undefined {
  try {
    return protectedResourceMetadataUrl(resource);
  } catch {
    return undefined;
  }
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
