import { HmcpError } from '@hmcp/core';
import { currentScope, type RequestScope } from '@hmcp/core/request-scope';

/** A small cache inside one process that cannot mix patients or people. */
export interface PatientCache<T> {
  /** The value kept under `key` for the patient and authority of the current request; a copy, the caller's own. */
  get(key: string): T | undefined;
  /** Keeps a copy of `value` under `key` for the patient and authority of the current request. */
  set(key: string, value: T): void;
  /** Forgets everything. */
  clear(): void;
}

/**
 * A cache keyed by patient identity, by whose authority the value was obtained, and by your key. A plain `Map` or
 * memoizer shared by requests hands one patient's object to another's request, which then is refused; this one does not.
 * Values are structured-cloned in and out. The oldest entry goes first.
 * @param options.max number of entries. Default 500
 * @param options.ttlMs milliseconds an entry lives. Default 30 000
 * @throws {HmcpError} 42801 `check: "envelope"` from `get` and `set` outside a request, 40901 after it has ended
 * @see protocol section 3
 */
export function patientCache<T>(options: { max?: number; ttlMs?: number; now?: () => number } = {}): PatientCache<T> {
  const { max = 500, ttlMs = 30_000, now = Date.now } = options;
  const entries = new Map<string, { readonly value: T; readonly until: number }>();
  return {
    get(key) {
      const scope = openScope();
      const id = cacheKey(scope, key);
      const entry = entries.get(id);
      if (entry === undefined) return undefined;
      if (entry.until <= now()) {
        entries.delete(id);
        return undefined;
      }
      return scope.tag(structuredClone(entry.value));
    },
    set(key, value) {
      const scope = openScope();
      if (scope.holdsForeign(value)) {
        const { by, hop, envelope } = scope.facts;
        const where = hop > 0 ? { hop } : {};
        const data = { by, check: 'result', intent: envelope.intent.id, ...where } as const;
        throw new HmcpError(40903, data, { reason: 'an object of another request was offered to the cache' });
      }
      const id = cacheKey(scope, key);
      entries.delete(id);
      entries.set(id, { value: structuredClone(value), until: now() + ttlMs });
      if (entries.size > max) for (const oldest of [...entries.keys()].slice(0, entries.size - max)) entries.delete(oldest);
    },
    clear() {
      entries.clear();
    },
  };
}

function openScope(): RequestScope {
  const scope = currentScope();
  if (scope === undefined) throw new HmcpError(42801, { by: 'cache', check: 'envelope' }, { reason: 'outside any request' });
  scope.assertOpen();
  return scope;
}

function cacheKey(scope: RequestScope, key: string): string {
  const { context, token, accessToken } = scope.facts;
  const authority = token ? [token.issuer, token.subject, token.clientId, token.scope] : [accessToken];
  return JSON.stringify([context.fhirServer, context.tenant ?? null, context.patient, context.encounter ?? null, authority, key]);
}
