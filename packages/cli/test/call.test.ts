import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { metadataOf } from '../src/call.js';
import { type } from './terminal.js';

/** A state folder with a world of one agent that listens and one child of another program; nothing of it runs. */
async function stateFolder(): Promise<string> {
  const state = await mkdtemp(join(tmpdir(), 'hmcp-call-'));
  onTestFinished(() => rm(state, { recursive: true }));
  const [origin, resource] = ['http://127.0.0.1:9', 'http://127.0.0.1:9/mcp'];
  const facts = {
    ...{ issuer: origin, fhirServer: `${origin}/fhir`, accounts: [{ username: 'somebody', password: 'development' }] },
    parties: [
      { name: 'labs', url: resource, resource },
      { name: 'piped-labs', url: `${origin}/child/piped-labs`, resource: `${origin}/child/piped-labs`, childOf: 'portal' },
    ],
    client: { clientId: 'hmcp-cli', redirectUri: `${origin}/callback`, scope: 'launch/patient', keyFile: 'none' },
    manager: { resource: `${origin}/manager`, participants: [], store: 'none', trusted: { issuer: origin } },
  };
  await writeFile(join(state, 'world.json'), JSON.stringify(facts));
  return state;
}

test.each([
  ['piped-labs', /^hmcp call: that agent is a child: it listens nowhere, and only the program that starts it [^\n]+\n$/],
  ['nobody', /^hmcp call: the agents are labs; try hmcp call --help\n$/],
])('hmcp call %s is told what can be called, and nothing is asked', async (agent, told) => {
  const { code, stdout, stderr } = await type(['call', agent, 'get-labs', '--state', await stateFolder()]);
  expect([code, stdout]).toEqual([64, '']);
  expect(stderr).toMatch(told);
});

describe('an agent that is called must publish itself at its address', () => {
  /** Listens like a server whose every path answers so; `RESOURCE` in a body stands for its resource identifier. */
  async function answering(status: number, body: string): Promise<string> {
    const http = createServer((_, response) => {
      response.writeHead(status, { location: '/' }).end(body.replace('RESOURCE', resource));
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const resource = `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`;
    onTestFinished(
      () =>
        new Promise<void>((resolve) => {
          http.close(() => resolve());
          http.closeAllConnections();
        }),
    );
    return resource;
  }

  test('then its scopes are known', async () => {
    const resource = await answering(200, '{"resource":"RESOURCE","scopes_supported":["patient/Observation.rs"],"more":1}');
    expect(await metadataOf(resource)).toMatchObject({ resource, scopes_supported: ['patient/Observation.rs'] });
  });

  test.each([
    ['404 with nothing', 404, '', '404'],
    ['503 with a page', 503, '<html>geheim</html>', '503'],
    ['a redirection', 302, '{}', 'no connection'],
    ['nothing', 200, '', 'what answers there is no MCP server'],
    ['a page', 200, '<html>geheim</html>', 'what answers there is no MCP server'],
    ['null', 200, 'null', 'what answers there is no MCP server'],
    ['a list', 200, '["RESOURCE"]', 'what answers there is no MCP server'],
    ['scopes that are none', 200, '{"resource":"RESOURCE","scopes_supported":"geheim"}', 'what answers there is no MCP server'],
    ['metadata of another', 200, '{"resource":"https://geheim.example/mcp"}', 'another server does'],
  ])('%s is said in a sentence, and is exit code 1', async (_, status, body, told) => {
    const resource = await answering(status, body);
    const address = `${new URL(resource).origin}/.well-known/oauth-protected-resource/mcp`;
    await expect(metadataOf(resource)).rejects.toMatchObject({
      name: 'CommandFailure',
      exit: 1,
      message: `the agent's server does not answer at ${address}: ${told}; see where it listens`,
    });
  });

  test('and so is a port where nobody listens', async () => {
    await expect(metadataOf('http://127.0.0.1:9/mcp')).rejects.toMatchObject({
      exit: 1,
      message: expect.stringContaining(': no connection;'),
    });
  });
});
