import type { HmcpHandler } from '../../src/index.js';
import { RESOURCE } from './world.js';

/** Protocol revision of MCP. */
export type Era = 'modern' | 'legacy';

export interface Asked {
  readonly token?: string | undefined;
  readonly headers?: Record<string, string> | undefined;
  readonly era?: Era | undefined;
  readonly id?: string | number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What came back: the status, every byte, the JSON-RPC answer in it and what was sent before it. */
export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly result: Record<string, unknown> | undefined;
  readonly error: { readonly code: number; readonly message: string; readonly data?: Record<string, unknown> } | undefined;
  readonly before: readonly Record<string, unknown>[];
}

const ENVELOPE = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
};

/** A JSON-RPC request of one revision. */
export function request(method: string, params: Record<string, unknown>, era: Era = 'modern', id: string | number = 1) {
  const { _meta, ...rest } = params;
  const meta = { ...(_meta as object | undefined), ...(era === 'modern' ? ENVELOPE : {}) };
  return { jsonrpc: '2.0', id, method, params: Object.keys(meta).length > 0 ? { ...rest, _meta: meta } : rest };
}

/** Posts one request to a handler, as a client of that revision does. */
export function ask(
  handler: Pick<HmcpHandler, 'fetch'>,
  method: string,
  params: Record<string, unknown> = {},
  { token, headers, era = 'modern', id = 1, signal }: Asked = {},
): Promise<Answered> {
  const name = params.name ?? params.uri ?? params.taskId;
  const named = typeof name === 'string' ? { 'mcp-name': name } : {};
  const standard: Record<string, string> =
    era === 'modern' ? { 'mcp-protocol-version': '2026-07-28', 'mcp-method': method, ...named } : {};
  return post(handler, JSON.stringify(request(method, params, era, id)), { token, headers: { ...standard, ...headers }, signal });
}

/** Posts bytes as they are. */
export async function post(
  handler: Pick<HmcpHandler, 'fetch'>,
  body: string | Uint8Array | ReadableStream,
  { token, headers, signal }: Asked = {},
): Promise<Answered> {
  const response = await handler.fetch(
    new Request(RESOURCE, {
      method: 'POST',
      body: body as string,
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(signal === undefined ? {} : { signal }),
      ...(body instanceof ReadableStream ? { duplex: 'half' } : {}),
    } as RequestInit),
  );
  return answered(response);
}

/** Reads a response whole. */
export async function answered(response: Response): Promise<Answered> {
  const text = await response.text();
  const { status, headers } = response;
  const messages = messagesOf(text, headers.get('content-type') ?? '');
  const last = messages.at(-1) as Pick<Answered, 'result' | 'error'> | undefined;
  return { status, headers, text, result: last?.result, error: last?.error, before: messages.slice(0, -1) };
}

function messagesOf(text: string, type: string): Record<string, unknown>[] {
  if (type.startsWith('application/json')) return text === '' ? [] : [JSON.parse(text) as Record<string, unknown>];
  const data = text.split('\n').filter((line) => line.startsWith('data: '));
  return data.map((line) => JSON.parse(line.slice(6)) as Record<string, unknown>);
}
