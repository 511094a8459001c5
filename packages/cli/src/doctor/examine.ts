import { judgeAgreement } from './agreement.js';
import { askFhirServer, askIssuer, askManager, askServer } from './ask-parties.js';
import type { DeploymentDescription, DescribedManager, DescribedServer } from './description.js';
import { examineFiles } from './files.js';
import { type Finding, note, warning } from './finding.js';
import { judgeServer } from './mode.js';
import type { Probe } from './probe.js';
import { examineAudit, examineStore } from './store.js';
import { judgeAddress, judgeCertificate } from './tls.js';

/** Examines a deployment: asks who is described in it, looks at files, judges the rest. Changes nothing. */
export async function examine(description: DeploymentDescription, probe: Probe): Promise<readonly Finding[]> {
  const { servers, stores, secrets, nodeEnv } = description;
  const production = nodeEnv === 'production';
  const addresses = new Set([...servers.flatMap(addressesOf), ...description.managers.flatMap(addressesOfManager)]);
  const findings: Finding[] = [environment(nodeEnv, [...addresses])];
  for (const url of addresses) {
    const judged = judgeAddress(url, production);
    if (judged !== undefined) findings.push(judged);
  }
  const silent = new Set(servers.filter(({ stdio }) => stdio).map(({ resource }) => resource));
  const origins = new Map([...addresses].filter((url) => !silent.has(url)).map((url) => [new URL(url).origin, new URL(url)]));
  for (const [origin, url] of origins) {
    if (url.protocol === 'https:') findings.push(judgeCertificate(origin, await probe.certificate(url), probe.now()));
  }
  const tokenKeys = new Set<string>();
  // Two servers may trust one issuer by other keys or algorithms: each way is looked at.
  const issuers = distinct(
    servers.flatMap((server) => server.issuers.map((entry) => ({ entry, server }))),
    ({ entry, server }) => [entry.issuer, entry.jwks, server.algorithms],
  );
  for (const { entry, server } of issuers) {
    const asked = await askIssuer(entry.issuer, entry.jwks, server, servers, probe);
    findings.push(...asked.findings);
    for (const key of asked.keys) tokenKeys.add(key);
  }
  const trusted = servers.flatMap((server) => server.issuers);
  for (const fhirServer of new Set(trusted.map((entry) => entry.fhirServer))) {
    if (judgeAddress(fhirServer, production)?.level === 'failure') continue;
    const known = trusted.filter((entry) => entry.fhirServer === fhirServer).map(({ issuer }) => issuer);
    findings.push(await askFhirServer(fhirServer, known, probe));
  }
  const managers = distinct(
    [...servers.flatMap((server) => server.managers), ...description.managers],
    ({ issuer, resource, keys, jwksUri, tokenIssuers }) => [issuer, resource, keys, jwksUri, tokenIssuers],
  );
  for (const manager of managers) findings.push(...(await askManager(manager, tokenKeys, probe)));
  findings.push(...(await judgeAgreement(description)));
  for (const server of servers) findings.push(...judgeServer(server), ...(await askServer(server, probe)));
  const audit = servers.flatMap((server) => server.audit ?? []);
  findings.push(...(await examineFiles({ secrets, sessions: stores, audit }, probe.modes ?? process.platform !== 'win32')));
  for (const file of new Set(audit)) findings.push(...(await examineAudit(file)));
  for (const file of new Set(stores)) findings.push(...(await examineStore(file)));
  return findings;
}

/** One of each that `by` does not tell apart, in whatever order members stand. */
function distinct<T>(all: readonly T[], by: (one: T) => readonly unknown[]): Iterable<T> {
  return new Map(all.map((one) => [JSON.stringify(by(one), inOrder), one])).values();
}

function inOrder(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)));
}

function addressesOf({ resource, issuers, managers }: DescribedServer): readonly string[] {
  return [
    resource,
    ...issuers.flatMap(({ issuer, fhirServer }) => [issuer, fhirServer]),
    ...managers.flatMap(addressesOfManager),
  ];
}

function addressesOfManager({ resource, jwksUri }: DescribedManager): readonly string[] {
  return jwksUri === undefined ? [resource] : [resource, jwksUri];
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
