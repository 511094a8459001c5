/**
 * Notifications a client sends; `cancelled` only for its own request. `progress` is left out: a client reports it on a
 * server's request, and those are refused.
 * @see protocol section 3
 */
export const CLIENT_NOTIFICATIONS: ReadonlySet<string> = new Set([
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/roots/list_changed',
]);

/** Notifications a server may send outside a request: they say that something changed, never what. @see protocol section 3 */
export const SERVER_NOTIFICATIONS: ReadonlySet<string> = new Set([
  'notifications/tools/list_changed',
  'notifications/prompts/list_changed',
  'notifications/resources/list_changed',
  'notifications/resources/updated',
  'notifications/subscriptions/acknowledged',
]);

/** Requests whose results SDK v2 clients keep and serve again to whoever asks. @see protocol section 3, "caches" */
export const CACHED_BY_SDK: ReadonlySet<string> = new Set(['resources/read', 'resources/list']);
