import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { getLabs, summarize } from './contracts.js';

export const summary = defineAgent('summary', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'summary', version: '1.0.0' });
    patientTool(server, summarize, async ({ above }, { call }) => {
      const { results } = await call('old-labs', getLabs, {}); // same patient, same act, a token of its own
      const high = results.filter(({ value }) => value > above);
      return { considered: results.length, above: high.map(({ test, value, unit }) => `${test} ${value} ${unit}`) };
    });
    return server;
  }, env),
);
