import type { VerifiedToken } from './access-token.js';
import type { CompartmentFault } from './compartment.js';
import { type Envelope, isSealed, parseEnvelope } from './envelope.js';
import type { Check } from './errors.js';
import { otherPatientIn } from './patient-arguments.js';
import { type PatientIdentity, patientKey } from './patient-context.js';
import type { Operation } from './patient-tool.js';
import type { SealClaims } from './seal.js';

/**
 * What can say whose record is meant. `context`: the patient a hop had established before it looked at an answer; `binding`: what
 * an answer says of itself.
 * @see protocol section 8
 */
export const COMPARED_SOURCES = ['token', 'seal', 'envelope', 'header', 'argument', 'context', 'result', 'binding'] as const;

/**
 * One side of a comparison that refused, as an audit record holds it. `pk` is always keyed by the writer's own key, so that those
 * of one record compare; absent where it could not be told who is named.
 * @see protocol section 8
 */
export interface ComparedPatient {
  readonly said: (typeof COMPARED_SOURCES)[number];
  /** Name of the argument, where it is the declared one or says "patient" itself; never another text of the caller. */
  readonly argument?: string | undefined;
  readonly pk?: string | undefined;
}

/** The same before it is keyed: holds clear ids, and so stays in memory. */
export interface NamedPatient {
  readonly said: ComparedPatient['said'];
  readonly argument?: string | undefined;
  readonly patient?: PatientIdentity | undefined;
}

/** The checks of a request that compare patients, or ask whether one may be seen. */
const COMPARING: ReadonlySet<Check> = new Set(['seal', 'equality', 'header', 'policy', 'argument']);

/** The faults of a result that say it is somebody else's, or may be. */
const WHOSE: ReadonlySet<string> = new Set<CompartmentFault>([
  'another patient',
  'another id under a name of the patient',
  'reference of unknown target',
  'no subject',
]);

/** What a refused request was compared by. */
export interface ComparedRequest {
  /** Which check refused. */
  readonly check: Check;
  readonly token: VerifiedToken;
  readonly params: Readonly<Record<string, unknown>>;
  readonly header?: string | undefined;
  readonly operation: Operation | undefined;
  /** Once verified. */
  readonly seal: SealClaims | undefined;
}

/**
 * Who named whom in a request that was refused, in the order in which a hop looks; empty where the check that refused compares
 * no patients. Decides nothing.
 * @see protocol section 3
 */
export function patientsNamed({ check, token, params, header, operation, seal }: ComparedRequest): readonly NamedPatient[] {
  if (!COMPARING.has(check)) return [];
  const { fhirServer, tenant } = token;
  const here = (patient: string, named = tenant): PatientIdentity => ({
    fhirServer,
    patient,
    ...(named === undefined ? {} : { tenant: named }),
  });
  const named: NamedPatient[] = [];
  if (token.patient !== undefined) named.push({ said: 'token', patient: here(token.patient) });
  const envelope = envelopeIn(params);
  if (envelope !== undefined && isSealed(envelope)) {
    const { fhirServer: server, tenant: sealed, patient } = seal ?? {};
    const who = server === undefined || patient === undefined ? undefined : { fhirServer: server, tenant: sealed, patient };
    named.push({ said: 'seal', ...(who === undefined ? {} : { patient: who }) });
  } else if (envelope !== undefined) named.push({ said: 'envelope', patient: here(envelope.patient, envelope.tenant) });
  if (header !== undefined) named.push({ said: 'header', patient: here(header) });
  if (check !== 'argument') return named;
  // Arguments are compared with whoever is named first, and looked at only when that was their turn.
  const context = named.find(({ patient }) => patient !== undefined)?.patient;
  const other = context === undefined ? undefined : otherPatientIn(params, context, operation);
  if (other !== undefined) named.push({ said: 'argument', ...other });
  return named;
}

/** What a withheld result was compared by; empty where its fault is no question of whose it is. @see protocol section 7 */
export function resultNamed(context: PatientIdentity, verdict: WithheldResult): readonly NamedPatient[] {
  if (!WHOSE.has(verdict.reason)) return [];
  const { named } = verdict;
  return [{ said: 'context', patient: context }, named === undefined ? { said: 'result' } : { said: 'result', patient: named }];
}

/** A verdict that something is withheld. */
export interface WithheldResult {
  readonly reason: string;
  readonly named?: PatientIdentity | undefined;
}

/** Keys what was named, for an audit record. @param key of the writer's own pseudonyms @see protocol section 8 */
export async function comparedByKey(
  key: string | Uint8Array,
  named: readonly NamedPatient[],
): Promise<readonly ComparedPatient[]> {
  return Promise.all(
    named.map(async ({ said, argument, patient }) => ({
      said,
      ...(argument === undefined ? {} : { argument }),
      ...(patient === undefined ? {} : { pk: await patientKey(key, patient) }),
    })),
  );
}

function envelopeIn({ _meta }: Readonly<Record<string, unknown>>): Envelope | undefined {
  const parsed = parseEnvelope(_meta);
  return 'malformed' in parsed ? undefined : parsed.envelope;
}
