import { readBearer, type TokenVerifier } from '@hmcp/auth';
import { type AuditRecord, type AuditSink, FhirId, keyedHash, patientKey, type VerifiedToken } from '@hmcp/core';
import { inCompartment, isFhirUser, scopePermits } from './fhir-access.js';
import { capabilityStatement } from './fhir-capability.js';
import { isJsonFormat, SERVED_TYPES } from './fhir-parameters.js';
import {
  forbidden,
  invalid,
  NOT_FOUND,
  notAllowed,
  notFound,
  operationOutcome,
  Refusal,
  refusalOf,
  tooLong,
  UNRECORDED,
} from './fhir-refusal.js';
import { DIRECTORY_TYPES, type Resource } from './fhir-resource.js';
import { parseSearch, type Search, sortResources } from './fhir-search.js';
import { summarized, summaryOf } from './fhir-summary.js';
import type { Records } from './records.js';

/** What a FHIR server is made from. */
export interface FhirServerOptions {
  /** Public FHIR base URL without a slash at the end: the audience of its tokens and the root of its `fullUrl`s. */
  readonly base: string;
  readonly records: Records;
  /** Checks tokens; its `resource` must be `base`. */
  readonly verifier: TokenVerifier;
  /** Every answer about a patient, and every refusal, is recorded here before it is released. */
  readonly audit: AuditSink;
  /** Key of the pseudonyms in the audit. */
  readonly auditKey: string | Uint8Array;
  /** Answer of `.well-known/smart-configuration`, as the authorization server publishes it. */
  readonly smartConfiguration: Readonly<Record<string, unknown>>;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
}

/** A FHIR R4 read and search API as a web-standard handler. */
export interface FhirServer {
  fetch(request: Request): Promise<Response>;
}

const MAX_URL = 4096;
const PATH = /^\/([A-Za-z][A-Za-z0-9]{0,63})(?:\/([^/]{1,64}))?$/;
const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;
const FHIR_JSON = 'application/fhir+json; charset=utf-8';

interface Answer {
  readonly body: object;
  readonly resources: readonly Resource[];
}

/**
 * The clinic's FHIR R4 API over records in memory: `metadata`, `.well-known/smart-configuration`, `{Type}/{id}` and
 * `{Type}?params`, GET only. It verifies each token itself and narrows everything to the token's `patient`: another patient's
 * resource, one outside the granted scopes and one that does not exist are the same 404, byte for byte, and so is a search
 * that names anybody else. Tokens without a patient are 403.
 * @throws {TypeError} when `verifier.resource` is not `base`
 * @see protocol sections 2.1, 7 and 8
 */
export function createFhirServer(options: FhirServerOptions): FhirServer {
  const { base, records, verifier, audit, auditKey, smartConfiguration } = options;
  if (base.endsWith('/') || verifier.resource !== base)
    throw new TypeError('"verifier.resource" must be "base", without a slash at the end');
  const root = new URL(base).pathname.replace(/\/$/, '');
  const startedOn = new Date((options.now ?? Date.now)()).toISOString();
  const statement = capabilityStatement({ base, smart: smartConfiguration, date: startedOn });

  const answer = (token: VerifiedToken, path: string, query: URLSearchParams): Answer => {
    const [, type, id] = PATH.exec(path) ?? [];
    if (type === undefined || !SERVED_TYPES.has(type)) throw notFound('no such path or type');
    if (token.fhirServer !== base) throw forbidden('token of another FHIR server', type, id);
    if (token.patient === undefined) throw forbidden('token without a patient', type, id, 'launch/patient ');
    return id === undefined ? search(token, type, query) : read(token, type, id, query);
  };

  const read = (token: VerifiedToken, type: string, id: string, query: URLSearchParams): Answer => {
    const resource = FhirId.safeParse(id).success ? records.read(type, id) : undefined;
    const permits = scopePermits(token, type, 'r');
    const self = resource !== undefined && isFhirUser(token, base, resource);
    if (permits === undefined && !self) throw forbidden('insufficient scope', type, id);
    const summary = summaryOf(query.get('_summary') ?? undefined);
    for (const [name, value] of query) {
      const served = name === '_summary' ? summary !== undefined : name === '_format' && isJsonFormat(value);
      if (!served || query.getAll(name).length > 1) throw invalid('a parameter that is not supported');
    }
    if (resource === undefined) throw notFound('no such resource');
    if (!self && (!inCompartment(records, token, resource) || permits?.(resource) !== true)) throw notFound('outside the token');
    return { body: summarized(resource, summary ?? 'all'), resources: [resource] };
  };

  const search = (token: VerifiedToken, type: string, query: URLSearchParams): Answer => {
    const permits = scopePermits(token, type, 's');
    if (permits === undefined) throw forbidden('insufficient scope', type, undefined);
    const parsed = parseSearch(type, query);
    if ('refused' in parsed) throw invalid(parsed.refused);
    const own = new Set([token.patient, `Patient/${token.patient}`, `${base}/Patient/${token.patient}`]);
    if (!parsed.patients.every((patient) => own.has(patient))) throw notFound('search for another patient', 'argument');
    const rows = (DIRECTORY_TYPES.has(type) ? records.ofType(type) : records.ofPatient(token.patient ?? '', type)).filter(
      (resource) =>
        inCompartment(records, token, resource) && permits(resource) && parsed.filters.every((filter) => filter(resource)),
    );
    const page = sortResources(rows, parsed.sort).slice(parsed.offset, parsed.offset + parsed.count);
    return { body: searchset(base, type, query, parsed, rows.length, page), resources: page };
  };

  const record = async (request: Request, path: string, token: VerifiedToken | undefined, decision: Decision): Promise<void> => {
    const traceparent = request.headers.get('traceparent') ?? '';
    await audit.append({
      ...decision,
      by: base,
      ...(await tokenFacts(token, auditKey)),
      ...(TRACEPARENT.test(traceparent) ? { traceparent } : {}),
      method: `fhir.${operationOf(path)}`,
    });
  };

  const decide = async (request: Request, url: URL): Promise<Response> => {
    const path = url.pathname.slice(root.length);
    let token: VerifiedToken | undefined;
    let result: Answer | Refusal;
    try {
      if (url.href.length > MAX_URL) throw tooLong();
      if (request.method !== 'GET') throw notAllowed();
      token = await verifier.verify(readBearer(request));
      result = answer(token, path, url.searchParams);
    } catch (error) {
      result = error instanceof Refusal ? error : refusalOf(error);
    }
    try {
      await record(request, path, token, decisionOf(result));
    } catch {
      return respond(503, operationOutcome(UNRECORDED), { 'retry-after': '5' });
    }
    if (result instanceof Refusal) return respond(result.status, operationOutcome(result.outcome), result.headers);
    return respond(200, result.body);
  };

  return {
    async fetch(request) {
      const url = new URL(request.url);
      if (url.pathname !== root && !url.pathname.startsWith(`${root}/`)) return respond(404, operationOutcome(NOT_FOUND));
      const path = url.pathname.slice(root.length);
      if (request.method === 'GET' && path === '/metadata') return respondPublic(statement, FHIR_JSON);
      if (request.method === 'GET' && path === '/.well-known/smart-configuration')
        return respondPublic(smartConfiguration, 'application/json; charset=utf-8');
      return decide(request, url);
    },
  };
}

