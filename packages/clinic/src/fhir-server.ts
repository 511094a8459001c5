import { AuthorityUnavailable, bearerChallenge, readBearer, TokenError, type TokenVerifier } from '@hmcp/auth';
import { type AuditRecord, type AuditSink, type Check, FhirId, keyedHash, patientKey, type VerifiedToken } from '@hmcp/core';
import { inCompartment, isFhirUser, scopePermits } from './fhir-access.js';
import { capabilityStatement } from './fhir-capability.js';
import { parseSearch, type Search, sortResources } from './fhir-search.js';
import { DIRECTORY_TYPES, type Records, type Resource } from './records.js';

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

/** A refusal on its way out. `reason` is for the audit, `says` for the caller; both are fixed words. */
class Refusal extends Error {
  readonly status: number;
  readonly check: Check;
  readonly reason: string;
  readonly outcome: { readonly code: string; readonly says: string };
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    check: Check,
    reason: string,
    outcome: { readonly code: string; readonly says: string },
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(reason);
    this.status = status;
    this.check = check;
    this.reason = reason;
    this.outcome = outcome;
    this.headers = headers;
  }
}

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
  if (base.endsWith('/') || verifier.resource !== base) throw new TypeError('"verifier.resource" must be "base", without a slash at the end');
  const root = new URL(base).pathname.replace(/\/$/, '');
  const startedOn = new Date((options.now ?? Date.now)()).toISOString();
  const statement = capabilityStatement({ base, types: records.types, smart: smartConfiguration, date: startedOn });

  const answer = (token: VerifiedToken, path: string, query: URLSearchParams): Answer => {
    const [, type, id] = PATH.exec(path) ?? [];
    if (type === undefined) throw notFound('no such path');
    if (token.fhirServer !== base) throw forbidden('token of another FHIR server', type, id);
    if (token.patient === undefined) throw forbidden('token without a patient', type, id, 'launch/patient ');
    return id === undefined ? search(token, type, query) : read(token, type, id, query);
  };

  const read = (token: VerifiedToken, type: string, id: string, query: URLSearchParams): Answer => {
    const resource = FhirId.safeParse(id).success ? records.read(type, id) : undefined;
    const permits = scopePermits(token, type, 'r');
    const self = resource !== undefined && isFhirUser(token, base, resource);
    if (permits === undefined && !self) throw forbidden('insufficient scope', type, id);
    for (const name of query.keys()) if (name !== '_format') throw invalid('a parameter that is not supported');
    if (resource === undefined) throw notFound('no such resource');
    if (!self && (!inCompartment(records, token, resource) || permits?.(resource) !== true)) throw notFound('outside the token');
    return { body: resource, resources: [resource] };
  };

  const search = (token: VerifiedToken, type: string, query: URLSearchParams): Answer => {
    const permits = scopePermits(token, type, 's');
    if (permits === undefined) throw forbidden('insufficient scope', type, undefined);
    if (!records.types.includes(type)) throw notFound('no such type');
    const isDirectoryType = DIRECTORY_TYPES.has(type);
    const parsed = parseSearch(type, query, isDirectoryType);
    if ('refused' in parsed) throw invalid(parsed.refused);
    const own = new Set([token.patient, `Patient/${token.patient}`, `${base}/Patient/${token.patient}`]);
    if (!parsed.patients.every((patient) => own.has(patient))) throw notFound('search for another patient');
    const rows = (isDirectoryType ? records.ofType(type) : records.ofPatient(token.patient ?? '', type)).filter(
      (resource) => inCompartment(records, token, resource) && permits(resource) && parsed.filters.every((filter) => filter(resource)),
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
      method: `fhir.${operationOf(path, records)}`,
    });
  };

  const decide = async (request: Request, url: URL): Promise<Response> => {
    const path = url.pathname.slice(root.length);
    let token: VerifiedToken | undefined;
    try {
      if (url.href.length > MAX_URL) throw new Refusal(414, 'size', 'long URL', { code: 'too-long', says: 'The URL is too long.' });
      if (request.method !== 'GET') throw notAllowed();
      token = await verifier.verify(readBearer(request));
      const { body, resources } = answer(token, path, url.searchParams);
      await record(request, path, token, { event: 'request.served', outcome: 0, types: countTypes(resources), ...CLAIM });
      return respond(200, body);
    } catch (error) {
      const refusal = error instanceof Refusal ? error : refusalOf(error);
      const { status, check, reason } = refusal;
      if (check !== 'audit') await record(request, path, token, { event: 'request.refused', outcome: 4, code: status, check, reason });
      return respond(status, operationOutcome(refusal.outcome), refusal.headers);
    }
  };

  return {
    async fetch(request) {
      const url = new URL(request.url);
      if (url.pathname !== root && !url.pathname.startsWith(`${root}/`)) return respond(404, operationOutcome(NOT_FOUND));
      const path = url.pathname.slice(root.length);
      if (request.method === 'GET' && path === '/metadata') return respondPublic(statement, FHIR_JSON);
      if (request.method === 'GET' && path === '/.well-known/smart-configuration')
        return respondPublic(smartConfiguration, 'application/json; charset=utf-8');
      try {
        return await decide(request, url);
      } catch {
        // The decision could not be recorded: nothing of it leaves.
        return respond(503, operationOutcome(UNRECORDED), { 'retry-after': '5' });
      }
    },
  };
}

