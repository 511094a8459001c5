// Protections mounted wrong, as it happens: what each of them costs.
import express from 'express';
import fastify from 'fastify';
import { type Mount, serveMcp } from './mount.js';

/** The path of the resource alone: decides the same, but the document a 401 points to is not found. */
export const withoutDocument: Mount = async (hmcp) => {
  const app = express();
  app.use('/mcp', hmcp.gate);
  app.post('/mcp', serveMcp(hmcp));
  return app;
};

/** In a handler of fastify, which has read the body by then, and keeps it to itself. */
const lateOnFastify: Mount = async (hmcp) => {
  const app = fastify();
  app.post('/mcp', (request, reply) => {
    reply.hijack();
    return hmcp.gate(request.raw, reply.raw, () => serveMcp(hmcp)(request.raw, reply.raw));
  });
  await app.ready();
  return app.routing;
};

/** Without the gate. */
const guardAlone: Mount = async (hmcp) => {
  const app = express();
  app.post('/mcp', express.json(), serveMcp(hmcp));
  return app;
};

/** Mounts that serve nobody anything, by what is wrong with them. */
export const serveNobody: Readonly<Record<string, Mount>> = {
  'a gate after the body was read': lateOnFastify,
  'a protected transport without the gate': guardAlone,
};
