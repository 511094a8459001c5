import type { DiscoveryFault } from '@hmcp/auth';
import { counted } from '../counted.js';
import { type Finding, failure, ok, warning } from './finding.js';
import type { KeyFault, KeySetVerdict } from './keys.js';

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

const KEY_FAULTS: Readonly<Record<KeyFault, readonly [judge: typeof failure, change: string]>> = {
  'a private key is published': [failure, 'take it out, and replace the key: whoever has seen it can sign'],
  'a key cannot be imported: nothing verifies with it': [failure, 'copy the public key again, whole, from whoever signs with it'],
  'two keys share a kid: what either signs is refused': [failure, 'give every signing key a kid of its own'],
  'a key has no kid': [warning, 'give every signing key a kid of its own'],
};

/**
 * Judges the keys of an issuer or a manager.
 * @param verdict of the set; `undefined` when it could not be had
 */
export function judgeKeySet(
  about: string,
  verdict: KeySetVerdict | undefined,
  algorithms: readonly string[],
): readonly Finding[] {
  if (verdict === undefined)
    return [failure('trust', about, 'its keys cannot be had', 'let its JWKS be reached, and hold a JWK set')];
  const findings = verdict.faults.map((fault) => {
    const [judge, change] = KEY_FAULTS[fault];
    return judge('trust', about, fault, change);
  });
  const { usable } = verdict;
  const signs = algorithms.join(', ');
  if (usable.length > 0) return [...findings, ok('trust', about, counted(usable.length, 'usable key'))];
  const found = `none of its keys has a kid and can be used with ${signs}`;
  return [...findings, failure('trust', about, found, 'publish one that does')];
}

/**
 * A seal must be signed with a key that signs nothing else.
 * @param seals thumbprints, as `tokens` are
 * @see protocol section 2.3
 */
export function judgeSealKeys(about: string, seals: ReadonlySet<string>, tokens: ReadonlySet<string>): readonly Finding[] {
  if (![...seals].some((seal) => tokens.has(seal))) return [];
  const found = 'a key of its seals also signs tokens';
  return [failure('trust', about, found, 'give seals a key of their own')];
}

/**
 * Compares keys of seals that are described with those the manager publishes, or was configured with: by thumbprint.
 * @param whose said of the second set, as "it publishes"
 */
export function judgeSameKeys(about: string, described: ReadonlySet<string>, own: ReadonlySet<string>, whose: string): Finding {
  const change = 'copy the public keys of its seals from the manager';
  const shared = [...described].filter((key) => own.has(key)).length;
  if (shared === 0) return failure('trust', about, `none of the described keys is one ${whose}: no seal can be verified`, change);
  if (shared < own.size)
    return warning('trust', about, `a key ${whose} is not described: seals signed with it are refused`, change);
  if (shared < described.size)
    return warning(
      'trust',
      about,
      `a described key is not one ${whose}, and would be believed`,
      `${change}, or let it publish both`,
    );
  return ok('trust', about, `the described keys are those ${whose}`);
}
