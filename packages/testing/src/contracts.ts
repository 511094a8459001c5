export { type AccessPolicyBench, accessPolicyContract } from './contracts/access-policy.js';
export { type AuditSinkBench, auditSinkContract } from './contracts/audit-sink.js';
export { type ContextStoreBench, contextStoreContract } from './contracts/context-store.js';
