import { createHash } from 'node:crypto';
import type { TrustedIssuer } from '@hmcp/auth';
import { buildRecords, listResults, patientSummaries, shippedBundles } from '@hmcp/clinic';
import { META, PROTOCOL_VERSION } from '@hmcp/core';
import { exportJWK, generateKeyPair, type JSONWebKeySet, SignJWT } from 'jose';

/** Public address of every server that is measured, as behind a proxy. */
export const RESOURCE = 'https://labs.example/mcp';
const ISSUER = 'https://as.example';
const FHIR_SERVER = 'https://ehr.example/fhir';
const PATIENT_SCOPE = 'patient/Observation.rs';
/** Rows of one answer. */
const ROWS = 20;

/** The tool that every server of a run serves: 20 laboratory results of one shipped person. */
export const tool = listResults;

type Row = ReturnType<typeof answerOfTool>['results'][number];

/** What the tool answers. A server has it as JSON, which it reads again for every request. */
export function answerOfTool() {
  const records = buildRecords(shippedBundles(), { kind: 'shipped' });
  const results = records.ofPatient(personOf(records), 'Observation').slice(0, ROWS);
  if (results.length !== ROWS) throw new Error(`the shipped person has only ${results.length} results`);
  return listResults.output.parse({ results });
}

/** The shipped person with most results. */
function personOf(records: ReturnType<typeof buildRecords>): string {
  const [most] = patientSummaries(records)
    .map(({ id }) => ({ id, count: records.ofPatient(id, 'Observation').length }))
    .sort((a, b) => b.count - a.count);
  if (most === undefined) throw new Error('nobody is shipped');
  return most.id;
}

/** The patient that every request and every row is about. */
export function patientOf(rows: readonly Row[]): string {
  const { subject } = rows[0] as { subject?: { reference?: string } };
  const id = /^Patient\/([A-Za-z0-9\-.]+)$/.exec(subject?.reference ?? '')?.[1];
  if (id === undefined) throw new Error('the rows name no patient');
  return id;
}

/** Makes real tokens (ES256), each with a `jti` of its own. */
export interface Mint {
  readonly jwks: JSONWebKeySet;
  /** @param hop 1 for a token no agent exchanged; each further hop adds an actor and a chain record */
  token(hop: number): Promise<string>;
}

/** A {@link Mint} with a new key. */
export async function createMint(patient: string): Promise<Mint> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: 'bench', alg: 'ES256', use: 'sig' }] };
  let serial = 0;
  return {
    jwks,
    token(hop) {
      serial += 1;
      const claims = {
        iss: ISSUER,
        sub: 'clinician',
        aud: RESOURCE,
        jti: `token-${serial}`,
        txn: 'txn-1',
        scope: PATIENT_SCOPE,
        patient,
        fhirUser: `${FHIR_SERVER}/Practitioner/clinician`,
        ...lineage(hop),
      };
      return new SignJWT(claims)
        .setProtectedHeader({ alg: 'ES256', kid: 'bench', typ: 'at+jwt' })
        .setIssuedAt()
        .setExpirationTime('1h')
        .sign(privateKey);
    },
  };
}

/** `client_id`, `act` and the chain of a token for this hop: agent 0 began, every later one exchanged. */
function lineage(hop: number): Readonly<Record<string, unknown>> {
  const chain = Array.from({ length: hop - 1 }, (_, i) => ({
    jti: `earlier-${i}`,
    client_id: `agent-${i}`,
    aud: `https://agent-${i + 1}.example/mcp`,
    scope: PATIENT_SCOPE,
    pth: createHash('sha256').update(`earlier-${i}`).digest('base64url'),
  }));
  const act = chain.reduce<object | undefined>(
    (inner, _, i) => ({ sub: `agent-${i + 1}`, ...(inner && { act: inner }) }),
    undefined,
  );
  return { client_id: `agent-${hop - 1}`, ...(act && { act }), __hmcp: { v: 1, chain } };
}

/** The one issuer that the guarded servers believe. */
export function issuerOf(jwks: JSONWebKeySet): TrustedIssuer {
  return { issuer: ISSUER, fhirServer: FHIR_SERVER, jwks };
}

/** One HTTP request: what differs from one to the next is its id, its intent and, where asked for, its token. */
export interface Sent {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A `tools/call` of revision 2026-07-28 with a fresh intent, the same bytes for every kind of server. */
export function requestFor(token: string, patient: string, serial: number): Sent {
  const envelope = { version: PROTOCOL_VERSION, patient, intent: { id: `intent-${serial}` } };
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': {},
    [META.context]: envelope,
  };
  const params = { name: tool.name, arguments: { category: 'laboratory' }, _meta };
  return {
    headers: {
      host: new URL(RESOURCE).host,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      authorization: `Bearer ${token}`,
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': tool.name,
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: serial, method: 'tools/call', params }),
  };
}

/** True of the answer that every measured request must get: all rows, and from a guarded server the binding too. */
export function isExpected(status: number, answer: string, guarded: boolean): boolean {
  if (status !== 200 || answer.includes('"isError"') || !answer.includes('"structuredContent"')) return false;
  return answer.includes(`"${META.context}":{"version"`) === guarded;
}
