import { request as httpRequest } from 'node:http';
import { AuthorityUnavailable, createTokenVerifier, type TokenVerifier } from '@hmcp/auth';
import { type AuditRecord, checkCompartment } from '@hmcp/core';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { chooseCharts } from '../src/charts.js';
import { type FhirListener, listenFhir } from '../src/fhir-listener.js';
import type { Resource } from '../src/fhir-resource.js';
import { createFhirServer, type FhirServer } from '../src/fhir-server.js';
import { shippedRecords } from '../src/people/shipped.js';
import { loadRecords } from '../src/records-folder.js';
import { startIssuer, type TestIssuer } from './test-issuer.js';

const BASE = 'http://127.0.0.1:9999/fhir';
const SMART = { authorization_endpoint: 'https://as.example/auth', token_endpoint: 'https://as.example/token' };
const records = process.env.HMCP_DATA ? await loadRecords(process.env.HMCP_DATA) : shippedRecords();
const { a, b } = chooseCharts(records);
const A = a.patient.id;
const B = b.patient.id;
const firstOf = (patient: string, type: string): Resource => records.ofPatient(patient, type)[0] as Resource;
const practitioner = records.ofType('Practitioner')[0] as Resource;

const written: AuditRecord[] = [];
let auditFails = false;
const audit = {
  append: async (record: AuditRecord) => {
    if (auditFails) throw new Error('disk full');
    written.push(record);
  },
  close: async () => {},
};

let issuer: TestIssuer;
let server: FhirServer;
let listener: FhirListener;
const serverWith = (verifier: TokenVerifier) =>
  createFhirServer({ base: BASE, records, verifier, audit, auditKey: 'audit key of the test', smartConfiguration: SMART });
beforeAll(async () => {
  issuer = await startIssuer(BASE);
  server = serverWith(createTokenVerifier({ resource: BASE, issuers: [{ issuer: issuer.issuer, fhirServer: BASE }] }));
  listener = await listenFhir(server, { base: BASE });
});
afterAll(async () => {
  await listener.close();
  await issuer.close();
});
beforeEach(() => {
  written.length = 0;
  auditFails = false;
});

interface Got {
  readonly status: number;
  readonly text: string;
  readonly headers: Headers;
  readonly body: Resource & {
    entry?: { resource: Resource; fullUrl: string }[];
    total?: number;
    link?: { relation: string; url: string }[];
  };
}
/** Over loopback HTTP, as a client would. */
async function get(path: string, token?: string, init: RequestInit = {}): Promise<Got> {
  const headers = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(init.headers as Record<string, string>),
  };
  const response = await fetch(`http://127.0.0.1:${listener.port}/fhir/${path}`, { ...init, headers });
  const text = await response.text();
  return { status: response.status, text, headers: response.headers, body: text === '' ? {} : JSON.parse(text) };
}
const tokenFor = (patient: string, scope = 'launch/patient patient/*.rs') => issuer.mint({ patient, scope });
/** What must be equal in two answers so that nothing is told: everything but the clock. */
const seen = ({ status, text, headers }: Got) => [status, text, [...headers].filter(([name]) => name !== 'date')];
const idsOf = ({ body }: Got) => (body.entry ?? []).map(({ resource }) => resource.id);

describe('what anybody may read', () => {
  it('is the CapabilityStatement, with the search parameters that are served', async () => {
    const { status, body, headers } = await get('metadata');
    expect([status, body.resourceType, headers.get('content-type')]).toEqual([
      200,
      'CapabilityStatement',
      'application/fhir+json; charset=utf-8',
    ]);
    expect(JSON.stringify(body)).toContain(SMART.token_endpoint);
    expect(JSON.stringify(body)).toContain('"name":"category","type":"token"');
  });

  it('is the SMART configuration, as it was given, from any origin', async () => {
    const { body, headers } = await get('.well-known/smart-configuration');
    expect(body).toEqual(SMART);
    expect(headers.get('access-control-allow-origin')).toBe('*');
  });

  it('says nothing about who is here', async () => {
    const { text } = await get('metadata');
    for (const { id } of records.ofType('Patient')) expect(text).not.toContain(id);
    expect(written).toEqual([]);
  });
});

