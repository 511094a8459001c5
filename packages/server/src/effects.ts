import { HmcpError } from '@hmcp/core';
import type { RequestScope } from '@hmcp/core/request-scope';

/** How a handler causes side effects. */
export interface Effects {
  run<T>(key: string, fn: () => Promise<T>): Promise<T>;
}

/** The effects of the request a scope belongs to. */
export function effectsOf(scope: RequestScope): Effects {
  return {
    run: async () => {
      const error = new HmcpError(42802, { by: scope.facts.by, check: 'permit', hop: scope.facts.hop });
      scope.refusals.push(error);
      throw error;
    },
  };
}
