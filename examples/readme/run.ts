import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { verifyAudit } from '@hmcp/audit';
import { startWorld } from '@hmcp/cli/world';
import { recordsOf } from '@hmcp/clinic';

// Plays the README: starts a development world with its server in it, runs its client, and fails unless one call was served
// and one refused with 40903, each with its record in the audit of the server.

const server = fileURLToPath(new URL('./serve.js', import.meta.url));
const client = fileURLToPath(new URL('./client.js', import.meta.url));
const state = await mkdtemp(join(tmpdir(), 'hmcp-readme-'));
const world = await startWorld({
  records: await recordsOf(undefined),
  state,
  extras: [{ name: 'problems', module: server, scope: 'patient/Condition.rs' }],
});

const failures: string[] = [];
const expect = (what: string, held: boolean): void => {
  if (!held) failures.push(what);
};
try {
  const { output, code } = await run(client, state);
  process.stdout.write(output);
  expect('the client ends with 0', code === 0);
  expect('one call is served, with problems in it', /^served: [1-9]\d* problems$/m.test(output));
  expect('one call is refused with 40903 by the server, on its argument', /^40903 .*\(hop 1\), check "argument"/m.test(output));
} finally {
  await world.close();
}
const events: string[] = [];
const verdict = await verifyAudit(join(state, 'audit', 'problems.jsonl'), {
  onRecord: ({ event, code, tool }) => {
    if (tool === 'list-problems') events.push(code === undefined ? event : `${event} ${code}`);
  },
});
expect('the audit of the server is intact and closed', verdict.ok && verdict.warnings.length === 0);
expect('the audit holds both decisions', events.join(', ') === 'request.served, request.refused 40903');
await rm(state, { recursive: true, force: true });

for (const what of failures) process.stderr.write(`expected: ${what}\n`);
process.exitCode = failures.length === 0 ? 0 : 1;

function run(module: string, ...args: string[]): Promise<{ output: string; code: number | null }> {
  const child = spawn(process.execPath, [module, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ output, code }));
  });
}