describe('a token of patient A', () => {
  it('reads A', async () => {
    const { status, body, headers } = await get(`Patient/${A}`, await tokenFor(A));
    expect([status, body.id, headers.get('cache-control')]).toEqual([200, A, 'no-store']);
  });

  it.each([
    'Observation',
    'MedicationRequest',
    'Condition',
    'Encounter',
    'DiagnosticReport',
  ])('finds every %s of A, and of nobody else', async (type) => {
    const { body } = await get(type, await tokenFor(A));
    expect(body.entry?.map(({ resource }) => resource.id).sort() ?? []).toEqual(
      records
        .ofPatient(A, type)
        .map(({ id }) => id)
        .sort(),
    );
    expect(body.total).toBe(records.ofPatient(A, type).length);
    for (const { fullUrl, resource } of body.entry ?? []) expect(fullUrl).toBe(`${BASE}/${type}/${resource.id}`);
    expect(JSON.stringify(body)).not.toContain(B);
    expect(JSON.stringify(body)).not.toContain('urn:uuid:');
  });

  it.each([
    ['patient', A],
    ['subject', A],
    ['patient', `Patient/${A}`],
    ['subject', `${BASE}/Patient/${A}`],
  ])('may say so: %s=%s', async (name, value) => {
    const { body } = await get(`Observation?${name}=${encodeURIComponent(value)}`, await tokenFor(A));
    expect(body.total).toBe(records.ofPatient(A, 'Observation').length);
  });

  it.each([
    'Patient',
    'Observation',
    'MedicationRequest',
  ])('finds every %s such that an agent’s own check lets it through', async (type) => {
    const { body } = await get(type, await tokenFor(A));
    const verdict = checkCompartment(body, { patient: { fhirServer: BASE, patient: A }, sourceBase: BASE });
    expect(verdict).toMatchObject({ inside: true });
    expect(checkCompartment(body, { patient: { fhirServer: BASE, patient: B }, sourceBase: BASE }).inside).toBe(
      (body.entry ?? []).length === 0,
    );
  });

  it('finds only A among the patients', async () => {
    expect(idsOf(await get('Patient', await tokenFor(A)))).toEqual([A]);
  });

  it('reads the staff with a scope for it', async () => {
    expect((await get(`Practitioner/${practitioner.id}`, await tokenFor(A, 'patient/Practitioner.r'))).status).toBe(200);
    expect((await get(`Practitioner/${practitioner.id}`, await tokenFor(A, 'patient/Observation.rs'))).status).toBe(403);
  });

  it('pages through all, each once', async () => {
    const token = await tokenFor(A);
    const ids: string[] = [];
    let path: string | undefined = 'Observation?_count=7&_sort=-date';
    for (let page = 0; path !== undefined && page < 50; page += 1) {
      const got: Got = await get(path, token);
      ids.push(...idsOf(got));
      path = got.body.link?.find(({ relation }) => relation === 'next')?.url.slice(`${BASE}/`.length);
    }
    expect(new Set(ids)).toEqual(new Set(records.ofPatient(A, 'Observation').map(({ id }) => id)));
    expect(ids).toHaveLength(records.ofPatient(A, 'Observation').length);
  });
});

describe('another patient', () => {
  const missing = async (patient: string, path = 'Observation/no-such-id') => seen(await get(path, await tokenFor(patient)));

  it.each([
    ['a patient', () => `Patient/${B}`],
    ['an observation', () => `Observation/${firstOf(B, 'Observation').id}`],
    ['an encounter', () => `Encounter/${firstOf(B, 'Encounter').id}`],
    ['a search by patient', () => `Observation?patient=${B}`],
    ['a search by subject reference', () => `Observation?subject=Patient/${B}`],
    ['a search by absolute reference', () => `Observation?patient=${encodeURIComponent(`${BASE}/Patient/${B}`)}`],
    ['a search for both', () => `Observation?patient=${A},${B}`],
    ['a search for one, then the other', () => `Observation?patient=${A}&patient=${B}`],
    ['a search by id and patient', () => `Observation?_id=${firstOf(B, 'Observation').id}&patient=${B}`],
    ['a search for nobody', () => 'Observation?patient=no-such-patient'],
    ['a search for a longer id', () => `Observation?patient=${A}1`],
    ['a search for a shorter id', () => `Observation?patient=${A.slice(0, -1)}`],
    [
      'a search for the same id elsewhere',
      () => `Observation?patient=${encodeURIComponent(`https://other.example/fhir/Patient/${A}`)}`,
    ],
    ['a search for a group', () => `Observation?subject=Group/${A}`],
  ])('%s is the same answer as one that does not exist, byte for byte', async (_name, path) => {
    const got = await get(path(), await tokenFor(A));
    expect(seen(got)).toEqual(await missing(A));
    expect(got.status).toBe(404);
    expect(got.text).not.toContain(B);
  });

  it('found by id is as little there as an id nobody has', async () => {
    const token = await tokenFor(A);
    const other = firstOf(B, 'Observation').id;
    const found = async (id: string) => (await get(`Observation?_id=${id}`, token)).text.replaceAll(id, 'ID');
    expect(await found(other)).toBe(await found('no-such-id'));
  });

  it('is not found by any search', async () => {
    const token = await tokenFor(A);
    const theirs = new Set(records.ofPatient(B).map(({ id }) => id));
    for (const type of records.types.filter((it) => it !== 'Practitioner'))
      expect(idsOf(await get(type, token)).filter((id) => theirs.has(id))).toEqual([]);
  });

  it('is read with a token of that patient: the difference is the token', async () => {
    expect((await get(`Patient/${B}`, await tokenFor(B))).status).toBe(200);
  });
});

