import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
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
