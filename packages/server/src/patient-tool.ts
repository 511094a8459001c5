import type { PatientTool } from '@hmcp/core';
import { HmcpError } from '@hmcp/core';
import { currentScope, type Outbound } from '@hmcp/core/request-scope';
import type { McpServer } from '@modelcontextprotocol/server';
import type * as z from 'zod';
import { type FhirClient, scopedFhir } from './fhir.js';
import { environmentOf } from './guard.js';
import { declarationsOf } from './operations.js';

/** What a handler of a patient tool is given besides its arguments. It names no patient: calls are bound already. */
export interface PatientToolContext {
  /** FHIR reads and searches of the patient in context, and of nobody else. */
  readonly fhir: FhirClient;
  /** Calls another agent in the same context, with a token exchanged for it. */
  readonly call: Outbound['call'];
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
    { description: contract.description, inputSchema: contract.input as z.ZodObject },
    async (args: unknown) => {
      const scope = currentScope();
      const env = scope && environmentOf(scope);
      // Behind the guard there always is a scope; without one the handler must not run.
      if (!scope || !env) throw new TypeError('a patient tool runs only behind the guard');
      const value = await handler(args as z.output<I>, {
        fhir: scopedFhir(scope, env),
        call: (peer, tool, input, options) => {
          if (!env.outbound)
            throw new HmcpError(
              42801,
              { by: env.resource, check: 'peer', hop: scope.facts.hop },
              { reason: 'no outbound configured' },
            );
          return scope.run(() => (env.outbound as Outbound).call(peer, tool, input, options));
        },
        signal: scope.signal,
      });
      if (scope.holdsForeign(value)) throw new HmcpError(40903, { by: env.resource, check: 'result', hop: scope.facts.hop });
      const structuredContent = value as Record<string, unknown>;
      return { content: [{ type: 'text' as const, text: JSON.stringify(structuredContent) }], structuredContent };
    },
  );
}
