import { ExchangeRefused, type ExchangeRequest, type TokenExchanger } from '@hmcp/auth';
import { type AuditRecord, type AuditSink, definePatientTool, HmcpError, parseScopes, type VerifiedToken } from '@hmcp/core';
import { RequestScope, type ScopeFacts } from '@hmcp/core/request-scope';
import * as z from 'zod';
import { type Agent, type AgentOptions, createAgent, type Peer } from '../../src/index.js';

export const FHIR = 'https://ehr.example/r4';
export const ANN = 'pt-ann-4711';
export const BO = 'pt-bo-0815';
export const NOW = Date.UTC(2026, 0, 5, 9, 0, 0);

/** What the tests call: one contract for good and faulty servers alike. */
export const listResults = definePatientTool({
  name: 'list-results',
  scope: 'patient/Observation.rs',
  onward: 'patient/Patient.r patient/Observation.rs',
  description: 'Results of the patient in context',
  input: z.object({ category: z.string().optional() }),
  output: z.object({ results: z.array(z.looseObject({ resourceType: z.literal('Observation') })) }),
});

export function observation(patient: string, value = 7) {
  return {
    resourceType: 'Observation',
    id: `obs-${value}`,
    status: 'final',
    code: { text: 'Potassium' },
    subject: { reference: `Patient/${patient}` },
    valueQuantity: { value },
  };
}

/** `ann` of `pt-ann-4711`: ids of intents and tokens must not hold the patient's. */
const nick = (patient: string) => patient.split('-')[1] ?? '';

/** Keeps audit records in memory; can be told to fail, or to report each record as it arrives. */
export class MemoryAudit implements AuditSink {
  readonly records: AuditRecord[] = [];
  failing: (record: AuditRecord) => boolean = () => false;
  onAppend: (record: AuditRecord) => void | Promise<void> = () => undefined;

  async append(record: AuditRecord): Promise<void> {
    if (this.failing(record)) throw new Error('disk full at /var/audit pt-ann-4711');
    await this.onAppend(record);
    this.records.push(record);
  }

  async close(): Promise<void> {}

  get events(): string[] {
    return this.records.map((record) => record.event);
  }
}

/** Hands out opaque tokens and remembers what was asked. */
export class TestExchanger implements TokenExchanger {
  readonly requests: ExchangeRequest[] = [];
  fault: 'refused' | 'unreachable' | undefined;

  async exchange(request: ExchangeRequest) {
    this.requests.push(request);
    if (this.fault === 'refused') throw new ExchangeRefused('invalid_target');
    if (this.fault === 'unreachable') throw new Error('connect ECONNREFUSED');
    const accessToken = `for-${new URL(request.resource).port}-from-${request.subjectToken}`;
    return { accessToken, scope: request.scope, expiresAt: NOW / 1000 + 120 };
  }
}

export interface World {
  readonly agent: Agent;
  readonly audit: MemoryAudit;
  readonly tokens: TestExchanger;
}

export function world(peers: readonly Peer[], options: Partial<AgentOptions> = {}): World {
  const audit = new MemoryAudit();
  const tokens = new TestExchanger();
  const agent = createAgent({
    name: 'triage',
    resource: 'https://triage.example/mcp',
    clientId: 'triage-client',
    peers,
    tokens,
    audit,
    pseudonymKey: 'a key of the tests',
    now: () => NOW,
    ...options,
  });
  return { agent, audit, tokens };
}

export function verifiedToken(patient: string, more: Partial<VerifiedToken> = {}): VerifiedToken {
  const scope = 'patient/hmcp:read patient/Observation.rs patient/Patient.r';
  return {
    issuer: 'https://as.example',
    subject: 'dr-grey',
    clientId: 'portal',
    audience: 'https://triage.example/mcp',
    scope,
    scopes: parseScopes(scope),
    jti: `jti-${nick(patient)}`,
    issuedAt: NOW / 1000 - 1,
    expiresAt: NOW / 1000 + 119,
    fhirServer: FHIR,
    patient,
    actors: [],
    chain: [],
    hop: 1,
    firstClient: 'portal',
    ...more,
  };
}

/** The scope of one inbound request about `patient`, as a server's guard makes it. */
export function scopeOf(patient: string, more: Partial<ScopeFacts> = {}): RequestScope {
  return new RequestScope({
    context: { fhirServer: FHIR, patient },
    token: verifiedToken(patient),
    accessToken: `access-${patient}`,
    envelope: { version: '1', patient, intent: { id: `intent-of-${nick(patient)}` } },
    by: 'https://triage.example/mcp',
    hop: 1,
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    ...more,
  });
}

/** The refusal a promise ends with; fails the test when it ends otherwise. */
export async function refusalOf(work: Promise<unknown>): Promise<HmcpError> {
  const error = await work.then(
    (value) => new Error(`was served: ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  if (!(error instanceof HmcpError)) throw new Error('ended without a refusal', { cause: error });
  return error;
}

/** A promise and its settling, for tests that hold something in the middle. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
