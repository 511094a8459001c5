import type { PatientTool } from '@hmcp/core';
import { HmcpError } from '@hmcp/core';
import { currentScope, type Outbound } from '@hmcp/core/request-scope';
import type { McpServer } from '@modelcontextprotocol/server';
import type * as z from 'zod';
import { environmentOf, type SealedSession, sessionOf } from './admitted.js';
import { effectsOf, permitForCall } from './effects.js';
import { type FhirClient, scopedFhir } from './fhir.js';
import { listedSchema } from './listed-schema.js';
import { declarationsOf } from './operations.js';
import { repeatedInText } from './structured-text.js';

/** What a handler of a patient tool is given besides its arguments. It names no patient: calls are bound already. */
export interface PatientToolContext {
  /** FHIR reads and searches of the patient in context, and of nobody else. */
  readonly fhir: FhirClient;
  /** Calls another agent in the same context, with a token exchanged for it. */
  readonly call: Outbound['call'];
  /**
   * Causes a side effect: `fn` runs at most once in this process for one (intent, operation, `key`), and only while the permit
   * that was obtained before the handler lives, its scope is open and its epoch stands. A record is durable before `fn` runs and
   * after it ended. `key` names what is caused (a draft's id, say) and is the same when the same thing is asked again; give it,
   * with the intent, to the system of record as its idempotency key too: two processes do not know of each other.
   * When `fn` fails, its outcome is unknown and it is not run again for this intent.
   *
   * Whatever a handler of an effect changes outside `effect` is guarded by the permit obtained before the handler began and by
   * nothing later: an epoch that passes meanwhile does not stop it.
   * @throws {HmcpError} 42802 `permit`: no live permit, or used before; 50302 it could not be recorded
   * @see protocol section 6, "effects"
   */
  effect<T>(key: string, fn: () => Promise<T>): Promise<T>;
  /**
   * The manager's name of the session and its epoch, as participants are asked about them: what to keep unsaved work under.
   * `undefined` in a request that no manager sealed.
   */
  readonly session: SealedSession | undefined;
  /** Aborts when the request ends, is cancelled, or its token expires. */
  readonly signal: AbortSignal;
}

/**
 * Registers a contract on an MCP server: its schemas, its declaration, and the handler behind the guard.
 * The handler returns the contract's output; whatever it throws reaches the caller as a fixed sentence.
 */
export function patientTool<I extends z.ZodObject, O extends z.ZodType>(
  server: McpServer,
  contract: PatientTool<I, O>,
  handler: (args: z.output<I>, context: PatientToolContext) => Promise<z.input<O>> | z.input<O>,
): void {
  declarationsOf(server.server).declareTool(contract.name, contract);
  server.registerTool(
    contract.name,
    { description: contract.description, inputSchema: listedSchema(contract.input) },
    async (args: unknown) => {
      const scope = currentScope();
      const env = scope && environmentOf(scope);
      // Behind the guard there always is a scope; without one the handler must not run.
      if (!scope || !env) throw new TypeError('a patient tool runs only behind the guard');
      const value = await handler(args as z.output<I>, {
        fhir: scopedFhir(scope, env),
        call: async (peer, tool, input, options) => {
          const { outbound } = env;
          if (!outbound) {
            const where = { by: env.resource, check: 'peer', hop: scope.facts.hop } as const;
            const refusal = new HmcpError(42801, where, { reason: 'no outgoing calls are configured' });
            scope.refusals.push(refusal);
            throw refusal;
          }
          const permit = permitForCall(tool);
          return scope.run(() => outbound.call(peer, tool, input, permit === undefined ? options : { ...options, permit }));
        },
        effect: (key, fn) => effectsOf(scope).run(key, fn),
        session: sessionOf(scope),
        get signal() {
          return scope.signal;
        },
      });
      return repeatedInText(value as Record<string, unknown>, scope);
    },
  );
}
