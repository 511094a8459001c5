export { type Agent, type AgentOptions, type CallOptions, createAgent } from './agent.js';
export type { AgentEventEmitter, AgentEvents, HopEvent } from './events.js';
export type { AgentLog } from './hop-ledger.js';
export type { ClientTransport } from './instrument.js';
export { type PatientCache, patientCache } from './patient-cache.js';
export type { SwitchReport, SwitchRequest } from './patient-switch.js';
export type { Peer } from './peers.js';
export { openSession, type Session, type SessionOptions } from './session.js';
export type { DialogField, SwitchAnswer, SwitchDialog } from './switch-dialog.js';
