import { type AuthorizationServerConfig, TOKEN_EXCHANGE } from './config.js';

/** Identity and launch scopes offered beside those of the resources. */
export const PERSON_SCOPES = ['openid', 'fhirUser', 'profile', 'offline_access', 'launch/patient'];

/** Every scope the server advertises. */
export function supportedScopes(config: Pick<AuthorizationServerConfig, 'resources'>): string[] {
  const ofResources = config.resources.flatMap((resource) => resource.scopesSupported.flatMap((list) => list.split(' ')));
  return [...new Set([...PERSON_SCOPES, ...ofResources])].filter((scope) => scope !== '');
}

/**
 * The SMART configuration: served here, and by the FHIR server at `{fhirServer}/.well-known/smart-configuration`.
 * @see SMART App Launch, conformance
 */
export function smartConfiguration(config: Pick<AuthorizationServerConfig, 'publicUrl' | 'resources'>): Record<string, unknown> {
  const { publicUrl } = config;
  return {
    issuer: publicUrl,
    jwks_uri: `${publicUrl}/jwks`,
    authorization_endpoint: `${publicUrl}/auth`,
    token_endpoint: `${publicUrl}/token`,
    revocation_endpoint: `${publicUrl}/token/revocation`,
    grant_types_supported: ['authorization_code', 'refresh_token', 'client_credentials', TOKEN_EXCHANGE],
    response_types_supported: ['code'],
    code_challenge_methods_supported: ['S256'],
    token_endpoint_auth_methods_supported: ['private_key_jwt', 'none'],
    token_endpoint_auth_signing_alg_values_supported: ['ES384', 'RS384', 'ES256'],
    authorization_response_iss_parameter_supported: true,
    scopes_supported: supportedScopes(config),
    capabilities: [
      'launch-standalone',
      'client-public',
      'client-confidential-asymmetric',
      'sso-openid-connect',
      'context-standalone-patient',
      'permission-offline',
      'permission-patient',
      'permission-user',
      'permission-v1',
      'permission-v2',
    ],
  };
}