describe('tokens that are not enough', () => {
  it.each([
    ['none', undefined, 401, 'Bearer'],
    [
      'one of another audience',
      { patient: A, scope: 'patient/*.rs', aud: 'http://127.0.0.1:9999/labs' },
      401,
      'Bearer error="invalid_token"',
    ],
    [
      'one of two audiences',
      { patient: A, scope: 'patient/*.rs', aud: [BASE, 'http://127.0.0.1:9999/labs'] },
      401,
      'Bearer error="invalid_token"',
    ],
    [
      'one of another issuer',
      { patient: A, scope: 'patient/*.rs', iss: 'https://as.example' },
      401,
      'Bearer error="invalid_token"',
    ],
    ['an expired one', { patient: A, scope: 'patient/*.rs', exp: 1 }, 401, 'Bearer error="invalid_token"'],
    ['a patient scope without a patient', { scope: 'patient/*.rs' }, 401, 'Bearer error="invalid_token"'],
    ['one bound to a key', { patient: A, scope: 'patient/*.rs', cnf: { jkt: 'x' } }, 401, 'Bearer error="invalid_token"'],
    ['a user scope without a patient', { scope: 'user/*.rs' }, 403, 'launch/patient patient/Observation.s'],
    ['a system scope without a patient', { scope: 'system/*.rs', sub: 'portal' }, 403, 'launch/patient patient/Observation.s'],
    ['no scope', { patient: A }, 403, 'scope="patient/Observation.s"'],
    ['a scope of another type', { patient: A, scope: 'patient/Condition.rs' }, 403, 'scope="patient/Observation.s"'],
    ['a scope to read only', { patient: A, scope: 'patient/Observation.r' }, 403, 'scope="patient/Observation.s"'],
    ['a scope to write', { patient: A, scope: 'patient/Observation.cud' }, 403, 'insufficient_scope'],
    ['an agent’s scope', { patient: A, scope: 'patient/hmcp:read' }, 403, 'insufficient_scope'],
    ['a system scope with a human', { patient: A, scope: 'system/*.rs launch/patient' }, 403, 'insufficient_scope'],
    ['a malformed scope', { patient: A, scope: 'patient/observation.rs patient/Observation.sr' }, 403, 'insufficient_scope'],
    [
      'a constraint that is not served',
      { patient: A, scope: 'patient/Observation.rs?value-quantity=5' },
      403,
      'insufficient_scope',
    ],
    [
      'a constraint that cannot be read',
      { patient: A, scope: 'patient/Observation.rs?date=sometimes' },
      403,
      'insufficient_scope',
    ],
    ['a constraint with a modifier', { patient: A, scope: 'patient/Observation.rs?code:in=http://x' }, 403, 'insufficient_scope'],
  ])('%s', async (_name, claims, status, challenge) => {
    const got = await get('Observation', claims && (await issuer.mint(claims)));
    expect(got.status).toBe(status);
    expect(got.headers.get('www-authenticate')).toContain(challenge);
    expect(got.body.resourceType).toBe('OperationOutcome');
    expect(got.headers.get('cache-control')).toBe('no-store');
    expect(got.text).not.toContain(A);
    expect(written).toMatchObject([{ event: 'request.refused', outcome: 4, code: status }]);
  });

  it('one in the query, or two in the header, are malformed', async () => {
    const token = await tokenFor(A);
    expect((await get(`Observation?access_token=${token}`)).status).toBe(400);
    const status = await new Promise((resolve, reject) => {
      const headers = ['Host', 'x', 'Authorization', `Bearer ${token}`, 'Authorization', `Bearer ${token}`];
      httpRequest({ port: listener.port, host: '127.0.0.1', path: '/fhir/Observation', headers }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on('error', reject)
        .end();
    });
    expect(status).toBe(400);
  });

  it('keys that cannot be had are 503 and Retry-After', async () => {
    const unavailable = serverWith({ resource: BASE, verify: () => Promise.reject(new AuthorityUnavailable('x', 7)) });
    const response = await unavailable.fetch(new Request(`${BASE}/Observation`, { headers: { authorization: 'Bearer x' } }));
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '7']);
  });

  it('a token whose issuer answers for another FHIR server is 403', async () => {
    const issuers = [{ issuer: issuer.issuer, fhirServer: 'https://other.example/fhir' }];
    const elsewhere = serverWith(createTokenVerifier({ resource: BASE, issuers }));
    const authorization = `Bearer ${await tokenFor(A)}`;
    expect((await elsewhere.fetch(new Request(`${BASE}/Observation`, { headers: { authorization } }))).status).toBe(403);
  });
});

