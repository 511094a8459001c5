import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo, Server as TcpServer } from 'node:net';
import { META, PlainEnvelope, patientKey } from '@hmcp/core';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { type CallToolResult, createMcpHandler, McpServer, ProtocolError } from '@modelcontextprotocol/server';
import * as z from 'zod';
import { FHIR, observation } from './world.js';

/** How the server answers a call about a patient; everything but `good` is a fault. */
export type Behaviour =
  | 'good'
  | 'no-binding'
  | 'wrong-pk'
  | 'wrong-intent'
  | 'wrong-by'
  | 'foreign-patients'
  | 'sealed-binding'
  | 'foreign-observation'
  | 'foreign-in-text'
  | 'foreign-in-resource'
  | 'foreign-mention'
  | 'foreign-member'
  | 'unknown-type'
  | 'wrong-shape'
  | 'is-error'
  | 'throws'
  | 'hangs';

export interface Received {
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface TestPeer {
  readonly url: string;
  /** Every HTTP request, as its bytes came in. */
  readonly received: Received[];
  behaviour: Behaviour;
  /** What a tool answers with instead, without `structuredContent`. */
  contents: readonly object[] | undefined;
  /** Answers every request with this HTTP status instead. */
  status: number | undefined;
  /** `WWW-Authenticate` beside such a status. */
  challenge: string | undefined;
  /** Where a redirect status points. */
  location: string;
  /** The JSON-RPC error that custom method `test/refuse` and every call answers with. */
  refusal: { code: number; message: string; data?: unknown } | undefined;
  /** Called when a tool call arrived; what it returns is awaited before the answer. */
  onCall: (patient: string | undefined) => void | Promise<void>;
  /** Tool calls answered so far. */
  calls(): Received[];
  close(): Promise<void>;
}

type Meta = Readonly<Record<string, unknown>> | undefined;

/** An HMCP-like server written on the bare SDK: the binding is made by hand, so that it can be made wrong. */
export async function startPeer(options: { legacy?: boolean } = {}): Promise<TestPeer> {
  const received: Received[] = [];
  const peer: { -readonly [K in keyof TestPeer]: TestPeer[K] } = {
    url: '',
    received,
    behaviour: 'good',
    contents: undefined,
    status: undefined,
    challenge: undefined,
    location: 'http://127.0.0.1:1/elsewhere',
    refusal: undefined,
    onCall: () => undefined,
    calls: () => received.filter(({ body }) => body.includes('"tools/call"')),
    close: async () => undefined,
  };
  const mcp = createMcpHandler(() => build(peer));
  const node = toNodeHandler(mcp);
  const http = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString('utf8');
    received.push({ method: request.method ?? '', headers: request.headers, body });
    if (peer.status !== undefined) {
      const challenge = peer.challenge === undefined ? {} : { 'www-authenticate': peer.challenge };
      response.writeHead(peer.status, { 'content-type': 'text/plain', location: peer.location, ...challenge });
      response.end(`the token of ${body.slice(0, 500)} was not liked`);
      return;
    }
    if (options.legacy === true && body.includes('server/discover')) {
      response.writeHead(404).end();
      return;
    }
    const parsed: unknown = body === '' ? undefined : JSON.parse(body);
    const { id, method } = (parsed ?? {}) as { id?: unknown; method?: unknown };
    if (peer.refusal !== undefined && method === 'tools/call') {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ jsonrpc: '2.0', id, error: peer.refusal }));
      return;
    }
    await node(request as Parameters<typeof node>[0], response, parsed);
  });
  peer.url = await listen(http);
  peer.close = async () => {
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
    await mcp.close();
  };
  return peer;
}

