import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createAgent, openSession } from '@hmcp/agent';
import { openFileAudit, verifyAudit } from '@hmcp/audit';
import { createTokenExchanger, smartClient } from '@hmcp/auth';
import { signIn } from '@hmcp/authorization-server';
import { startWorld } from '@hmcp/cli/world';
import { chooseCharts, isLaboratory, recordsOf } from '@hmcp/clinic';
import { definePatientTool, explain, HmcpError } from '@hmcp/core';
import * as z from 'zod';

// Starts a development world with an SDK v1 server in it, protected in three lines, and fails unless its tool serves the patient
// in context to a caller that names nobody, and everything else is refused: another patient, a tool nobody declared, no token.

const server = fileURLToPath(new URL('./serve.js', import.meta.url));
const state = await mkdtemp(join(tmpdir(), 'hmcp-protect-v1-'));
const records = await recordsOf(undefined);
const { a, b } = chooseCharts(records);
const scope = 'patient/Observation.rs';
const world = await startWorld({ records, state, extras: [{ name: 'old-labs', module: server, scope }] });

const failures: string[] = [];
const expect = (what: string, found: unknown, expected: unknown): void => {
  if (found !== expected) failures.push(`${what}: ${expected}, found ${found}`);
};
const output = z.object({ results: z.array(z.looseObject({ resourceType: z.literal('Observation'), id: z.string() })) });
const input = z.object({ category: z.string().optional() });
const tool = (name: string) => definePatientTool({ name, scope, description: name, input, output });

try {
  const { facts } = world;
  const { clientId, redirectUri, keyFile } = facts.client;
  const [privateKey] = JSON.parse(await readFile(keyFile, 'utf8')).keys;
  const [account] = facts.accounts;
  const url = facts.parties.find(({ name }) => name === 'old-labs')?.url;
  if (account === undefined || url === undefined) throw new TypeError('the world has an account and the server');

  const smart = smartClient({ fhirServer: facts.fhirServer, clientId, redirectUri, privateKey });
  const open = (address: string) => signIn({ ...account, url: address, patient: a.patient });
  const grant = await smart.authorize({ launch: 'patient', scope: `launch/patient ${scope}`, open });
  const audit = await openFileAudit({ file: join(state, 'audit', 'protect-v1.jsonl'), by: clientId });
  const desk = createAgent({
    name: 'desk',
    clientId,
    peers: [{ name: 'old-labs', resource: url, kind: 'hmcp' }],
    tokens: createTokenExchanger({ issuer: grant.issuer, client: { clientId, privateKey } }),
    audit,
    pseudonymKey: (await readFile(join(state, 'keys', 'pseudonym.txt'), 'utf8')).trim(),
  });
  const session = await openSession({ agent: desk, grant });

  const { results } = await session.call('old-labs', tool('get-labs'), {});
  process.stdout.write(`served: ${results.length} results\n`);
  const own = records.ofPatient(a.patient.id, 'Observation').filter(isLaboratory);
  expect('results of the patient in context', idsOf(results), idsOf(own));

  const confused = { category: 'laboratory', patientId: b.patient.id }; // what a model might write
  const named = await refusal(session.call('old-labs', tool('get-labs'), confused));
  expect('an argument that names another patient', named?.code, 40903);
  expect('a tool nobody declared', (await refusal(session.call('old-labs', tool('everybody'), {})))?.code, 40303);
  const message = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'everybody' } };
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
  const bare = await fetch(url, { method: 'POST', headers, body: JSON.stringify(message) });
  expect('without a token', bare.status, 401);
  expect('and says where to get one', bare.headers.get('www-authenticate')?.includes('resource_metadata='), true);

  await session.close();
  await desk.close();
  await audit.close();
  await grant.revoke();
} finally {
  await world.close();
}
const events: string[] = [];
const verdict = await verifyAudit(join(state, 'audit', 'old-labs.jsonl'), {
  onRecord: ({ event, code, method, check }) => {
    if (method === 'tools/call' || check === 'token') events.push(code === undefined ? event : `${event} ${code}`);
  },
});
expect('the audit of the server is intact and closed', verdict.ok && verdict.warnings.length === 0, true);
const refused = [40903, 40303, 401].map((code) => `request.refused ${code}`);
expect('the audit holds every decision', events.join(', '), ['request.served', ...refused].join(', '));
await rm(state, { recursive: true, force: true });

for (const what of failures) process.stderr.write(`expected ${what}\n`);
process.exitCode = failures.length === 0 ? 0 : 1;

async function refusal(call: Promise<unknown>): Promise<HmcpError | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    process.stdout.write(`${explain(error)}\n`);
    return HmcpError.from(error);
  }
}

function idsOf(resources: readonly { id?: unknown }[]): string {
  return resources
    .map(({ id }) => String(id))
    .sort()
    .join(' ');
}
