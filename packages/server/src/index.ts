export {
  type AgentDefinition,
  type AgentEnv,
  defineAgent,
  type HmcpHandler,
  type NoticeFields,
  type ServerLog,
  type ServerNotice,
} from './define-agent.js';
export type { FhirClient, FhirResource } from './fhir.js';
export { type Passed, passGate } from './gate.js';
export { createHmcpHandler } from './handler.js';
export { MAX_BODY_BYTES, MAX_DEPTH } from './message.js';
export { isMetadataPath, serveMetadata } from './metadata.js';
export type { NodeGate } from './node-gate.js';
export { type PatientToolContext, patientTool } from './patient-tool.js';
export type { ProtectedOperation, ProtectedOperations } from './protected-operations.js';
export {
  createProtection,
  type PassedRequest,
  type Protection,
  type ProtectionEnv,
  type ProtectOptions,
  type ServerTransport,
} from './protection.js';
export { nodeListener, type Served, type ServeOptions, serve } from './serve.js';
export { interceptConnect } from './server-of.js';
export { type StdioOptions, serveStdio } from './stdio.js';
export { scrub, type WireError, wireError } from './wire-error.js';
