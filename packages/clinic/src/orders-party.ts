import type { PartInSessions } from './deployment.js';
import { ConfigurationError, type Listening, type PartyConfig, serveParty } from './deployment.js';
import { type OrderBook, openOrderBook } from './order-book.js';
import { orders } from './orders.js';

/** Unsaved drafts are told to the person before a switch, and kept for their patient when it comes. @see protocol section 6 */
export function partOfOrders(book: OrderBook): PartInSessions {
  return {
    role: 'effector',
    prepare: ({ sid, epoch }) => {
      const unsaved = [...book.unsaved({ sid, epoch })];
      return { vote: unsaved.length === 0 ? 'accept' : 'accept_with_warning', unsaved };
    },
    drain: async ({ sid, epoch, save }) => ({ saved: [...(await book.save({ sid, epoch }, save))] }),
  };
}

/** Serves the orders agent as a party, with the book at `store` of its configuration. */
export async function serveOrders(config: PartyConfig): Promise<Listening> {
  if (config.store === undefined) throw new ConfigurationError('the configuration is not usable: "store" is missing');
  const book = await openOrderBook({ file: config.store });
  const served = await serveParty(orders(book), config, { part: partOfOrders(book) });
  return {
    port: served.port,
    async close() {
      await served.close();
      await book.close();
    },
  };
}
