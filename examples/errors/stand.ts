import { createTokenVerifier, type TokenVerifier } from '@hmcp/auth';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';

const ISSUER = 'https://as.example';
const FHIR = 'https://ehr.example/r4';

/** An issuer for one resource: its verifier, and tokens signed for one patient. */
export interface Issuer {
  readonly verifier: TokenVerifier;
  /** @param claims in addition to, or in place of, those of a token that this resource accepts */
  token(claims?: Readonly<Record<string, unknown>>): Promise<string>;
}

/** Makes an issuer with a key of its own. */
export async function issuerFor(resource: string): Promise<Issuer> {
  const { privateKey, publicKey } = await generateKeyPair('ES256');
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: 'key', alg: 'ES256', use: 'sig' }] };
  let serial = 0;
  return {
    verifier: createTokenVerifier({ resource, issuers: [{ issuer: ISSUER, fhirServer: FHIR, jwks }] }),
    token(claims = {}) {
      const at = Math.floor(Date.now() / 1000);
      serial += 1;
      const whose = { sub: 'clinician', client_id: 'portal', scope: 'patient/Observation.rs', patient: 'A1' };
      return new SignJWT({ iss: ISSUER, aud: resource, jti: `t${serial}`, iat: at, exp: at + 300, ...whose, ...claims })
        .setProtectedHeader({ alg: 'ES256', kid: 'key', typ: 'at+jwt' })
        .sign(privateKey);
    },
  };
}

/** A JSON-RPC answer as it stands on the wire. */
export interface Answer {
  readonly result?: { readonly structuredContent?: unknown; readonly isError?: boolean };
  readonly error?: { readonly code: number; readonly data?: unknown };
}

/** Calls a tool over HTTP, as any client of MCP revision 2026-07-28 does. */
export async function callTool(
  server: { fetch(request: Request): Promise<Response> },
  resource: string,
  token: string,
  name: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<Answer> {
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'example', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': {},
  };
  const response = await server.fetch(
    new Request(resource, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': 'tools/call',
        'mcp-name': name,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args, _meta } }),
    }),
  );
  const text = await response.text();
  return JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? text) as Answer;
}
