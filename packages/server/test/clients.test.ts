import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { META, patientKey } from '@hmcp/core';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { McpServer } from '@modelcontextprotocol/server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createHmcpHandler, defineAgent, patientTool, serve } from '../src/index.js';
import { ANN, BO, envelope, FHIR, listResults, observation, READ, TestIssuer, world } from './support/world.js';

/** What the tests use of any client. */
interface AnyClient {
  connect(transport: never): Promise<void>;
  callTool(params: object): Promise<unknown>;
  listTools(): Promise<{ tools: { name: string }[] }>;
  readResource(params: { uri: string }): Promise<unknown>;
  getPrompt(params: object): Promise<unknown>;
  getServerCapabilities(): { extensions?: Record<string, unknown> } | undefined;
  close(): Promise<void>;
}

const info = { name: 'any', version: '1' };
const CLIENTS: readonly (readonly [string, () => AnyClient, 'v1' | 'v2'])[] = [
  ['SDK 1.32', () => new ClientV1(info) as unknown as AnyClient, 'v1'],
  ['SDK 2.4, legacy', () => new Client(info) as unknown as AnyClient, 'v2'],
  ['SDK 2.4, auto', () => new Client(info, { versionNegotiation: { mode: 'auto' } }) as unknown as AnyClient, 'v2'],
  [
    'SDK 2.4, modern',
    () => new Client(info, { versionNegotiation: { mode: { pin: '2026-07-28' } } }) as unknown as AnyClient,
    'v2',
  ],
];

let url: URL;
let close: () => Promise<void>;
let issuer: TestIssuer;
const reached: string[] = [];

/** A free port, known before the server that will have it. */
async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

beforeAll(async () => {
  const port = await freePort();
  url = new URL(`http://127.0.0.1:${port}/mcp`);
  issuer = new TestIssuer(url.href);
  const operations = { resources: { 'chart://current': READ }, prompts: { summary: READ } };
  const { env } = world({ resource: url.href, verifier: issuer, operations });
  const agent = defineAgent('labs', (given) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'labs', version: '1' });
      patientTool(server, listResults, () => {
        reached.push('list-results');
        return { results: [observation(ANN)] };
      });
      server.registerTool('bare', {}, () => {
        reached.push('bare');
        return { content: [] };
      });
      server.registerResource('current', 'chart://current', {}, (uri) => ({
        contents: [{ uri: uri.href, text: JSON.stringify(observation(ANN)) }],
      }));
      server.registerPrompt('summary', {}, () => ({
        messages: [{ role: 'user', content: { type: 'text', text: 'summarize' } }],
      }));
      return server;
    }, given),
  );
  ({ close } = await serve(agent, env, { port }));
});
afterAll(() => close());

describe.each(CLIENTS)('%s', (_name, make, generation) => {
  async function connected(token: string | undefined, more: Record<string, string> = {}): Promise<AnyClient> {
    const client = make();
    const headers = { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...more };
    const Transport = generation === 'v1' ? TransportV1 : StreamableHTTPClientTransport;
    await client.connect(new Transport(url, { requestInit: { headers } }) as never);
    return client;
  }
  const call = (client: AnyClient, name: string, args: object, meta?: object) =>
    client.callTool({ name, arguments: args, ...(meta ? { _meta: meta } : {}) });
  const failure = (work: Promise<unknown>) =>
    work.then(
      (value) => Promise.reject(new Error(`was served: ${JSON.stringify(value)}`)),
      (error: unknown) => error as { code?: number; data?: object; message: string },
    );

  test('is served in context, with the binding; sees how much context is demanded', async () => {
    const client = await connected(issuer.issue(ANN));
    expect(client.getServerCapabilities()?.extensions).toMatchObject({ [META.context]: { versions: ['1'], context: 'token' } });
    expect((await client.listTools()).tools.map(({ name }) => name)).toEqual(['list-results']);
    const pk = await patientKey('intent-1', { fhirServer: FHIR, patient: ANN });
    expect(await call(client, 'list-results', {}, envelope(ANN))).toMatchObject({
      structuredContent: { results: [{ id: 'obs-7' }] },
      _meta: { [META.context]: { pk, by: url.href, patients: [pk] } },
    });
    expect(await client.readResource({ uri: 'chart://current' })).toMatchObject({ contents: [{ uri: 'chart://current' }] });
    expect(await client.getPrompt({ name: 'summary' })).toMatchObject({ messages: [{ role: 'user' }] });
    await client.close();
  });

  test.each([
    ['an envelope of another patient', 'list-results', {}, envelope(BO), 40903, 'equality'],
    ['an argument naming another patient', 'list-results', { patient: BO }, undefined, 40903, 'argument'],
    ['an undeclared tool', 'bare', {}, undefined, 40303, 'operation'],
  ])('%s: code and data reach it', async (_what, name, args, meta, code, check) => {
    reached.length = 0;
    const client = await connected(issuer.issue(ANN));
    const error = await failure(call(client, name, args, meta));
    expect(error).toMatchObject({ code, data: { check, retry: 'never', by: url.href, hop: 1 } });
    expect(error.message).not.toContain(BO);
    expect(reached).toEqual([]);
    await client.close();
  });

  test('an answer outside the compartment is an error, never a result', async () => {
    const client = await connected(issuer.issue(BO));
    expect(await failure(call(client, 'list-results', {}))).toMatchObject({ code: 40903, data: { check: 'result' } });
    expect(await failure(client.readResource({ uri: 'chart://current' }))).toMatchObject({
      code: 40903,
      data: { check: 'result' },
    });
    await client.close();
  });

  test('X-HMCP-Patient of another patient is 40903', async () => {
    const client = await connected(issuer.issue(ANN), { 'x-hmcp-patient': BO });
    expect(await failure(call(client, 'list-results', {}))).toMatchObject({ code: 40903, data: { check: 'header' } });
    await client.close();
  });

  test('a missing scope and a missing token are HTTP answers, and nothing runs', async () => {
    reached.length = 0;
    const client = await connected(issuer.issue(ANN, { scope: 'patient/Condition.rs' }));
    const refused = await failure(call(client, 'list-results', {}));
    expect(JSON.stringify([refused.code, refused.message, refused.data ?? {}, refused])).toMatch(/403|insufficient_scope|scope/i);
    await client.close();
    const unauthorized = await failure(connected(undefined));
    expect(unauthorized).toBeInstanceOf(Error);
    expect(reached).toEqual([]);
  });
});
