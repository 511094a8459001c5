// A protection in front of the frameworks a server is likely to stand on: `labs()` makes one instance of the server for a request.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Protection } from '@hmcp/server';
import { getRequestListener } from '@hono/node-server';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js';
import express from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import { labs } from './one-server.js';

/** Mounts the server behind a protection; what it gives listens to requests of `node:http`. */
export type Mount = (hmcp: Protection) => Promise<(request: IncomingMessage, response: ServerResponse) => unknown>;

// #region serve
/** What each framework does once the gate has passed a request: the body is parsed already. */
export const serveMcp = (hmcp: Protection) => async (request: IncomingMessage & { body?: unknown }, response: ServerResponse) => {
  const transport = new StreamableHTTPServerTransport();
  await labs().connect(hmcp.protect(transport));
  await transport.handleRequest(request, response, request.body);
};
// #endregion

const onExpress: Mount = async (hmcp) => {
  const app = express();
  app.use(hmcp.paths, hmcp.gate);
  app.post('/mcp', serveMcp(hmcp));
  return app;
};

/** A parser in front of everything is common; the gate then takes the body from `request.body`. */
const onExpressBehindParser: Mount = async (hmcp) => {
  const app = express();
  app.use(express.json({ limit: '2mb' }));
  app.use(hmcp.paths, hmcp.gate);
  app.post('/mcp', serveMcp(hmcp));
  return app;
};

/** With a router the gate sees a shortened `url`; it goes by `originalUrl`. */
const onExpressRouter: Mount = async (hmcp) => {
  const app = express();
  app.use(hmcp.paths, express.Router().use(hmcp.gate).post('/', serveMcp(hmcp)));
  return app;
};

const onFastify: Mount = async (hmcp) => {
  // #region fastify
  const app = fastify();
  for (const url of hmcp.paths) {
    app.all(url, {
      // In this hook, because after it fastify reads the body; hijacked, because the SDK writes the answer.
      onRequest: (request, reply) => {
        reply.hijack();
        return hmcp.gate(request.raw, reply.raw, () => serveMcp(hmcp)(request.raw, reply.raw));
      },
      handler: () => undefined,
    });
  }
  // #endregion
  await app.ready();
  return app.routing;
};

const onHono: Mount = async (hmcp) => {
  // #region hono
  const app = new Hono();
  const serve = hmcp.fetch(async (request, passed) => {
    const transport = new WebStandardStreamableHTTPServerTransport();
    await labs().connect(hmcp.protect(transport));
    return transport.handleRequest(request, passed);
  });
  for (const path of hmcp.paths) app.all(path, (context) => serve(context.req.raw));
  // #endregion
  return getRequestListener(app.fetch);
};

const onNode: Mount = async (hmcp) => {
  return (request, response) => hmcp.gate(request, response, () => serveMcp(hmcp)(request, response));
};

/** By the name of what it is mounted on. */
export const mounts: Readonly<Record<string, Mount>> = {
  express: onExpress,
  'express behind its own parser': onExpressBehindParser,
  'a router of express': onExpressRouter,
  fastify: onFastify,
  hono: onHono,
  'node:http': onNode,
};
