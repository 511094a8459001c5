import type { RequestScope } from '@hmcp/core/request-scope';

/** Says whether anything may be delivered in a scope at this moment. */
export interface Delivery {
  /** Resolves when that may have changed; `undefined`: delivering is allowed now. */
  held(): Promise<void> | undefined;
}

const deliveries = new WeakMap<RequestScope, Delivery>();
const superseded = new WeakSet<RequestScope>();

/** Puts what is delivered in `scope` under the rule of its session. */
export function governDelivery(scope: RequestScope, delivery: Delivery): void {
  deliveries.set(scope, delivery);
}

/**
 * Waits while the session of a scope does not know which patient it is on: from sending the person's confirmation until the
 * outcome. Afterwards the scope is either open as before or closed for good.
 * @see protocol section 6
 */
export async function deliverable(scope: RequestScope): Promise<void> {
  const delivery = deliveries.get(scope);
  for (let held = delivery?.held(); held !== undefined; held = delivery?.held()) await held;
}

/**
 * Ends a scope because its session went on to another patient. Its calls are settled at once, but their connections stay for a
 * while, so that an answer that comes too late is seen, dropped and recorded.
 */
export function supersede(scope: RequestScope): void {
  superseded.add(scope);
  scope.close();
}

/** True after {@link supersede}. */
export function isSuperseded(scope: RequestScope): boolean {
  return superseded.has(scope);
}

/** Aborts when the scope ends for any reason but {@link supersede}: the connection is cut, as MCP cancels on HTTP. */
export function cutOff(scope: RequestScope): AbortSignal {
  const controller = new AbortController();
  const end = () => {
    if (!isSuperseded(scope)) controller.abort(scope.signal.reason);
  };
  if (scope.closed) end();
  else scope.signal.addEventListener('abort', end, { once: true });
  return controller.signal;
}
