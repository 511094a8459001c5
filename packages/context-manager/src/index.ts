export { type Clock, systemClock } from './clock.js';
export {
  type ContextManager,
  type ContextManagerOptions,
  createContextManager,
} from './manager.js';
export type { Message } from './messages.js';
export { type ManagedClient, mcpParticipants, type ParticipantLink, type Reply } from './participants.js';
export type { Session } from './session-row.js';
export { type MemoryStore, memoryStore } from './store/memory.js';
export { openSqliteStore, type SqliteStoreOptions } from './store/sqlite.js';
export { type ContextStore, StoreUnavailable } from './store.js';
export { TIMING, type Timing } from './timing.js';
