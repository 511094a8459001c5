import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { getLabs, summarize } from './contracts.js';

const known = new Map<number, { considered: number; above: string[] }>(); // of whom?

export const summary = defineAgent('summary', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'summary', version: '1.0.0' });
    patientTool(server, summarize, async ({ above }, { call }) => {
      const before = known.get(above);
      if (before !== undefined) return before;
      const { results } = await call('old-labs', getLabs, {});
      const high = results.filter(({ value }) => value > above);
      const found = { considered: results.length, above: high.map(({ test, value, unit }) => `${test} ${value} ${unit}`) };
      known.set(above, found);
      return found;
    });
    return server;
  }, env),
);
