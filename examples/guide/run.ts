import { spawn } from 'node:child_process';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Checks } from '../checks.js';
import { plain, ReadersFolder } from './readers-folder.js';

// Does what docs/guide/ tells its reader, in one folder with one `hmcp dev`, and fails unless every command ends as the page says and
// prints what the page shows.

const checks = new Checks();
const folder = await ReadersFolder.open(checks, 'protect.md', 'write.md', 'call.md', 'orchestrate.md', 'switch.md');
const managerConfig = join(folder.path, '.hmcp/config/context-manager.json');
const managers = JSON.parse(await readFile(managerConfig, 'utf8'));
try {
  const served = await folder.hmcp('call', 'old-labs', 'get-labs');
  checks.is('the protected server serves', [served.code, JSON.parse(served.stdout).results.length], [0, 2]);
  const other = JSON.stringify({ patientId: '5eed0b02-0000-4000-8000-000000000001' });
  await folder.shown('protect.md', 'another patient', await folder.hmcp('call', 'old-labs', 'get-labs', other), 1);
  await folder.shown('protect.md', 'rows of another patient', await folder.hmcp('call', 'old-labs', 'newest'), 1);
  const undeclared = await folder.hmcp('call', 'old-labs', 'everybody');
  await folder.shown('protect.md', 'an undeclared tool', undeclared, 1);
  const [intent = ''] = /[0-9a-f]{8}-[0-9a-f-]{27}/.exec(undeclared.output) ?? [];
  const explained = await folder.hmcp('explain', intent);
  checks.is('the refusal is explained', [explained.code, explained.stdout.includes('First refused by old-labs')], [0, true]);

  const withoutSession = await folder.hmcp('call', 'doses', 'record-dose', '{"dose":"morning-1","drug":"Amoxicillin"}');
  await folder.shown('write.md', 'an effect without a session', withoutSession, 1);
  await folder.shown('write.md', 'an effect in a session', await folder.run('dist/dose.js'));

  const child = await folder.hmcp('call', 'piped-labs', 'get-labs');
  checks.is('a child cannot be called from outside', [child.code, child.output.includes('is a child')], [64, true]);
  await folder.shown('call.md', 'call.ts', await folder.run('dist/call.js'));
  const piped = await folder.run('dist/call-child.js');
  checks.is('call-child.ts', [piped.code, piped.output.split('\n').length], [0, 3]);

  await folder.shown('orchestrate.md', 'the summary', await folder.hmcp('call', 'summary', 'summarize', '{"above":2}'));
  await folder.shown('orchestrate.md', 'act.ts', await folder.run('dist/act.js'));

  const answers = [
    ['Date of birth: ', '1961-03-27'],
    ['last four characters: ', '5519'],
  ] as const;
  await folder.shown('switch.md', 'switch.ts', await folder.run('dist/switch.js', [], answers));
  const cutShort = await folder.run('dist/switch.js', [], '1961-03-27\n');
  checks.is('an ended input is a no', [cutShort.code, cutShort.stdout.includes('(declined).')], [1, true]);
  const sessions = await folder.hmcp('context', 'show');
  const states = [...sessions.stdout.matchAll(/state +(.*)/g)].map(([, state]) => state);
  const closed = ['closed, epoch 2', 'closed, epoch 3', 'closed, epoch 2']; // of dose.ts, and of both runs of switch.ts
  checks.is('the sessions are over', [sessions.code, states], [0, closed]);

  const uncaught = await folder.run('dist/uncaught.js');
  const message = 'patient_mismatch: an argument names another patient than the context';
  checks.is('an uncaught refusal ends a program', [uncaught.code, uncaught.output.includes(message)], [1, true]);

  const doctor = await folder.hmcp('doctor');
  checks.is('the doctor finds nothing that failed', doctor.code, 0);
  const verified = await folder.hmcp('audit', 'verify', '.hmcp');
  checks.is('every log is what was written, and every ended program closed its own', verified.code, 0);
  checks.is('and a different output would be noticed', plain(served.output) === plain(undeclared.output), false);
  await servesAtItsPort();
  await servesAsManager();
} finally {
  await folder.close();
}
checks.end();

/** The context manager of operate.md, on a store and keys of its own. */
async function servesAsManager(): Promise<void> {
  const keys = join(folder.path, 'keys');
  const made = await folder.run('dist/make-keys.js', [keys]);
  checks.is('make-keys.ts', [made.code, made.output], [0, '']);
  const modes = await Promise.all((await readdir(keys)).map(async (name) => (await stat(join(keys, name))).mode & 0o777));
  checks.is('its files, for their owner alone', modes, Array(6).fill(0o600));
  const again = await folder.run('dist/make-keys.js', [keys]);
  checks.is('which it does not write over', again.code, 1);
  checks.is('as it says, in one sentence', again.output, `${keys} is not empty, so no keys were made: name a new folder\n`);

  const text = async (name: string): Promise<string> => readFile(join(keys, name), 'utf8');
  const [privateKey] = JSON.parse(await text('client.jwks.json')).keys;
  const store = join(folder.path, 'manager.sqlite');
  const shown = JSON.parse(await readFile(resolve('examples/guide/manager.json'), 'utf8'));
  const { publicUrl, issuer, fhirServer } = managers;
  const file = await configured('manager', {
    ...shown,
    ...{ publicUrl, issuer, fhirServer },
    client: { ...shown.client, privateKey },
    sealKeys: join(keys, 'seals.jwks.json'),
    tenantKey: await text('tenant.txt'),
    pseudonymKey: await text('pseudonym.txt'),
    ...{ store, port: 0 },
  });
  const manager = await started('manager.js', file);
  checks.is('the context manager starts and ends', await manager.end(), 0);
  const verified = await folder.hmcp('audit', 'verify', store);
  checks.is('its store verifies', verified.code, 0);
}

/** The server of protect.md at the port of its configuration, as in a deployment. */
async function servesAtItsPort(): Promise<void> {
  const port = await freePort();
  const own = JSON.parse(await readFile(join(folder.path, '.hmcp/config/old-labs.json'), 'utf8'));
  const server = await started(
    'serve.js',
    await configured('labs', { ...own, port, auditFile: join(folder.path, 'labs.jsonl') }),
  );
  const host = new URL(own.publicUrl).host; // as the proxy passes it on
  const status = await statusOf({ port, host });
  checks.is('at its port a server asks for a token', status, 401);
  checks.is('and is nobody else', await statusOf({ port, host: 'elsewhere.example' }), 403);
  checks.is('it ends when told to', await server.end(), 0);
}

function statusOf({ port, host }: { port: number; host: string }): Promise<number | undefined> {
  const headers = { host, 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, path: '/mcp', method: 'POST', headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    });
    asked.once('error', reject).end('{"jsonrpc":"2.0","id":1,"method":"tools/list"}');
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function configured(name: string, config: object): Promise<string> {
  const file = join(folder.path, `${name}.json`);
  await writeFile(file, JSON.stringify(config), { mode: 0o600 });
  return file;
}

/** A program of the guides that serves, by itself: its first message says that it listens. */
async function started(program: string, config: string): Promise<{ end(): Promise<number | null> }> {
  const path = fileURLToPath(new URL(program, import.meta.url));
  const child = spawn(process.execPath, [path, config], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await Promise.race([new Promise((resolve) => child.once('message', resolve)), ended]);
  return {
    end() {
      child.kill('SIGTERM');
      return ended;
    },
  };
}