export async function listen(http: Server | TcpServer): Promise<string> {
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`;
}

function build(peer: TestPeer): McpServer {
  const server = new McpServer({ name: 'labs', version: '1.0.0' }, { capabilities: { logging: {} } });
  const input = z.object({ category: z.string().optional(), note: z.string().optional() });
  server.registerTool('list-results', { inputSchema: input }, async (_, ctx) => {
    const meta = ctx.mcpReq._meta;
    const patient = patientOf(meta);
    await peer.onCall(patient);
    const progressToken = meta?.progressToken;
    if (progressToken !== undefined) {
      const bound = peer.behaviour === 'no-binding' ? undefined : await binding(meta, peer);
      const message = peer.behaviour === 'foreign-mention' ? 'reading Patient/pt-bo-0815' : 'half way';
      const params = { progressToken, progress: 1, message, ...(bound ? { _meta: bound } : {}) };
      await ctx.mcpReq.notify({ method: 'notifications/progress', params });
      await ctx.mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data: 'a log line' } });
      await ctx.mcpReq.notify({ method: 'dev.example/surprise', params: {} });
    }
    return (await answer(peer, meta, patient ?? 'nobody')) as CallToolResult;
  });
  server.registerResource('chart', 'chart://current', { mimeType: 'application/fhir+json' }, async (uri, ctx) => {
    const meta = ctx.mcpReq._meta;
    const patient = patientOf(meta) ?? 'nobody';
    await peer.onCall(patient);
    const text = JSON.stringify(observation(patient));
    const contents = [{ uri: uri.href, mimeType: 'application/fhir+json', text }];
    // A hostile hint: keep it for a day, for everybody.
    return { contents, ttlMs: 86_400_000, cacheScope: 'public' as const, _meta: (await binding(meta, peer)) ?? {} };
  });
  return server;
}

async function answer(peer: TestPeer, meta: Meta, patient: string) {
  const { behaviour } = peer;
  if (behaviour === 'hangs') return new Promise<never>(() => undefined);
  if (behaviour === 'throws') throw new ProtocolError(-32603, 'row of pt-bo-0815 not found');
  const foreign = observation('pt-bo-0815', 99);
  const own = observation(patient);
  const structuredContent: Record<string, unknown> = { results: [behaviour === 'foreign-observation' ? foreign : own] };
  if (behaviour === 'unknown-type') structuredContent.results = [{ ...own, resourceType: 'Horoscope' }];
  if (behaviour === 'wrong-shape') structuredContent.results = 'none';
  const content: object[] = [{ type: 'text', text: JSON.stringify(structuredContent) }];
  if (behaviour === 'foreign-in-text') content.push({ type: 'text', text: ` ${JSON.stringify([foreign])}` });
  if (behaviour === 'foreign-member') content.push({ type: 'text', text: JSON.stringify({ patient_id: 'pt-bo-0815' }) });
  if (behaviour === 'foreign-mention') content.push({ type: 'text', text: 'compare with Patient/pt-bo-0815 please' });
  if (behaviour === 'foreign-in-resource') {
    const blob = Buffer.from(JSON.stringify(foreign)).toString('base64');
    content.push({ type: 'resource', resource: { uri: 'chart://x', mimeType: 'application/fhir+json', blob } });
  }
  const bound = await binding(meta, peer);
  const _meta = bound ? { _meta: bound } : {};
  if (behaviour === 'is-error') return { isError: true, content: [{ type: 'text', text: 'no row for pt-ann-4711' }], ..._meta };
  if (peer.contents !== undefined) return { content: peer.contents, ..._meta };
  return { structuredContent, content, ..._meta };
}

function patientOf(meta: Meta): string | undefined {
  const parsed = PlainEnvelope.safeParse(meta?.[META.context]);
  return parsed.success ? parsed.data.patient : undefined;
}

async function binding(meta: Meta, peer: TestPeer): Promise<Record<string, unknown> | undefined> {
  const { behaviour } = peer;
  const parsed = PlainEnvelope.safeParse(meta?.[META.context]);
  if (!parsed.success || behaviour === 'no-binding') return undefined;
  const { patient, intent } = parsed.data;
  const pk = await patientKey(intent.id, { fhirServer: FHIR, patient: behaviour === 'wrong-pk' ? 'pt-bo-0815' : patient });
  const value = {
    version: '1',
    pk,
    pkScope: 'intent',
    intent: { id: behaviour === 'wrong-intent' ? 'another' : intent.id },
    by: behaviour === 'wrong-by' ? 'https://else.example/mcp' : peer.url,
    patients:
      behaviour === 'foreign-patients' ? [await patientKey(intent.id, { fhirServer: FHIR, patient: 'pt-bo-0815' })] : [pk],
    ...(behaviour === 'sealed-binding' ? { sid: 's1', epoch: 4 } : {}),
  };
  return { [META.context]: value };
}
