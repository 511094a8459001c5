import { definePatientTool } from '@hmcp/core';
import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';

export const signOrder = definePatientTool({
  name: 'sign-order',
  description: 'Signs an order for the patient in context',
  scope: 'patient/hmcp:write',
  input: z.object({ order: z.string() }),
  output: z.object({ signed: z.boolean() }),
});

export const orders = defineAgent('orders', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'orders', version: '1.0.0' });
    patientTool(server, signOrder, async ({ order }, { effect }) => ({ signed: await effect(order, async () => true) }));
    return server;
  }, env),
);

export const countResults = definePatientTool({
  name: 'count-results',
  description: 'How many results there are',
  scope: 'patient/Observation.rs',
  input: z.object({}),
  output: z.object({ count: z.int() }),
});

const count = async () => ({ structuredContent: { count: 3 }, content: [] });

export const undeclared = defineAgent('counter', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'counter', version: '1.0.0' });
    server.registerTool('count-results', { outputSchema: z.object({ count: z.int() }) }, count); // says no scope
    return server;
  }, env),
);

export const declared = defineAgent('counter', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'counter', version: '1.0.0' });
    patientTool(server, countResults, async () => ({ count: 3 })); // the contract says the scope
    return server;
  }, env),
);