describe('scopes', () => {
  const laboratory = records
    .ofPatient(A, 'Observation')
    .filter(({ category }) => JSON.stringify(category).includes('"laboratory"'));

  it.each([
    'patient/Observation.rs?category=laboratory',
    'patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory',
    'user/Observation.rs?category=laboratory',
  ])('%s admits laboratory results only', async (scope) => {
    const token = await tokenFor(A, scope);
    expect(new Set(idsOf(await get('Observation', token)))).toEqual(new Set(laboratory.map(({ id }) => id)));
    expect((await get(`Observation/${laboratory[0]?.id}`, token)).status).toBe(200);
  });

  it('with a constraint make what does not match the same as what does not exist', async () => {
    const token = await tokenFor(A, 'patient/Observation.rs?category=vital-signs');
    expect(seen(await get(`Observation/${laboratory[0]?.id}`, token))).toEqual(seen(await get('Observation/no-such-id', token)));
  });

  it('are a union: each admits its own rows', async () => {
    const [one, two] = laboratory as [Resource, Resource];
    const code = (resource: Resource) => (resource.code as { coding: { code: string }[] }).coding[0]?.code;
    const token = await tokenFor(A, `patient/Observation.s?code=${code(one)} patient/Observation.s?code=${code(two)}`);
    const expected = laboratory.filter((it) => code(it) === code(one) || code(it) === code(two)).map(({ id }) => id);
    expect(new Set(idsOf(await get('Observation', token)))).toEqual(new Set(expected));
  });

  it('of SMART version 1 and of HMCP mean the same', async () => {
    for (const scope of ['patient/Observation.read', 'patient/read.Observation', 'user/Observation.rs'])
      expect((await get('Observation', await tokenFor(A, scope))).body.total).toBe(records.ofPatient(A, 'Observation').length);
  });
});

describe('fhirUser', () => {
  const scope = 'openid fhirUser patient/Observation.rs';
  const at = `Practitioner/${practitioner.id}`;

  it('is readable with the token that names it', async () => {
    expect((await get(at, await issuer.mint({ patient: A, scope, fhirUser: `${BASE}/${at}` }))).status).toBe(200);
  });

  it.each([
    ['without the scope', { scope: 'openid patient/Observation.rs', fhirUser: `${BASE}/${at}` }],
    ['of another server', { scope, fhirUser: `https://other.example/fhir/${at}` }],
    ['as a relative reference', { scope, fhirUser: at }],
    ['somebody else', { scope, fhirUser: `${BASE}/Practitioner/x` }],
  ])('is not: %s', async (_name, claims) => {
    expect((await get(at, await issuer.mint({ patient: A, ...claims }))).status).toBe(403);
  });

  it('opens no other patient', async () => {
    const token = await issuer.mint({ patient: A, scope: 'fhirUser patient/*.rs', fhirUser: `${BASE}/Patient/${B}` });
    expect((await get(`Patient/${B}`, token)).status).toBe(404);
  });
});

