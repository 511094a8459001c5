import { checkCompartment } from './compartment.js';
import { FhirId, type PatientContext, type PatientIdentity } from './patient-context.js';
import { DEEPEST, saysPatient } from './patient-keys.js';
import type { Operation } from './patient-tool.js';

/** The argument that names another patient, as far as it can be told; ids and names for a keyed hash only. */
export interface OtherPatient {
  /** Name of the argument: the declared one, or one that says "patient" itself. Absent where it is the caller's own text. */
  readonly argument?: string | undefined;
  /** Whom it names; absent where that cannot be told. */
  readonly patient?: PatientIdentity | undefined;
}

/**
 * True when a request's arguments or URI name a patient other than the one in context: the declared patient argument,
 * an argument with a patient's name for a key, or a FHIR resource, reference or mention of another patient anywhere in them.
 * What cannot be told (a reference of unknown target, a resource of unknown type) counts as another patient.
 * @see protocol section 7
 */
export function namesAnotherPatient(params: unknown, context: PatientContext, operation: Operation | undefined): boolean {
  return otherPatientIn(params, context, operation) !== undefined;
}

/** What {@link namesAnotherPatient} found, for the audit of a refusal; `undefined` when nobody else is named. @see protocol section 7 */
export function otherPatientIn(
  params: unknown,
  context: PatientContext,
  operation: Operation | undefined,
): OtherPatient | undefined {
  const record = asRecord(params);
  if (!record) return params === undefined ? undefined : {};
  const { _meta, name, ...said } = record;
  const declared = operation?.patientArgument;
  const base = context.fhirServer.replace(/\/+$/, '');
  const own = new Set([context.patient, `Patient/${context.patient}`, `${base}/Patient/${context.patient}`]);
  const named = (key: string, value: unknown): OtherPatient => {
    const id = typeof value === 'string' ? value.replace(/^Patient\//, '') : undefined;
    return {
      argument: key === declared || saysPatient(key) ? key : undefined,
      patient: FhirId.safeParse(id).success ? { ...context, patient: String(id) } : undefined,
    };
  };

  const other = (key: string, value: unknown, depth = 0): OtherPatient | undefined => {
    if (depth > DEEPEST) return undefined; // withheld by the compartment check, which goes first
    const names = key === declared || saysPatient(key);
    if (typeof value === 'string')
      return names && (value !== '' || key === declared) && !own.has(value) ? named(key, value) : undefined;
    if (typeof value === 'number') return names ? named(key, value) : undefined;
    if (typeof value === 'boolean' || value === null) return key === declared ? named(key, value) : undefined;
    if (Array.isArray(value)) return first(value, (item) => other(key, item, depth + 1));
    const inner = asRecord(value);
    if (!inner) return undefined;
    const id = inner.id ?? inner.reference;
    if (names && id !== undefined && !(typeof id === 'string' && own.has(id))) return named(key, id);
    // `completion/complete` names its argument beside the value.
    const completed = typeof inner.name === 'string' ? other(inner.name, inner.value, depth + 1) : undefined;
    return completed ?? first(Object.entries(inner), ([innerKey, item]) => other(innerKey, item, depth + 1));
  };
  const verdict = checkCompartment(said, { patient: context, sourceBase: context.fhirServer });
  const byKey = first(Object.entries(said), ([key, value]) => other(key, value));
  return byKey ?? (verdict.inside ? undefined : { patient: verdict.named });
}

function first<T>(items: readonly T[], find: (item: T) => OtherPatient | undefined): OtherPatient | undefined {
  for (const item of items) {
    const found = find(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}
