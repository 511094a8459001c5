import { checkCompartment } from './compartment.js';
import type { PatientContext } from './patient-context.js';
import type { Operation } from './patient-tool.js';

/** Argument names that say whose record is meant, whatever a tool's author called them. */
const PATIENT_KEY =
  /^(?:for[-_]?)?(?:patients?|subjects?|beneficiary)(?:[-_.]?(?:fhir)?[-_.]?(?:ids?|refs?|references?|uuid))?$/i;

/**
 * True when a request's arguments or URI name a patient other than the one in context: the declared patient argument,
 * an argument with a patient's name for a key, or a FHIR resource, reference or mention of another patient anywhere in them.
 * What cannot be told (a reference of unknown target, a resource of unknown type) counts as another patient.
 * @see protocol section 7
 */
export function namesAnotherPatient(params: unknown, context: PatientContext, operation: Operation | undefined): boolean {
  const record = asRecord(params);
  if (!record) return params !== undefined;
  const { _meta, name, ...said } = record;
  if (!checkCompartment(said, { patient: context, sourceBase: context.fhirServer }).inside) return true;
  const declared = operation?.patientArgument;
  const base = context.fhirServer.replace(/\/+$/, '');
  const own = new Set([context.patient, `Patient/${context.patient}`, `${base}/Patient/${context.patient}`]);

  const isOther = (key: string, value: unknown): boolean => {
    const names = key === declared || PATIENT_KEY.test(key);
    if (typeof value === 'string') return names && (value !== '' || key === declared) && !own.has(value);
    if (typeof value === 'number') return names;
    if (typeof value === 'boolean' || value === null) return key === declared;
    if (Array.isArray(value)) return value.some((item) => isOther(key, item));
    const inner = asRecord(value);
    if (!inner) return false;
    const named = inner.id ?? inner.reference;
    if (names && named !== undefined && !(typeof named === 'string' && own.has(named))) return true;
    // `completion/complete` names its argument beside the value.
    if (typeof inner.name === 'string' && isOther(inner.name, inner.value)) return true;
    return Object.entries(inner).some(([innerKey, item]) => isOther(innerKey, item));
  };
  return Object.entries(said).some(([key, value]) => isOther(key, value));
}

function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}
