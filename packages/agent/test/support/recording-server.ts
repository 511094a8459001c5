import { createServer } from 'node:http';
import { connect, createServer as createRelay, type Socket } from 'node:net';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';
import { listen } from './peer-server.js';

export interface RecordingServer {
  readonly url: string;
  /** Every byte of every request line, header and body that arrived. */
  bytes(): string;
  /** What the tool answers. */
  answer: unknown;
  readonly toolCalls: unknown[];
  close(): Promise<void>;
}

/** An unmodified MCP server that knows nothing of patient context, and keeps every byte it was sent. */
export async function startRecordingServer(answer: unknown = { found: 3 }): Promise<RecordingServer> {
  const chunks: Buffer[] = [];
  const sockets = new Set<Socket>();
  const recorder: { -readonly [K in keyof RecordingServer]: RecordingServer[K] } = {
    url: '',
    answer,
    toolCalls: [],
    bytes: () => Buffer.concat(chunks).toString('latin1'),
    close: async () => undefined,
  };
  const mcp = createMcpHandler(() => {
    const server = new McpServer({ name: 'guidelines', version: '1.0.0' });
    server.registerTool('lookup', { inputSchema: z.object({ term: z.string() }) }, (args, ctx) => {
      recorder.toolCalls.push({ args, meta: ctx.mcpReq._meta });
      const structuredContent = recorder.answer as Record<string, unknown>;
      return { structuredContent, content: [{ type: 'text', text: JSON.stringify(structuredContent) }] };
    });
    return server;
  });
  const node = toNodeHandler(mcp);
  const http = createServer((request, response) => void node(request as Parameters<typeof node>[0], response));
  const inner = new URL(await listen(http));
  // A relay in front keeps the bytes as they came in, before any parser: nothing can be missed.
  const relay = createRelay((socket) => {
    const onward = connect(Number(inner.port), inner.hostname);
    for (const end of [socket, onward]) end.on('error', () => undefined);
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.pipe(onward).pipe(socket);
    sockets.add(socket);
  });
  recorder.url = await listen(relay);
  recorder.close = async () => {
    for (const socket of sockets) socket.destroy();
    http.closeAllConnections();
    await Promise.all([relay, http].map((server) => new Promise((resolve) => server.close(resolve))));
    await mcp.close();
  };
  return recorder;
}
