import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';

/** A fixed moment: no test reads the machine's clock. */
export const T0 = 1_800_000_000;

/** A clock a test moves by hand. */
export function clock(seconds = T0) {
  let at = seconds * 1000;
  return {
    now: () => at,
    advance: (by: number) => {
      at += by * 1000;
    },
  };
}

export interface SigningKey {
  readonly kid: string;
  readonly alg: string;
  readonly privateKey: CryptoKey;
  readonly publicJwk: JWK;
  readonly privateJwk: JWK;
}

export async function signingKey(kid: string, alg = 'ES256'): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return {
    kid,
    alg,
    privateKey,
    publicJwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' },
    privateJwk: { ...(await exportJWK(privateKey)), kid, alg },
  };
}

type Handler = (request: IncomingMessage, body: URLSearchParams, response: ServerResponse) => unknown;

/** A loopback HTTP server that answers JSON by path and remembers what was asked. */
export async function loopback() {
  const routes = new Map<string, Handler>();
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    asked.push(path);
    let text = '';
    request.setEncoding('utf8');
    request.on('data', (chunk: string) => {
      text += chunk;
    });
    request.on('end', async () => {
      const handler = routes.get(path);
      const answer = handler === undefined ? undefined : await handler(request, new URLSearchParams(text), response);
      if (response.writableEnded || response.destroyed) return;
      if (answer === undefined && !response.headersSent && response.statusCode === 200) response.statusCode = 404;
      response.setHeader('content-type', 'application/json');
      response.end(answer === undefined ? '{}' : JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    asked,
    on: (path: string, handler: Handler) => routes.set(path, handler),
    count: (path: string) => asked.filter((one) => one === path).length,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const METADATA = '/.well-known/oauth-authorization-server';

/** A tiny authorization server: metadata, keys that may be rotated, and a mint that signs whatever it is told to. */
export async function tinyIssuer() {
  const http = await loopback();
  const key = await signingKey('k1');
  const jwks = { keys: [key.publicJwk] };
  const metadata: Record<string, unknown> = {
    issuer: http.url,
    jwks_uri: `${http.url}/jwks`,
    authorization_endpoint: `${http.url}/auth`,
    token_endpoint: `${http.url}/token`,
    revocation_endpoint: `${http.url}/revoke`,
    code_challenge_methods_supported: ['S256'],
    authorization_response_iss_parameter_supported: true,
  };
  http.on(METADATA, () => metadata);
  http.on('/jwks', () => jwks);
  return { ...http, key, jwks, metadata };
}
export type TinyIssuer = Awaited<ReturnType<typeof tinyIssuer>>;

export const RESOURCE = 'https://labs.example/mcp';

export interface Mint {
  readonly claims?: Record<string, unknown>;
  readonly header?: Record<string, unknown>;
  readonly key?: SigningKey;
  readonly at?: number;
}

/** An access token of `issuer` for {@link RESOURCE}; a claim or header member set to `undefined` is left out. */
export function mint(issuer: TinyIssuer, { claims, header, key = issuer.key, at = T0 }: Mint = {}): Promise<string> {
  const payload = {
    ...{ iss: issuer.url, sub: 'alice', aud: RESOURCE, client_id: 'portal', jti: 'j1', iat: at, exp: at + 300 },
    ...{ scope: 'patient/Observation.rs', patient: 'A1' },
    ...claims,
  };
  return new SignJWT(payload).setProtectedHeader({ alg: key.alg, kid: key.kid, typ: 'at+jwt', ...header }).sign(key.privateKey);
}
