import type { PatientIdentity } from './patient-context.js';

/**
 * What the compartment check needs to know: the patient, and the base URL the examined resources came from
 * (relative references are foreign when it is unknown).
 */
export interface CompartmentOptions {
  readonly patient: PatientIdentity;
  /** Base URL of the source of these resources; usually `patient.fhirServer`. */
  readonly sourceBase?: string | undefined;
  /** `system|value` of identifiers known to be the patient's, for logical references. @default [] */
  readonly identifiers?: readonly string[] | undefined;
}

/** Verdict on a value: FHIR types and counts seen, or the fixed reason it must be withheld. */
export type CompartmentVerdict =
  | { readonly inside: true; readonly types: Readonly<Record<string, number>>; readonly resources: number }
  | { readonly inside: false; readonly reason: string };
