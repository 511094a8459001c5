import {
  type AuditRecord,
  type Check,
  comparedByKey,
  HmcpError,
  keyedHash,
  methodClass,
  type NamedPatient,
  type PatientContext,
  patientKey,
  patientsNamed,
  type SealClaims,
  samePatient,
  type VerifiedToken,
} from '@hmcp/core';
import type { Inbound } from './admission.js';
import { hasShown } from './catalogue.js';
import type { AgentEnv } from './define-agent.js';

/** The fields of a record that every outcome of one request shares. */
export type RecordBase = Omit<AuditRecord, 'event' | 'outcome'>;

/**
 * Makes a record durable; nothing is released before it resolves.
 * @throws {HmcpError} 50302 when the sink cannot
 * @see protocol section 8
 */
export async function makeDurable(env: AgentEnv, record: AuditRecord): Promise<void> {
  try {
    await env.audit.append(record);
  } catch (cause) {
    env.log?.error({ err: cause }, 'an audit record could not be made durable');
    const hop = record.hop === undefined ? {} : { hop: record.hop };
    throw new HmcpError(50302, { by: env.resource, check: 'audit', ...hop, ...intentOf(record) });
  }
}

function intentOf({ intent }: AuditRecord): { intent?: string } {
  return intent === undefined ? {} : { intent };
}

/**
 * The fields of an audit record that say who asked for what about whom; the outcome is the caller's to add.
 * @param seal verified: its session and epoch are recorded, and the patient by the manager's key
 */
export async function describe(
  inbound: Inbound,
  env: AgentEnv,
  context: PatientContext | undefined,
  seal?: SealClaims,
): Promise<RecordBase> {
  const { token, method, params } = inbound;
  const own = inbound.operation !== undefined || hasShown(params.name, env);
  const tool = method === 'tools/call' && own && typeof params.name === 'string' ? params.name : undefined;
  const pseudonyms = pseudonymsOf(token, env);
  return {
    by: env.resource,
    hop: token.hop,
    issuer: token.issuer,
    subject: await pseudonyms.subject,
    clientId: token.clientId,
    actors: token.actors,
    jti: token.jti,
    txn: token.txn,
    sid: seal?.sid ?? token.sid,
    epoch: seal?.epoch,
    traceparent: inbound.traceparent,
    // A method nobody declared is the caller's text; only names of ours are written down.
    method: methodClass(method) !== 'context' || inbound.operation !== undefined || STANDARD.has(method) ? method : 'undeclared',
    tool,
    fhirUser: await pseudonyms.fhirUser,
    ...(context === undefined ? {} : await patientOf(context, pseudonyms, env, seal)),
  };
}

/** How a token's people are written down: the same for every request it comes with, so it is computed once and goes with the token. */
interface Pseudonyms {
  readonly subject: Promise<string>;
  readonly fhirUser: Promise<string | undefined>;
  /** Of the patient whom the token, or the policy, last named. */
  patient?: { readonly context: PatientContext; readonly pk: Promise<string> };
}

const written = new WeakMap<AgentEnv, WeakMap<VerifiedToken, Pseudonyms>>();

function pseudonymsOf(token: VerifiedToken, env: AgentEnv): Pseudonyms {
  let ofEnv = written.get(env);
  if (ofEnv === undefined) {
    ofEnv = new WeakMap();
    written.set(env, ofEnv);
  }
  let found = ofEnv.get(token);
  if (found === undefined) {
    const { fhirUser } = token;
    const practitioner = fhirUser !== undefined && /\/(Practitioner|PractitionerRole)\//.test(fhirUser);
    found = {
      subject: keyedHash(env.pseudonymKey, token.subject),
      fhirUser: fhirUser === undefined || practitioner ? Promise.resolve(fhirUser) : keyedHash(env.pseudonymKey, fhirUser),
    };
    ofEnv.set(token, found);
  }
  return found;
}

/** What a refusing check of a request compared, by pseudonym. @see protocol section 8 */
export async function comparedIn(
  inbound: Inbound,
  check: Check,
  env: AgentEnv,
  seal: SealClaims | undefined,
): Promise<Pick<RecordBase, 'compared'>> {
  const { token, params, variables, header, operation } = inbound;
  const asked = variables === undefined ? params : { ...params, variables };
  return compared(patientsNamed({ check, token, params: asked, header, operation, seal }), env);
}

/** Named patients as members of a record; none where nobody was named. */
export async function compared(named: readonly NamedPatient[], env: AgentEnv): Promise<Pick<RecordBase, 'compared'>> {
  return named.length === 0 ? {} : { compared: await comparedByKey(env.pseudonymKey, named) };
}

async function patientOf(
  context: PatientContext,
  pseudonyms: Pseudonyms,
  env: AgentEnv,
  seal: SealClaims | undefined,
): Promise<Pick<RecordBase, 'pk' | 'pkScope'>> {
  if (seal !== undefined) return { pk: seal.pk };
  if (pseudonyms.patient === undefined || !samePatient(pseudonyms.patient.context, context))
    pseudonyms.patient = { context, pk: patientKey(env.pseudonymKey, context) };
  return { pk: await pseudonyms.patient.pk, pkScope: 'local' };
}

/** Methods of MCP itself that are about a patient. */
export const STANDARD: ReadonlySet<string> = new Set([
  'tools/call',
  'prompts/get',
  'resources/read',
  'resources/list',
  'resources/subscribe',
  'resources/unsubscribe',
  'completion/complete',
  'subscriptions/listen',
]);
