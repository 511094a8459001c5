export { type Chart, chooseCharts, isPickable, type PatientSummary, patientSummaries, TooFewCharts } from './charts.js';
export { Assessment, assess, draftOrder, listDrafts, listMedications, listResults, signOrder } from './contracts.js';
export {
  ConfigurationError,
  type Deployment,
  type DeployOptions,
  deploy,
  endOnFault,
  type Listening,
  type PartInSessions,
  PartyConfig,
  readPartyConfig,
  runParty,
  serveChild,
  serveParty,
} from './deployment.js';
export { type FhirListener, type FhirListenOptions, listenFhir } from './fhir-listener.js';
export { recordsOf, serveFhir } from './fhir-party.js';
export { DIRECTORY_TYPES, type Resource } from './fhir-resource.js';
export { createFhirServer, type FhirServer, type FhirServerOptions } from './fhir-server.js';
export { handle } from './handles.js';
export { isLaboratory, type JudgeOptions, LaboratoryValue, OutOfRangeResult, outOfRangeResults } from './laboratory.js';
export { labs } from './labs.js';
export { BearingMedication, type MedicationOptions, medicationsBearingOn } from './medication-safety.js';
export { medications } from './medications.js';
export { type OrderBook, OrderBookError, openOrderBook } from './order-book.js';
export type { Draft, DraftFault, DraftSession, OrderContext, OrderKind } from './order-draft.js';
export { orders } from './orders.js';
export { partOfOrders, serveOrders } from './orders-party.js';
export { shippedBundles, shippedRecords, staffBundle, writeShippedPeople } from './people/shipped.js';
export { PORTAL_SCOPE, servePortal } from './portal.js';
export {
  buildRecords,
  type NamedBundle,
  type Records,
  RecordsError,
  type RecordsErrorCode,
  type RecordsSource,
} from './records.js';
export { loadRecords, type RecordsFolderOptions } from './records-folder.js';
export { type ChartExcerpt, summarize, triage } from './triage.js';
