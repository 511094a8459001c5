export { type AccessPolicy, type AccessQuestion, askAccessPolicy } from './access-policy.js';
export { AuthorityUnavailable, type Fetch } from './authority.js';
export { type BearerChallenge, bearerChallenge, readBearer, TokenError } from './bearer.js';
export type { ClientKey, Random } from './client-assertion.js';
export { type ClientCredentials, createClientCredentials } from './client-credentials.js';
export { AuthorizationServerMetadata, DiscoveryError, type DiscoveryFault, discover } from './discovery.js';
export { type Grant, SmartError, type SmartErrorCode } from './grant.js';
export { type HttpAccessPolicyOptions, httpAccessPolicy } from './http-access-policy.js';
export { type ProtectedResourceMetadata, protectedResourceMetadata, protectedResourceMetadataUrl } from './metadata.js';
export { createSealVerifier, SealError, type SealVerifier, type SealVerifierOptions, type VerifiedSeal } from './seal.js';
export { SEAL_ALGORITHMS } from './seal-keys.js';
export { createSealSigner, SEAL_SECONDS, type SealFacts, type SealSigner } from './seal-signer.js';
export { resourceIdentifier, secureUrl } from './secure-url.js';
export {
  type LaunchRequest,
  type PendingLaunch,
  type SmartClient,
  type SmartClientOptions,
  smartClient,
} from './smart-client.js';
export {
  createTokenExchanger,
  type ExchangedToken,
  ExchangeRefused,
  type ExchangeRequest,
  type TokenExchanger,
  type TokenExchangerOptions,
} from './token-exchange.js';
export type { TrustedManager } from './trusted-manager.js';
export {
  type AccessTokenAlgorithm,
  createTokenVerifier,
  type TokenVerifier,
  type TokenVerifierOptions,
  type TrustedIssuer,
} from './verify.js';
