import { AuthorityUnavailable, TokenError, type TokenVerifier } from '@hmcp/auth';
import {
  type AuditRecord,
  type AuditSink,
  definePatientTool,
  META,
  type OperationTable,
  parseScopes,
  type VerifiedToken,
} from '@hmcp/core';
import * as z from 'zod';
import type { AgentEnv } from '../../src/index.js';

export const RESOURCE = 'http://127.0.0.1:4810/mcp';
export const FHIR = 'https://ehr.example/r4';
export const ANN = 'pt-ann-4711';
export const BO = 'pt-bo-0815';
/** Planted where nothing may come from: must stand in no answer, log or record. */
export const SECRET = 'canary-9f3c1d-potassium-of-bo';

/** Every patient id and planted text that no refusal may carry. */
export const NEVER: readonly string[] = [ANN, BO, SECRET];

/** Signs nothing: hands out opaque words and knows what each stands for. */
export class TestIssuer implements TokenVerifier {
  readonly resource: string;
  readonly #tokens = new Map<string, VerifiedToken>();
  down = false;

  constructor(resource = RESOURCE) {
    this.resource = resource;
  }

  /** A token for `patient` with everything the surfaces need; `more` replaces claims. */
  issue(patient: string | undefined, more: Partial<VerifiedToken> = {}): string {
    const scope = more.scope ?? (patient === undefined ? 'user/*.rs hmcp:read' : 'patient/*.rs patient/hmcp:read');
    const word = `token-${this.#tokens.size + 1}`;
    this.#tokens.set(word, {
      issuer: 'https://as.example',
      subject: 'dr-grey',
      clientId: 'portal',
      audience: RESOURCE,
      scope,
      scopes: parseScopes(scope),
      jti: `jti-${this.#tokens.size + 1}`,
      issuedAt: Math.floor(Date.now() / 1000) - 1,
      expiresAt: Math.floor(Date.now() / 1000) + 300,
      fhirServer: FHIR,
      patient,
      actors: [],
      chain: [],
      hop: 1,
      firstClient: 'portal',
      ...more,
    });
    return word;
  }

  async verify(accessToken: string): Promise<VerifiedToken> {
    if (this.down) throw new AuthorityUnavailable('keys unreachable', 7);
    const token = this.#tokens.get(accessToken);
    if (!token) throw new TokenError('invalid_token', 'unknown');
    return token;
  }
}

/** Keeps records in memory; can fail, or make the program wait for one. */
export class MemoryAudit implements AuditSink {
  readonly records: AuditRecord[] = [];
  failing = false;
  /** Awaited before a record counts as durable. */
  hold: Promise<void> | undefined;
  /** How many records came while something was held. */
  waiting = 0;

  async append(record: AuditRecord): Promise<void> {
    if (this.failing) throw new Error(`no space left on /var/audit/${SECRET}`);
    if (this.hold !== undefined) this.waiting += 1;
    await this.hold;
    this.records.push(record);
  }

  async close(): Promise<void> {}

  get last(): AuditRecord | undefined {
    return this.records.at(-1);
  }

  of(event: AuditRecord['event']): AuditRecord[] {
    return this.records.filter((record) => record.event === event);
  }
}

export interface World {
  readonly env: AgentEnv;
  readonly issuer: TestIssuer;
  readonly audit: MemoryAudit;
  /** Everything that was logged, as text. */
  readonly logged: string[];
}

export function world(more: Partial<AgentEnv> = {}): World {
  const issuer = new TestIssuer();
  const audit = new MemoryAudit();
  const logged: string[] = [];
  const write = (fields: object, notice: string) => logged.push(JSON.stringify({ ...fields, err: undefined, notice }));
  const env: AgentEnv = {
    resource: RESOURCE,
    authorizationServers: ['https://as.example'],
    verifier: issuer,
    audit,
    pseudonymKey: 'a key of the tests',
    log: { warn: write, error: write },
    ...more,
  };
  return { env, issuer, audit, logged };
}

export function observation(patient: string, value: number | string = 7) {
  return {
    resourceType: 'Observation' as const,
    id: `obs-${value}`,
    status: 'final',
    code: { text: 'Potassium' },
    subject: { reference: `Patient/${patient}` },
    valueString: String(value),
  };
}

export const Results = z.object({ results: z.array(z.looseObject({ resourceType: z.literal('Observation') })) });

export const listResults = definePatientTool({
  name: 'list-results',
  scope: 'patient/Observation.rs',
  description: 'Results of the patient in context',
  input: z.object({ category: z.string().optional() }),
  output: Results,
});

/** A plain envelope as `_meta`. */
export function envelope(patient: string, intent = 'intent-1', more: object = {}) {
  return { [META.context]: { version: '1', patient, intent: { id: intent }, ...more } };
}

/** One declaration that the tokens of {@link TestIssuer.issue} satisfy. */
export const READ = { scope: 'patient/Observation.rs' } as const;
export type { OperationTable };
