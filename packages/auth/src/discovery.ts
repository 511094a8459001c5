import * as z from 'zod';
import { type AuthorityAnswer, type AuthorityNetwork, getJson } from './authority.js';
import { secureUrl } from './secure-url.js';

const ENDPOINTS = ['authorization_endpoint', 'token_endpoint', 'jwks_uri', 'revocation_endpoint'] as const;

/** What this project reads of authorization server metadata (RFC 8414, OpenID discovery, SMART configuration); other members are kept. */
export const AuthorizationServerMetadata = z.looseObject({
  /** Absent in the SMART configuration of a server that signs nobody in by OpenID Connect. */
  issuer: z.string().optional(),
  authorization_endpoint: z.string().optional(),
  token_endpoint: z.string().optional(),
  jwks_uri: z.string().optional(),
  revocation_endpoint: z.string().optional(),
  code_challenge_methods_supported: z.array(z.string()).optional(),
  scopes_supported: z.array(z.string()).optional(),
  capabilities: z.array(z.string()).optional(),
  authorization_response_iss_parameter_supported: z.boolean().optional(),
});
export type AuthorizationServerMetadata = z.infer<typeof AuthorizationServerMetadata>;

/** Why a discovery document is not used. */
export type DiscoveryFault = 'not_found' | 'malformed' | 'issuer_mismatch' | 'endpoint_mismatch' | 'insecure_url';

/** A discovery document is missing or must not be believed. `fault` is for the operator; nothing of the document is repeated. */
export class DiscoveryError extends Error {
  readonly fault: DiscoveryFault;

  constructor(fault: DiscoveryFault) {
    super(`discovery failed: ${fault}`);
    this.name = 'DiscoveryError';
    this.fault = fault;
  }
}

/**
 * Reads the metadata of an authorization server, by its pinned issuer or by a FHIR server that uses it.
 * By issuer: the document's `issuer` is the very same string. By FHIR server (`smart-configuration`): relative endpoints are resolved
 * against the base, and where it names an issuer that publishes metadata of its own, the endpoints must be the same there,
 * so that a FHIR server cannot pass off its own token endpoint under another's name.
 * @throws {DiscoveryError} the document is missing, malformed, of another issuer, or names an insecure URL
 * @throws {TypeError} when `issuer` or `fhirServer` is not a secure URL
 * @throws {AuthorityUnavailable} no answer
 * @see RFC 8414 section 3, SMART App Launch "Conformance"
 */
export async function discover(
  where: { readonly issuer: string } | { readonly fhirServer: string },
  network: AuthorityNetwork = {},
): Promise<AuthorizationServerMetadata> {
  if ('issuer' in where) return discoverIssuer(where.issuer, network);
  const base = secureUrl(where.fhirServer, 'fhirServer');
  const answer = await getJson(`${where.fhirServer.replace(/\/+$/, '')}/.well-known/smart-configuration`, network);
  if (answer.status !== 200) throw new DiscoveryError('not_found');
  const metadata = read(answer, base);
  if (metadata.issuer === undefined) return metadata;
  const published = await discoverIssuer(metadata.issuer, network).catch((error: unknown) => {
    if (error instanceof DiscoveryError && error.fault === 'not_found') return undefined;
    if (error instanceof TypeError) throw new DiscoveryError('insecure_url');
    throw error;
  });
  if (published === undefined) return metadata;
  for (const name of ENDPOINTS) {
    const [here, there] = [metadata[name], published[name]];
    if (here !== undefined && there !== undefined && here !== there) throw new DiscoveryError('endpoint_mismatch');
  }
  return { ...published, ...metadata };
}

async function discoverIssuer(issuer: string, network: AuthorityNetwork): Promise<AuthorizationServerMetadata> {
  for (const url of wellKnown(issuer)) {
    const answer = await getJson(url, network);
    if (answer.status >= 400) continue;
    if (answer.status !== 200) throw new DiscoveryError('malformed');
    const metadata = read(answer);
    if (metadata.issuer === undefined) throw new DiscoveryError('malformed');
    if (metadata.issuer !== issuer) throw new DiscoveryError('issuer_mismatch');
    return metadata;
  }
  throw new DiscoveryError('not_found');
}

/** The places MCP clients look, in its order. */
function wellKnown(issuer: string): string[] {
  const url = secureUrl(issuer, 'issuer');
  const path = url.pathname.replace(/\/+$/, '');
  const appended = `${url.origin}${path}/.well-known/openid-configuration`;
  if (path === '') return [`${url.origin}/.well-known/oauth-authorization-server`, appended];
  return [
    `${url.origin}/.well-known/oauth-authorization-server${path}`,
    `${url.origin}/.well-known/openid-configuration${path}`,
    appended,
  ];
}

function read(answer: AuthorityAnswer, base?: URL): AuthorizationServerMetadata {
  const parsed = AuthorizationServerMetadata.safeParse(answer.body);
  if (!parsed.success) throw new DiscoveryError('malformed');
  const metadata = { ...parsed.data };
  for (const name of ENDPOINTS) {
    const value = metadata[name];
    if (value === undefined) continue;
    const directory = base && `${base.href.replace(/\/+$/, '')}/`;
    const url = base !== undefined && !URL.canParse(value) ? new URL(value, directory).href : value;
    try {
      secureUrl(url, name);
    } catch {
      throw new DiscoveryError('insecure_url');
    }
    metadata[name] = url;
  }
  return metadata;
}
