import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';

/** An authorization server's outside: metadata, keys and tokens signed with them, on loopback. */
export interface TestIssuer {
  readonly issuer: string;
  /** Signs the given claims over a complete set of defaults; `undefined` leaves a default out. */
  mint(claims: Record<string, unknown>): Promise<string>;
  close(): Promise<void>;
}

export async function startIssuer(audience: string): Promise<TestIssuer> {
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256', use: 'sig' }] };
  const http = createServer((request, response) => {
    const document =
      request.url === '/jwks'
        ? jwks
        : request.url?.startsWith('/.well-known/')
          ? { issuer, jwks_uri: `${issuer}/jwks` }
          : undefined;
    response.writeHead(document ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(document ?? {}));
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const issuer = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  let count = 0;
  return {
    issuer,
    mint: (claims) => {
      count += 1;
      const now = Math.floor(Date.now() / 1000);
      const payload: JWTPayload = {
        iss: issuer,
        aud: audience,
        sub: 'clinician',
        client_id: 'portal',
        jti: `j${count}`,
        iat: now,
        exp: now + 60,
        ...claims,
      };
      return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'at+jwt' }).sign(privateKey);
    },
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  };
}
