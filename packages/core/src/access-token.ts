import * as z from 'zod';
import type { ChainRecord } from './chain.js';
import { ActorClaim, HmcpClaim } from './chain.js';
import { FhirId } from './patient-context.js';
import type { Scope } from './scopes.js';

/**
 * Claims of an access token as this protocol reads them (RFC 9068, SMART launch context, RFC 8693).
 * Ill-typed members are refused: `scope` is one string, `patient` a bare FHIR id. Times are seconds since the epoch.
 * @see protocol section 2.1
 */
export const AccessTokenClaims = z.looseObject({
  iss: z.string().min(1),
  sub: z.string().min(1),
  aud: z.union([z.string(), z.array(z.string())]),
  exp: z.int(),
  iat: z.int(),
  nbf: z.int().optional(),
  jti: z.string().min(1),
  client_id: z.string().min(1),
  scope: z.string().optional(),
  patient: FhirId.optional(),
  encounter: FhirId.optional(),
  tenant: z.string().min(1).max(128).optional(),
  fhirUser: z.string().min(1).optional(),
  act: ActorClaim.optional(),
  txn: z.string().min(1).optional(),
  cnf: z.unknown().optional(),
  __hmcp: HmcpClaim.optional(),
});
export type AccessTokenClaims = z.infer<typeof AccessTokenClaims>;

/**
 * An access token that passed every check of its server: the only thing that carries authority over a patient.
 * `fhirServer` comes from the configuration of the issuer. `hop` is 1 + chain length; `firstClient` began the chain.
 * @see protocol sections 2.1 and 5
 */
export interface VerifiedToken {
  readonly issuer: string;
  readonly subject: string;
  readonly clientId: string;
  /** This server's resource identifier, the one audience of the token. */
  readonly audience: string;
  /** The `scope` claim as it stands. */
  readonly scope: string;
  /** Its members, parsed; unknown ones are kept as `kind: "unknown"` and grant nothing. */
  readonly scopes: readonly Scope[];
  readonly jti: string;
  /** Seconds since the epoch. */
  readonly issuedAt: number;
  /** Seconds since the epoch. */
  readonly expiresAt: number;
  readonly fhirServer: string;
  readonly patient?: string | undefined;
  readonly encounter?: string | undefined;
  readonly tenant?: string | undefined;
  readonly fhirUser?: string | undefined;
  /** Actors, outermost (newest) first; empty for a token no agent exchanged. */
  readonly actors: readonly string[];
  readonly chain: readonly ChainRecord[];
  readonly hop: number;
  readonly firstClient: string;
  readonly txn?: string | undefined;
  readonly sid?: string | undefined;
}