type Decision = Pick<AuditRecord, 'event' | 'outcome' | 'code' | 'check' | 'reason' | 'types' | 'contextMethod'>;

function decisionOf(result: Answer | Refusal): Decision {
  if (!(result instanceof Refusal))
    return { event: 'request.served', outcome: 0, types: countTypes(result.resources), contextMethod: 'claim' };
  const { status, check, reason } = result;
  return { event: 'request.refused', outcome: status >= 500 ? 12 : 4, code: status, check, reason };
}

function searchset(
  base: string,
  type: string,
  query: URLSearchParams,
  search: Search,
  total: number,
  page: readonly Resource[],
): object {
  const next = new URLSearchParams(query);
  next.set('_offset', String(search.offset + search.count));
  const link = [{ relation: 'self', url: withQuery(`${base}/${type}`, query) }];
  if (search.count > 0 && search.offset + search.count < total)
    link.push({ relation: 'next', url: withQuery(`${base}/${type}`, next) });
  return {
    resourceType: 'Bundle',
    type: 'searchset',
    total,
    link,
    ...(page.length === 0
      ? {}
      : {
          entry: page.map((row) => ({
            fullUrl: `${base}/${type}/${row.id}`,
            resource: summarized(row, search.summary),
            search: { mode: 'match' },
          })),
        }),
  };
}

function withQuery(url: string, query: URLSearchParams): string {
  const text = query.toString();
  return text === '' ? url : `${url}?${text}`;
}

function respond(status: number, body: object, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { 'content-type': FHIR_JSON, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', ...headers },
  });
}

function respondPublic(body: object, contentType: string): Response {
  const headers = { 'content-type': contentType, 'cache-control': 'no-store', 'access-control-allow-origin': '*' };
  return new Response(JSON.stringify(body), { status: 200, headers });
}

/** `read Observation`, `search Observation`; a type that is not served is not repeated, it may be anything. */
function operationOf(path: string): string {
  const [, type, id] = PATH.exec(path) ?? [];
  if (type === undefined || !SERVED_TYPES.has(type)) return 'other';
  return `${id === undefined ? 'search' : 'read'} ${type}`;
}

async function tokenFacts(token: VerifiedToken | undefined, key: string | Uint8Array): Promise<Partial<AuditRecord>> {
  if (token === undefined) return {};
  const { issuer, clientId, actors, jti, txn, hop, sid, fhirServer, tenant, patient, fhirUser } = token;
  const practitioner = fhirUser !== undefined && /\/Practitioner(Role)?\/[A-Za-z0-9\-.]{1,64}$/.test(fhirUser);
  return {
    hop,
    issuer,
    subject: await keyedHash(key, token.subject),
    clientId,
    actors,
    jti,
    ...(txn === undefined ? {} : { txn }),
    ...(sid === undefined ? {} : { sid }),
    ...(fhirUser === undefined ? {} : { fhirUser: practitioner ? fhirUser : await keyedHash(key, fhirUser) }),
    ...(patient === undefined ? {} : { pk: await patientKey(key, { fhirServer, tenant, patient }), pkScope: 'local' as const }),
  };
}

function countTypes(resources: readonly Resource[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { resourceType } of resources) counts[resourceType] = (counts[resourceType] ?? 0) + 1;
  return counts;
}
