export { AccessTokenClaims, type VerifiedToken } from './access-token.js';
export { AUDIT_REASONS } from './audit-reasons.js';
export { AUDIT_EVENTS, type AuditEventName, type AuditRecord, type AuditSink } from './audit-record.js';
export {
  type Actor,
  type ChainClaims,
  type ChainFault,
  ChainRecord,
  type ChainVerdict,
  checkChain,
  HmcpClaim,
  MAX_CHAIN,
} from './chain.js';
export {
  COMPARED_SOURCES,
  type ComparedPatient,
  type ComparedRequest,
  comparedByKey,
  type NamedPatient,
  patientsNamed,
  resultNamed,
  type WithheldResult,
} from './compared.js';
export {
  type CompartmentFault,
  type CompartmentOptions,
  type CompartmentVerdict,
  checkCompartment,
  checkText,
  combineVerdicts,
} from './compartment.js';
export {
  type ContextMode,
  type Decision,
  type DecisionFacts,
  decide,
  type HeaderTransition,
  parsePatientHeader,
  type Refusal,
  type SealFact,
} from './decide.js';
export {
  Binding,
  type BindingExpectation,
  checkBinding,
  Envelope,
  isSealed,
  MAX_ENVELOPE_BYTES,
  META,
  PlainEnvelope,
  PROTOCOL_VERSION,
  parseEnvelope,
  SealedEnvelope,
} from './envelope.js';
export {
  CHECKS,
  type Check,
  ERRORS,
  HmcpError,
  type HmcpErrorCode,
  isHmcpErrorCode,
  type Meaning,
  RefusalData,
  type Retry,
} from './errors.js';
export { checksToldApart, explain, meaningOf, RETRY_SENTENCES, unusable } from './explain.js';
export { CLIENT_NOTIFICATIONS, controllingManager, type ManagerClient, type MethodClass, methodClass } from './method-class.js';
export { OTHER_ANSWERS, type OtherAnswer } from './other-answers.js';
export type { Participation, SessionWork } from './participation.js';
export { namesAnotherPatient } from './patient-arguments.js';
export {
  checkHashKey,
  FhirId,
  keyedHash,
  PatientContext,
  type PatientIdentity,
  patientKey,
  samePatient,
} from './patient-context.js';
export {
  definePatientTool,
  isEffect,
  type Operation,
  type OperationTable,
  type PatientScope,
  type PatientTool,
} from './patient-tool.js';
export type { HeldPermit, PermitAuthority, PermitBearer, PermittedEffect } from './permit-authority.js';
export { checkResult, type ResultExpectation, type ResultVerdict } from './result.js';
export {
  canChange,
  covers,
  coversAll,
  effectiveScopes,
  type HmcpScope,
  hasPatientLevel,
  type Interaction,
  parseScopes,
  type ResourceScope,
  type Scope,
  type ScopeHolder,
  type ScopeLevel,
  satisfies,
} from './scopes.js';
export { SEAL_TYPE, SealClaims } from './seal.js';
export { type SealMismatch, sealMismatch } from './seal-bearer.js';
export {
  AbortArguments,
  AbortReason,
  CloseArguments,
  DecidedParams,
  Drained,
  DrainedParams,
  DrainParams,
  GetParams,
  JoinParams,
  MANAGER_METHODS,
  MANAGER_SCOPES,
  MANAGER_TOOLS,
  MAX_PERMIT_MS,
  MAX_WAIT_MS,
  OpenArguments,
  PARTICIPANT_METHODS,
  ParticipantRole,
  PendingSwitch,
  PermitParams,
  PermitResult,
  PrepareParams,
  RedeemParams,
  ReleaseParams,
  RenewParams,
  RenewResult,
  SessionFacts,
  SessionState,
  SwitchArguments,
  SwitchKind,
  SwitchOutcome,
  SwitchResult,
  SwitchTarget,
  UnsavedItem,
  Vote,
  VoteParams,
} from './session.js';
export { parseStrictJson, type StrictJson } from './strict-json.js';
