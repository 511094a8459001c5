import type { DiscoveryFault } from '@hmcp/auth';
import { counted } from '../counted.js';
import { type Finding, failure, ok, warning } from './finding.js';
import { type JsonWebKey, judgeKeys, sameKey } from './keys.js';

/** What asking an issuer for its metadata came to. */
export type MetadataAnswer = 'answered' | 'no answer' | 'not asked' | DiscoveryFault;

const METADATA: Readonly<Record<Exclude<MetadataAnswer, 'answered'>, readonly [found: string, change: string]>> = {
  'no answer': ['it does not answer: every request would be 503', 'start it, or open the way to it'],
  'not asked': ['it was not asked: its address is not secure', 'give it an https address'],
  not_found: ['it publishes no metadata at any well-known place', 'correct "issuer", or publish its metadata (RFC 8414)'],
  malformed: ['its metadata cannot be read', 'have it publish metadata as in RFC 8414'],
  issuer_mismatch: [
    'its metadata names another issuer: every token would be 401',
    'write "issuer" exactly as its metadata has it; slash, case and port count',
  ],
  endpoint_mismatch: ['its endpoints are not those its issuer publishes', 'correct the endpoints of the FHIR server'],
  insecure_url: ['its metadata names an endpoint that is not https', 'have it publish https endpoints'],
};

/** Judges the metadata of an issuer. @see RFC 8414 section 3 */
export function judgeMetadata(issuer: string, answer: MetadataAnswer): Finding {
  if (answer === 'answered') return ok('trust', issuer, 'its metadata names the configured issuer');
  const [found, change] = METADATA[answer];
  return failure('trust', issuer, found, change);
}

/**
 * Judges the keys of an issuer or a manager.
 * @param jwks the set; `undefined` when it could not be had
 */
export function judgeKeySet(about: string, jwks: unknown, algorithms: readonly string[]): readonly Finding[] {
  const verdict = judgeKeys(jwks, algorithms);
  if (verdict === undefined)
    return [failure('trust', about, 'its keys cannot be had', 'let its JWKS be reached, and hold a JWK set')];
  const findings: Finding[] = [];
  for (const fault of verdict.faults) {
    if (fault === 'a private key is published')
      findings.push(failure('trust', about, fault, 'take it out, and replace the key: whoever has seen it can sign'));
    else findings.push(warning('trust', about, fault, 'give every signing key a kid of its own'));
  }
  const { usable } = verdict;
  if (usable.length === 0)
    findings.push(
      failure('trust', about, `none of its keys has a kid and signs with ${algorithms.join(', ')}`, 'publish one that does'),
    );
  else findings.push(ok('trust', about, counted(usable.length, 'usable key')));
  return findings;
}

/** A seal must be signed with a key that signs nothing else. @see protocol section 2.3 */
export function judgeSealKeys(about: string, seals: readonly JsonWebKey[], tokens: readonly JsonWebKey[]): readonly Finding[] {
  if (!seals.some((seal) => tokens.some((token) => sameKey(seal, token)))) return [];
  const found = 'a key of its seals also signs tokens';
  return [failure('trust', about, found, 'give seals a key of their own')];
}

/** What a server says of itself at its metadata (RFC 9728); `undefined` when it does not answer. */
export function judgeResource(resource: string, document: unknown, issuers: readonly string[]): Finding {
  if (document === undefined)
    return warning('trust', resource, 'it does not answer, so what it says of itself is not known', 'start it, and look again');
  const { resource: said, authorization_servers: servers } = (
    typeof document === 'object' && document !== null ? document : {}
  ) as { resource?: unknown; authorization_servers?: unknown };
  if (said !== resource)
    return failure('trust', resource, 'its metadata names another resource: no token would be for it', 'correct "resource"');
  const strange = !Array.isArray(servers) || servers.some((one) => !issuers.includes(String(one)));
  if (strange)
    return failure(
      'trust',
      resource,
      'its metadata sends callers to an issuer it does not trust',
      'let `authorizationServers` name its issuers only',
    );
  return ok('trust', resource, 'its metadata names itself and its issuers');
}
