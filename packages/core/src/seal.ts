import * as z from 'zod';
import { FhirId } from './patient-context.js';

/** `typ` of a seal's protected header. @see protocol section 2.3 */
export const SEAL_TYPE = 'hmcp-context+jwt';

/**
 * Claims of a seal: a manager's signed statement which patient a session is on at which epoch. Not a credential.
 * Times are seconds since the epoch; `exp` is at most `iat` + 30 s.
 * @see protocol section 2.3
 */
export const SealClaims = z
  .strictObject({
    iss: z.url(),
    aud: z.string().min(1),
    sub_iss: z.url(),
    sub: z.string().min(1),
    azp: z.string().min(1),
    sid: z.string().min(1).max(128),
    epoch: z.int().nonnegative(),
    patient: FhirId,
    fhirServer: z.url(),
    tenant: z.string().min(1).max(128).optional(),
    encounter: FhirId.optional(),
    pk: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
    aliases: z
      .array(z.strictObject({ fhirServer: z.url(), id: FhirId }))
      .max(8)
      .optional(),
    iat: z.int(),
    exp: z.int(),
    jti: z.string().min(1),
  })
  .refine((claims) => claims.exp > claims.iat && claims.exp - claims.iat <= 30, '"exp" must be within 30 s of "iat"');
export type SealClaims = z.infer<typeof SealClaims>;
