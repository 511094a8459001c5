import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Listening } from '@hmcp/clinic';
import { toNodeHandler } from '@modelcontextprotocol/node';
import type { createMcpHandler } from '@modelcontextprotocol/server';

/** Serves a handler of the bare MCP SDK on a free port of this machine: nothing in front of it, nothing behind. */
export async function serveBare(handler: ReturnType<typeof createMcpHandler>): Promise<Listening> {
  const serveMcp = toNodeHandler(handler);
  const http = createServer((request, response) => void serveMcp(request as Parameters<typeof serveMcp>[0], response));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  return {
    port: (http.address() as AddressInfo).port,
    async close() {
      http.closeAllConnections();
      http.close();
      await handler.close();
    },
  };
}
