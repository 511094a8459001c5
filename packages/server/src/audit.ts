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
} from '@hmcp/core';
import type { Inbound } from './admission.js';
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
  const practitioner = token.fhirUser !== undefined && /\/(Practitioner|PractitionerRole)\//.test(token.fhirUser);
  const tool =
    method === 'tools/call' && inbound.operation !== undefined && typeof params.name === 'string' ? params.name : undefined;
  return {
    by: env.resource,
    hop: token.hop,
    issuer: token.issuer,
    subject: await keyedHash(env.pseudonymKey, token.subject),
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
    fhirUser:
      token.fhirUser === undefined
        ? undefined
        : practitioner
          ? token.fhirUser
          : await keyedHash(env.pseudonymKey, token.fhirUser),
    ...(context === undefined ? {} : await patientOf(context, env, seal)),
  };
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
  env: AgentEnv,
  seal: SealClaims | undefined,
): Promise<Pick<RecordBase, 'pk' | 'pkScope'>> {
  if (seal !== undefined) return { pk: seal.pk };
  return { pk: await patientKey(env.pseudonymKey, context), pkScope: 'local' };
}

const STANDARD = new Set([
  'tools/call',
  'prompts/get',
  'resources/read',
  'resources/list',
  'resources/subscribe',
  'resources/unsubscribe',
  'completion/complete',
  'subscriptions/listen',
]);
