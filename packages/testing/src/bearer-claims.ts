import { decodeJwt } from 'jose';

/** What a testbed looks at in the token of a request, before anybody verifies it. */
export interface BearerClaims {
  readonly patient: string | undefined;
  readonly aud: string;
  readonly scope: string;
  readonly txn: string | undefined;
}

/** The claims of the token a request brings; `undefined` when it brings none, or what is no JWT: a test may send anything. */
export function bearerClaims(request: Request): BearerClaims | undefined {
  const token = /^Bearer (.+)$/.exec(request.headers.get('authorization') ?? '')?.[1];
  if (token === undefined) return undefined;
  const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
  try {
    const { patient, aud, scope, txn } = decodeJwt(token);
    return { patient: text(patient), aud: text(aud) ?? '', scope: text(scope) ?? '', txn: text(txn) };
  } catch {
    return undefined;
  }
}
