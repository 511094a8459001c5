import { type Finding, failure, note, ok, warning } from './finding.js';
import type { Said } from './probe.js';

/** An address of a deployment that was asked: what it said; `undefined` when it did not answer. */
export type Answer = Said | undefined;

const START = 'start it, or open the way to it, and look again';

/** What a server says of itself at its metadata (RFC 9728). */
export function judgeResource(resource: string, answer: Answer, issuers: readonly string[]): Finding {
  const said = metadataOf(resource, answer);
  if ('level' in said) return said;
  if (said.servers === undefined || said.servers.some((one) => !issuers.includes(one)))
    return failure(
      'trust',
      resource,
      'its metadata sends callers to an issuer it does not trust',
      'let `authorizationServers` name its issuers only',
    );
  return ok('trust', resource, 'its metadata names itself and its issuers');
}

/** What a context manager says of itself at its metadata: it may serve people of other issuers, too. */
export function judgeManager(resource: string, answer: Answer, tokenIssuers: readonly string[]): Finding {
  const said = metadataOf(resource, answer);
  if ('level' in said) return said;
  if (said.servers?.some((one) => tokenIssuers.includes(one)) !== true)
    return failure(
      'trust',
      resource,
      'its metadata names none of the issuers whose people it may name: no session of theirs can be opened',
      'name the issuer of its people in `tokenIssuers` of the manager, or correct its `authorizationServers`',
    );
  return ok('trust', resource, 'its metadata names itself and an issuer of its people');
}

/**
 * What a FHIR server says of itself.
 * @param issuers those that are trusted for its patients
 * @param smart its SMART configuration
 * @param capabilities its capability statement; asked where there is no SMART configuration
 * @see SMART App Launch, conformance
 */
export function judgeFhirServer(fhirServer: string, issuers: readonly string[], smart: Answer, capabilities: Answer): Finding {
  const configuration = objectIn(smart);
  if (configuration !== undefined) {
    const { issuer } = configuration;
    if (issuer === undefined)
      return note('trust', fhirServer, 'its SMART configuration names no issuer: whose tokens it takes was not told');
    if (issuers.some((one) => one !== issuer) && issuers.includes(String(issuer)))
      return warning(
        'trust',
        fhirServer,
        'issuers are trusted for its patients that its SMART configuration does not name',
        'take out of `issuers` whoever does not issue tokens for this FHIR server',
      );
    if (issuers.includes(String(issuer))) return ok('trust', fhirServer, 'its SMART configuration names the trusted issuer');
    return failure(
      'trust',
      fhirServer,
      'its SMART configuration names another issuer than the one trusted for its patients',
      'correct "issuer" or "fhirServer": ids of one FHIR server are other people on another',
    );
  }
  if (objectIn(capabilities)?.resourceType === 'CapabilityStatement')
    return note('trust', fhirServer, 'it answers, and publishes no SMART configuration: whose tokens it takes was not told');
  const heard = smart ?? capabilities;
  if (heard === undefined)
    return warning('trust', fhirServer, 'it does not answer, so whose tokens it takes is not known', START);
  return failure(
    'trust',
    fhirServer,
    `it answers, but not there (${heard.status}): no FHIR API is at this address`,
    'correct "fhirServer"',
  );
}

function metadataOf(resource: string, answer: Answer): Finding | { readonly servers: readonly string[] | undefined } {
  if (answer === undefined)
    return warning('trust', resource, 'it does not answer, so what it says of itself is not known', START);
  const document = objectIn(answer);
  if (document === undefined) {
    const found =
      answer.status === 200
        ? 'it answers, but with no metadata of a protected resource'
        : `it answers, but not there (${answer.status}): callers find no metadata, and likely no server, at this path`;
    return failure('trust', resource, found, 'correct the path of "resource", or serve its metadata (RFC 9728) there');
  }
  if (document.resource !== resource)
    return failure('trust', resource, 'its metadata names another resource: no token would be for it', 'correct "resource"');
  const { authorization_servers: servers } = document;
  return { servers: Array.isArray(servers) ? servers.map(String) : undefined };
}

function objectIn(answer: Answer): Readonly<Record<string, unknown>> | undefined {
  const document = answer?.document;
  const isObject = typeof document === 'object' && document !== null && !Array.isArray(document);
  return isObject ? (document as Readonly<Record<string, unknown>>) : undefined;
}
