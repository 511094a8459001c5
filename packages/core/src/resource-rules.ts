/**
 * How a resource type is tied to its patient. `subject`: the named element must be a reference to the context patient.
 * `patient`: it is the patient. `bundle`: its entries are. `directory`: about nobody, so it may name no patient at all.
 * `outcome`: the same, and it must carry no text.
 */
export type ResourceRule =
  | { readonly is: 'subject'; readonly anchor: 'subject' | 'patient' }
  | { readonly is: 'patient' | 'bundle' | 'directory' | 'outcome' };

/**
 * One row a FHIR type; a resource of a type without a row is withheld.
 * @see protocol section 7
 */
export const RESOURCE_RULES: ReadonlyMap<string, ResourceRule> = new Map<string, ResourceRule>([
  ['Patient', { is: 'patient' }],
  ['Bundle', { is: 'bundle' }],
  ['AllergyIntolerance', { is: 'subject', anchor: 'patient' }],
  ['Condition', { is: 'subject', anchor: 'subject' }],
  ['DiagnosticReport', { is: 'subject', anchor: 'subject' }],
  ['Encounter', { is: 'subject', anchor: 'subject' }],
  ['Immunization', { is: 'subject', anchor: 'patient' }],
  ['MedicationRequest', { is: 'subject', anchor: 'subject' }],
  ['Observation', { is: 'subject', anchor: 'subject' }],
  ['Procedure', { is: 'subject', anchor: 'subject' }],
  ['Location', { is: 'directory' }],
  ['Medication', { is: 'directory' }],
  ['Organization', { is: 'directory' }],
  ['Practitioner', { is: 'directory' }],
  ['OperationOutcome', { is: 'outcome' }],
]);
