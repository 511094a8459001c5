import { Checks } from '@hmcp/examples/dist/checks.js';
import { MAX_BODY_BYTES } from '@hmcp/server';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { serveNobody, withoutDocument } from './mistaken-mounts.js';
import { type Mount, mounts } from './mount.js';
import { ANN, BO, deploymentOf } from './one-server.js';

// The same server of SDK v1, protected and mounted on express, fastify, hono and node:http. Fails unless on each of them a call is
// served, another patient is refused with 40903, no token is 401 with a challenge, and too large a body is 413; and unless a mistake in
// mounting it serves nobody.

const checks = new Checks();
for (const [name, mount] of Object.entries(mounts)) await held(name, mount, true);
await held('express, at the path of the resource alone', withoutDocument, false);
for (const [name, mount] of Object.entries(serveNobody)) await servesNothing(name, mount);
checks.end();

/** @param documented whether the metadata document is found where a 401 says */
async function held(name: string, mount: Mount, documented: boolean): Promise<void> {
  const is = (what: string, found: unknown, expected: unknown): void => checks.is(`${name}: ${what}`, found, expected);
  const { url, token, records, close } = await deploymentOf(mount);
  try {
    const client = new Client({ name: 'any-client', version: '1.0.0' });
    const headers = { authorization: `Bearer ${token}` };
    await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
    const ask = (args: object) => client.callTool({ name: 'get-labs', arguments: { ...args } });
    const { structuredContent } = await ask({});
    is('served for the patient of the token', structuredContent, {
      results: [{ resourceType: 'Observation', id: 'o1', subject: { reference: `Patient/${ANN}` } }],
    });
    const refusal = await checks.refusal(ask({ patientId: BO }));
    is('an argument that names another patient', [refusal?.code, refusal?.check], [40903, 'argument']);
    await client.close();

    const post = (body: string, more: Record<string, string> = {}) =>
      fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...more },
        body,
      });
    const list = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' });
    const bare = await post(list);
    const metadata = /resource_metadata="([^"]+)"/.exec(bare.headers.get('www-authenticate') ?? '')?.[1] ?? '';
    is('without a token', bare.status, 401);
    const document = await fetch(metadata);
    const found = document.ok && ((await document.json()) as { resource?: unknown }).resource === url;
    is('and the challenge leads to the metadata of the resource', found, documented);
    const tooLarge = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/list',
      params: { padding: 'x'.repeat(MAX_BODY_BYTES) },
    });
    is('a body that is too large', (await post(tooLarge, headers)).status, 413);
    is('and one that is not', (await post(list, headers)).status, 200);
    const decisions = records.flatMap(({ event, tool, code }) =>
      tool === undefined && code === undefined ? [] : [[event, tool, code].filter((part) => part !== undefined).join(' ')],
    );
    is('what the server recorded', decisions, [
      'request.served get-labs',
      'request.refused get-labs 40903',
      'request.refused 401',
      'request.refused 413',
    ]);
  } finally {
    await close();
  }
}

/** A right request with a right token, at a mount that has a mistake. */
async function servesNothing(name: string, mount: Mount): Promise<void> {
  const { url, token, close } = await deploymentOf(mount);
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        authorization: `Bearer ${token}`,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'get-labs', arguments: {} } }),
    });
    const text = await response.text();
    checks.is(`${name}: is an error`, response.status === 500 || text.includes('"code":40100'), true);
    checks.is(`${name}: and names nobody`, text.includes(ANN), false);
  } finally {
    await close();
  }
}
