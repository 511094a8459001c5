import { isSealed, SealClaims, type SealedEnvelope } from '@hmcp/core';
import type { RequestScope } from '@hmcp/core/request-scope';

const read = new WeakMap<SealedEnvelope, SealClaims | undefined>();

/**
 * What the seal of a scope states; `undefined` for a plain envelope, or a seal that cannot be read. The seal of a scope was
 * verified where the scope began: by the guard of the server, or by the session that opened it.
 * @see protocol section 2.3
 */
export function sealOf(scope: RequestScope): SealClaims | undefined {
  const { envelope } = scope.facts;
  if (!isSealed(envelope)) return undefined;
  if (!read.has(envelope)) read.set(envelope, readSeal(envelope.seal));
  return read.get(envelope);
}

/** Claims of a compact JWS, without verifying it. */
export function readSeal(seal: string): SealClaims | undefined {
  try {
    const payload: unknown = JSON.parse(Buffer.from(seal.split('.')[1] ?? '', 'base64url').toString('utf8'));
    return SealClaims.safeParse(payload).data;
  } catch {
    return undefined;
  }
}

const LIFE: ReadonlySet<string> = new Set(['iat', 'exp', 'jti']);

/** True when two seals state the same but for their life: one renews the other. */
export function sameStatement(one: SealClaims, other: SealClaims): boolean {
  const statement = (claims: SealClaims) =>
    JSON.stringify(
      Object.entries(claims)
        .filter(([name]) => !LIFE.has(name))
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  return statement(one) === statement(other);
}
