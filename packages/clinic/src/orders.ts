import { HmcpError, patientKey } from '@hmcp/core';
import { currentScope, type RequestScope } from '@hmcp/core/request-scope';
import { type AgentDefinition, createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { draftOrder, listDrafts, signOrder } from './contracts.js';
import { type OrderBook, OrderBookError } from './order-book.js';
import type { DraftSession, OrderContext } from './order-draft.js';

/**
 * The orders agent, an effector: drafts orders in the words it is given, and signs them. Every change goes through the permit of
 * its request, so none is made for a patient who is no longer on the screen.
 */
export function orders(book: OrderBook): AgentDefinition {
  return defineAgent('orders', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'orders', version: '1.0.0' });

      patientTool(server, draftOrder, async ({ kind, text }, { effect, session }) => {
        const scope = scopeHere();
        const context = await orderContext(scope, env.pseudonymKey, session);
        const wanted = { kind, text };
        const { draft, state } = book.made(wanted, context) ?? (await effect('draft', () => book.draft(wanted, context)));
        return { draft, saved: state !== 'unsaved' };
      });

      patientTool(server, signOrder, async ({ draft }, { effect, session }) => {
        const scope = scopeHere();
        const context = await orderContext(scope, env.pseudonymKey, session);
        const signed = await refusing(
          scope,
          async () => book.signedBy(draft, context) ?? (await effect(draft, () => book.sign(draft, context))),
        );
        return { order: signed.order, signedAt: new Date(signed.at).toISOString() };
      });

      patientTool(server, listDrafts, async (_, { session }) => {
        const context = await orderContext(scopeHere(), env.pseudonymKey, session);
        const drafts = book.drafts(context).map(({ draft, kind, text, state, draftedAt }) => ({
          draft,
          kind,
          text,
          saved: state !== 'unsaved',
          draftedAt: new Date(draftedAt).toISOString(),
        }));
        return { drafts };
      });
      return server;
    }, env),
  );
}

function scopeHere(): RequestScope {
  const scope = currentScope();
  if (scope === undefined) throw new TypeError('a patient tool runs only behind the guard');
  return scope;
}

/** For whom, by which act and in which session: read from the request being served, never from arguments. */
async function orderContext({ facts }: RequestScope, key: string, session: DraftSession | undefined): Promise<OrderContext> {
  const { context, envelope } = facts;
  return { pk: await patientKey(key, context), intent: envelope.intent.id, session };
}

/**
 * A draft that is not there for this patient is refused as a record of somebody else is: nobody learns which it was.
 * @see protocol section 4
 */
async function refusing<T>(scope: RequestScope, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof OrderBookError && error.fault === 'unknown')) throw error;
    const { by, hop } = scope.facts;
    const refusal = new HmcpError(40302, { by, hop, check: 'argument' }, { reason: 'no such draft of this patient' });
    scope.refusals.push(refusal);
    throw refusal;
  }
}
