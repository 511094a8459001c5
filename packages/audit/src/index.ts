export { AuditFailure, type AuditFailureKind } from './audit-failure.js';
export { type FileAuditOptions, MAX_WAITING, openFileAudit } from './file-sink.js';
export type { LogFile } from './log-file.js';
export { plainText } from './plain-text.js';
export type { SinkFacts, StoredRecord } from './record-line.js';
export {
  createLogger,
  type FixedText,
  type LogFields,
  type Logger,
  type LoggerOptions,
  type LogLevel,
  type LogMethod,
} from './redaction.js';
export { type AuditVerification, type AuditWarning, type BrokenAudit, type IntactAudit, verifyAudit } from './verify.js';
export { lockForWriting } from './writer-lock.js';
