import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { META, parseScopes, type VerifiedToken } from '@hmcp/core';
import { createProtection, type ProtectedOperations, type Protection } from '../../src/index.js';
import type { Reply, Who } from './carriers.js';
import { EXISTING, type Sdk } from './existing-servers.js';
import { ANN, BO, type MemoryAudit, TestIssuer, world } from './world.js';

/** How an existing server is set up; a switch left out is on. */
export interface Setup {
  readonly sessions?: boolean;
  readonly gated?: boolean;
  readonly protects?: boolean;
  /** Hands the parsed body to the transport, as most do. */
  readonly handsBody?: boolean;
  /** Instead of those that fit the server. */
  readonly operations?: ProtectedOperations;
}

/** A protected server, by whatever carries its messages. */
export interface Protected {
  readonly http: boolean;
  readonly url: string;
  readonly hmcp: Protection;
  readonly audit: MemoryAudit;
  /** What its operators were told, as text. */
  readonly logged: readonly string[];
  readonly issuer: TestIssuer;
  /** What ran since the last look. */
  ran(): string[];
  /** What the handlers were given besides their arguments, as text. */
  readonly seen: string[];
  ask(method: string, params: object, who: Who, headers?: Record<string, string>): Promise<Reply>;
  close(): Promise<void>;
}

const INITIALIZE = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } };

function tokensOf(issuer: TestIssuer): Record<Who, string | undefined> {
  const scope = 'patient/Observation.rs patient/hmcp:read';
  const more: Partial<VerifiedToken> = { scope, scopes: parseScopes(scope) };
  return {
    own: issuer.issue(ANN, more),
    other: issuer.issue(BO, more),
    narrow: issuer.issue(ANN, { scope: 'patient/Condition.rs' }),
    none: undefined,
    invalid: 'forged',
  };
}

/** Streamable HTTP on `node:http`, with or without sessions, as servers of either SDK are written. */
export async function protectedHttp(
  sdk: Sdk,
  { sessions = false, gated = true, protects = true, handsBody = true, operations = EXISTING }: Setup = {},
): Promise<Protected> {
  const http = createServer();
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`;
  const issuer = new TestIssuer(url);
  const { env, audit, logged } = world({ resource: url, verifier: issuer });
  const hmcp = createProtection({ ...env, operations });
  const ran: string[] = [];
  const seen: string[] = [];
  const open = new Map<string, { transport: ReturnType<Sdk['http']>; close(): Promise<void> }>();
  let last = 0;

  const connected = async () => {
    const server = sdk.server((what, extra) => {
      ran.push(what);
      seen.push(JSON.stringify(extra, (key, value) => (key === 'signal' ? undefined : value)) ?? '');
    });
    last += 1;
    const id = `session-${last}`;
    const transport = sdk.http(sessions ? () => id : undefined);
    await server.connect(protects ? hmcp.protect(transport) : transport);
    const entry = { transport, close: () => server.close() };
    open.set(id, entry);
    return { ...entry, id };
  };
  http.on('request', (request, response) => {
    const handle = async (): Promise<void> => {
      const known = open.get(String(request.headers['mcp-session-id']));
      const { transport } = known ?? (await connected());
      await transport.handleRequest(request, response, handsBody ? (request as { body?: unknown }).body : undefined);
    };
    void (gated ? hmcp.gate(request, response, () => void handle()) : handle());
  });

  const tokens = tokensOf(issuer);
  let session: string | null = null;
  let id = 0;
  const post = async (method: string, params: object, who: Who, more: Record<string, string> = {}) => {
    id += 1;
    const token = tokens[who];
    const response = await fetch(url, {
      method: 'POST',
      body: JSON.stringify({ jsonrpc: '2.0', id, method, params }),
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(session === null ? {} : { 'mcp-session-id': session }),
        ...more,
      },
    });
    const text = await response.text();
    const line =
      text
        .split('\n')
        .find((one) => one.startsWith('data: {'))
        ?.slice(6) ?? (text.startsWith('{') ? text : '{}');
    const { result, error } = JSON.parse(line) as Reply;
    return { status: response.status, text, result, error, session: response.headers.get('mcp-session-id') };
  };
  if (sessions && gated && protects) session = (await post('initialize', INITIALIZE, 'own')).session;
  audit.records.splice(0);
  return {
    http: true,
    url,
    hmcp,
    audit,
    logged,
    issuer,
    seen,
    ran: () => ran.splice(0),
    ask: post,
    async close() {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
      for (const { close } of open.values()) await close();
    },
  };
}

/** The same server on two streams: every request brings its token, as a parent writes it. */
export async function protectedStdio(sdk: Sdk): Promise<Protected> {
  const { env, audit, issuer, logged } = world();
  const hmcp = createProtection({ ...env, operations: EXISTING });
  const ran: string[] = [];
  const seen: string[] = [];
  const server = sdk.server((what) => ran.push(what));
  const [stdin, stdout] = [new PassThrough(), new PassThrough()];
  await server.connect(hmcp.protect(sdk.stdio(stdin, stdout)));
  const waiting = new Map<unknown, (text: string) => void>();
  stdout.setEncoding('utf8').on('data', (text: string) => {
    for (const line of text.split('\n').filter(Boolean)) waiting.get((JSON.parse(line) as { id?: unknown }).id)?.(line);
  });
  const tokens = tokensOf(issuer);
  let id = 0;
  const ask = async (method: string, params: object, who: Who): Promise<Reply> => {
    id += 1;
    const { _meta, ...rest } = params as { _meta?: object };
    const token = tokens[who];
    const meta = { ..._meta, ...(token === undefined ? {} : { [META.authorization]: token }) };
    const text = await new Promise<string>((resolve) => {
      waiting.set(id, resolve);
      stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params: { ...rest, _meta: meta } })}\n`);
    });
    const { result, error } = JSON.parse(text) as Reply;
    return { status: undefined, text, result, error };
  };
  await ask('initialize', INITIALIZE, 'none');
  audit.records.splice(0);
  return {
    http: false,
    url: env.resource,
    hmcp,
    audit,
    logged,
    issuer,
    seen,
    ran: () => ran.splice(0),
    ask,
    close: () => server.close(),
  };
}