describe('requests that are not served', () => {
  it.each([
    ['_include=Observation:subject', 400],
    ['_revinclude=Provenance:target', 400],
    ['_has:Observation:patient:code=1', 400],
    ['patient.name=x', 400],
    ['subject:Patient.name=x', 400],
    ['patient:Patient=x', 400],
    ['code:in=http://x', 400],
    ['category:not=laboratory', 400],
    ['_elements=id', 400],
    ['_summary=count', 400],
    ['_summary=true', 400],
    ['_summary=text', 400],
    ['_summary=', 400],
    ['_summary=data&_summary=false', 400],
    ['_filter=x', 400],
    ['_format=xml', 400],
    ['nonsense=1', 400],
    ['__proto__=1', 400],
    ['constructor=1', 400],
    ['=1', 400],
    ['code=', 400],
    ['code=a,,b', 400],
    ['code=a|b|c', 400],
    ['code=|', 400],
    ['code=a%5Cb', 400],
    ['code=%00', 400],
    ['code=%FF', 400],
    [`code=${'x'.repeat(513)}`, 400],
    ['status=http://hl7.org/fhir/observation-status|final', 400],
    ['date=yesterday', 400],
    ['date=ap2020', 400],
    ['date=2020-02-31', 400],
    ['date=ge', 400],
    ['_count=-1', 400],
    ['_count=1e3', 400],
    ['_count=9999999', 400],
    ['_count=1&_count=2', 400],
    ['_sort=code', 400],
    ['_sort=', 400],
    ['_id=../Patient', 400],
    [Array.from({ length: 21 }, () => 'code=1').join('&'), 400],
    [`code=${'x'.repeat(5000)}`, 414],
  ])('a search with %.50s', async (query, status) => {
    const got = await get(`Observation?${query}`, await tokenFor(A));
    expect(got.status).toBe(status);
    expect(got.body).toMatchObject({ resourceType: 'OperationOutcome', issue: [{ severity: 'error' }] });
    expect(written).toHaveLength(1);
  });

  it.each([
    '',
    'Observation/',
    'observation',
    'Nonsense',
    'Bundle',
    'Patient/%2e%2e%2fObservation',
    `Patient/${encodeURIComponent(A).replace(/^./, (it) => `%${it.charCodeAt(0).toString(16)}`)}`,
    `Patient/${A}/$everything`,
    `Patient/${A}/_history/1`,
    `Patient/${A}/Observation`,
    'Observation/_search',
    'Patient/$match',
    '_history',
    `Patient/${'a'.repeat(65)}`,
    'constructor',
  ])('a path that is not there: %s', async (path) => {
    expect((await get(path, await tokenFor(A))).status).toBe(404);
  });

  it.each(['POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'])('%s', async (method) => {
    const got = await get('Observation', await tokenFor(A), { method });
    expect([got.status, got.headers.get('allow')]).toEqual([405, 'GET']);
  });

  it('a read with parameters', async () => {
    const token = await tokenFor(A);
    expect((await get(`Patient/${A}?_format=json`, token)).status).toBe(200);
    expect((await get(`Patient/${A}?_format=xml`, token)).status).toBe(400);
    expect((await get(`Patient/${A}?_elements=name`, token)).status).toBe(400);
    for (const query of ['_summary=count', '_summary=', '_summary=data&_summary=data'])
      expect((await get(`Patient/${A}?${query}`, token)).status, query).toBe(400);
  });

  it('but `_summary=data` is: the same rows without their narrative, marked as such', async () => {
    const token = await tokenFor(A);
    const full = (await get(`Patient/${A}`, token)).body as Record<string, unknown>;
    const { text: _, meta, ...data } = full as { text?: unknown; meta?: { tag?: unknown[] } };
    const tag = { system: 'http://terminology.hl7.org/CodeSystem/v3-ObservationValue', code: 'SUBSETTED' };
    const subsetted = { ...data, meta: { ...meta, tag: [...(meta?.tag ?? []), tag] } };
    expect((await get(`Patient/${A}?_summary=data`, token)).body).toEqual(subsetted);
    expect((await get(`Patient/${A}?_summary=false`, token)).body).toEqual(full);
    const ids = async (query: string) => {
      const { entry = [] } = (await get(`Observation${query}`, token)).body as { entry?: { resource: { id: string } }[] };
      return entry.map(({ resource }) => resource.id);
    };
    expect(await ids('?_summary=data')).toEqual(await ids(''));
  });

  it('a path outside the base', async () => {
    expect((await server.fetch(new Request('http://127.0.0.1:9999/fhirx/metadata'))).status).toBe(404);
  });

  it('any query is answered 200, 400, 404 or 414, with no other patient in it', async () => {
    const authorization = `Bearer ${await tokenFor(A)}`;
    const theirs = records.ofPatient(B).map(({ id }) => id);
    const name = fc.constantFrom(
      'patient',
      'subject',
      'code',
      'category',
      'date',
      '_id',
      '_count',
      '_sort',
      'status',
      '_offset',
      'x',
    );
    const value = fc.oneof(
      fc.string(),
      fc.constantFrom(A, B, `Patient/${B}`, `${A},${B}`, 'laboratory', 'ge2000', '-date', '10', ...theirs.slice(0, 5)),
    );
    const query = fc.array(fc.tuple(name, value), { maxLength: 4 }).map((pairs) => new URLSearchParams(pairs).toString());
    await fc.assert(
      fc.asyncProperty(query, async (text) => {
        const response = await server.fetch(new Request(`${BASE}/Observation?${text}`, { headers: { authorization } }));
        expect([200, 400, 404, 414]).toContain(response.status);
        const body = (await response.json()) as { entry?: { resource: Resource }[] };
        expect((body.entry ?? []).every(({ resource }) => records.patientOf(resource) === A)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });
});

describe('the audit', () => {
  it('of a served request has who, what and for whom, and no id', async () => {
    const act = { sub: 'labs' };
    const __hmcp = { v: 1, chain: [{ jti: 'j0', client_id: 'portal', aud: 'urn:labs', scope: 'patient/*.rs' }] };
    const claims = {
      patient: A,
      scope: 'patient/Observation.rs',
      client_id: 'labs',
      act,
      __hmcp,
      txn: 't1',
      fhirUser: `${BASE}/Practitioner/d`,
    };
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    await get(`Observation?patient=${A}`, await issuer.mint(claims), { headers: { traceparent } });
    expect(written).toHaveLength(1);
    expect(written[0]).toMatchObject({
      event: 'request.served',
      outcome: 0,
      by: BASE,
      hop: 2,
      clientId: 'labs',
      actors: ['labs'],
      txn: 't1',
      method: 'fhir.search Observation',
      types: { Observation: records.ofPatient(A, 'Observation').length },
      fhirUser: `${BASE}/Practitioner/d`,
      pkScope: 'local',
      traceparent,
    });
    expect(written[0]?.pk).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(JSON.stringify(written)).not.toMatch(new RegExp(`${A}|clinician`));
  });

  it('has one pk for a patient and another for the other', async () => {
    for (const patient of [A, A, B]) await get(`Patient/${patient}`, await tokenFor(patient));
    const [one, two, three] = written.map(({ pk }) => pk);
    expect(one).toBe(two);
    expect(one).not.toBe(three);
  });

  it('of a refused one has code, check and fixed words, nothing of the request', async () => {
    await get(`Patient/${B}`, await tokenFor(A));
    await get(`Canaryname/${B}?name=Canaryname`, await tokenFor(A), { headers: { traceparent: 'Canaryname' } });
    await get(`Patient/${B}`, 'Canaryname');
    expect(written.map(({ code, check, method }) => [code, check, method])).toEqual([
      [404, 'result', 'fhir.read Patient'],
      [404, 'result', 'fhir.other'],
      [401, 'token', 'fhir.read Patient'],
    ]);
    expect(JSON.stringify(written)).not.toMatch(new RegExp(`Canaryname|${B}|${A}`));
  });

  it('a patient’s own fhirUser is not readable in it', async () => {
    await get(`Patient/${A}`, await issuer.mint({ patient: A, scope: 'patient/*.rs', fhirUser: `${BASE}/Patient/${A}` }));
    expect(JSON.stringify(written)).not.toContain(A);
  });

  it('that cannot be written lets nothing out', async () => {
    auditFails = true;
    for (const got of [
      await get(`Patient/${A}`, await tokenFor(A)),
      await get(`Patient/${B}`, await tokenFor(A)),
      await get('Patient/x'),
    ]) {
      expect([got.status, got.body.resourceType, got.headers.get('retry-after')]).toEqual([503, 'OperationOutcome', '5']);
      expect(got.text).not.toContain(A);
    }
  });
});

it('a verifier of another audience is refused at the start', () => {
  expect(() => serverWith({ resource: 'http://127.0.0.1:9999/labs', verify: () => Promise.reject(new Error()) })).toThrow(
    TypeError,
  );
});

it('an error of the program is 500 and says nothing', async () => {
  const broken = serverWith({ resource: BASE, verify: () => Promise.reject(new Error('Canaryname')) });
  const response = await broken.fetch(new Request(`${BASE}/Patient`, { headers: { authorization: 'Bearer x' } }));
  expect(response.status).toBe(500);
  expect(await response.text()).not.toContain('Canaryname');
  expect(written).toMatchObject([{ outcome: 12, code: 500, reason: 'internal error' }]);
});