type Decision = Pick<AuditRecord, 'event' | 'outcome' | 'code' | 'check' | 'reason' | 'types' | 'contextMethod'>;

const CLAIM = { contextMethod: 'claim' } as const;
const NOT_FOUND = { code: 'not-found', says: 'There is no such resource, or not for this access token.' };
const UNRECORDED = { code: 'transient', says: 'The request could not be recorded; try again later.' };

function notFound(reason: string): Refusal {
  return new Refusal(404, 'result', reason, NOT_FOUND);
}

function invalid(reason: string): Refusal {
  return new Refusal(400, 'argument', reason, { code: 'not-supported', says: `The request has ${reason}.` });
}

function notAllowed(): Refusal {
  return new Refusal(405, 'operation', 'method', { code: 'not-supported', says: 'Only GET is served.' }, { allow: 'GET' });
}

function forbidden(reason: string, type: string, id: string | undefined, launch = ''): Refusal {
  const scope = `${launch}patient/${type}.${id === undefined ? 's' : 'r'}`;
  const challenge = bearerChallenge({ error: 'insufficient_scope', description: 'the access token does not allow this', scope });
  const outcome = { code: 'forbidden', says: 'The access token does not allow this.' };
  return new Refusal(403, 'scope', reason, outcome, { 'www-authenticate': challenge });
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof TokenError) {
    const challenge = bearerChallenge({ error: error.error, description: error.error && error.message });
    const outcome = error.status === 400 ? { code: 'invalid', says: 'The request is malformed.' } : { code: 'login', says: 'A valid access token is needed.' };
    return new Refusal(error.status, 'token', error.reason, outcome, { 'www-authenticate': challenge });
  }
  if (error instanceof AuthorityUnavailable) {
    const outcome = { code: 'transient', says: 'Access tokens cannot be checked at the moment; try again later.' };
    return new Refusal(503, 'token', 'authority unavailable', outcome, { 'retry-after': String(error.retryAfterSeconds) });
  }
  return new Refusal(503, 'audit', 'not recorded', UNRECORDED, { 'retry-after': '5' });
}

function operationOutcome({ code, says }: { readonly code: string; readonly says: string }): object {
  return { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code, diagnostics: says }] };
}

function searchset(base: string, type: string, query: URLSearchParams, search: Search, total: number, page: readonly Resource[]): object {
  const next = new URLSearchParams(query);
  next.set('_offset', String(search.offset + search.count));
  const link = [{ relation: 'self', url: withQuery(`${base}/${type}`, query) }];
  if (search.count > 0 && search.offset + search.count < total) link.push({ relation: 'next', url: withQuery(`${base}/${type}`, next) });
  return {
    resourceType: 'Bundle',
    type: 'searchset',
    total,
    link,
    ...(page.length === 0
      ? {}
      : { entry: page.map((resource) => ({ fullUrl: `${base}/${type}/${resource.id}`, resource, search: { mode: 'match' } })) }),
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

/** `read Observation`, `search Observation`; a type that is not held is not repeated, it may be anything. */
function operationOf(path: string, records: Records): string {
  const [, type, id] = PATH.exec(path) ?? [];
  if (type === undefined || !records.types.includes(type)) return 'other';
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
