import { spawn } from 'node:child_process';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Checks } from '../checks.js';
import { plain, ReadersFolder } from './readers-folder.js';

// Does what docs/guide/ tells its reader, in one folder with one `hmcp dev`, and fails unless every command ends as the page says and
// prints what the page shows.

const checks = new Checks();
const folder = await ReadersFolder.open(checks, 'protect.md', 'call.md', 'orchestrate.md', 'switch.md');
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
  const sessions = await folder.hmcp('context', 'show');
  checks.is('the session is over', [sessions.code, sessions.stdout.includes('closed, epoch 3')], [0, true]);

  const uncaught = await folder.run('dist/uncaught.js');
  const message = 'patient_mismatch: an argument names another patient than the context';
  checks.is('an uncaught refusal ends a program', [uncaught.code, uncaught.output.includes(message)], [1, true]);

  const doctor = await folder.hmcp('doctor');
  checks.is('the doctor finds nothing that failed', doctor.code, 0);
  const verified = await folder.hmcp('audit', 'verify', '.hmcp');
  checks.is('every log is what was written, and every ended program closed its own', verified.code, 0);
  checks.is('and a different output would be noticed', plain(served.output) === plain(undeclared.output), false);
  await servesAsManager();
} finally {
  await folder.close();
}
checks.end();

/** The context manager of operate.md, on a store of its own. */
async function servesAsManager(): Promise<void> {
  const file = join(folder.path, 'manager.json');
  const sealKeys = join(folder.path, 'seals.json');
  await copyFile(managers.sealKeys, sealKeys);
  const own = { ...managers, sealKeys, store: join(folder.path, 'manager.sqlite'), port: 0 };
  await writeFile(file, JSON.stringify(own), { mode: 0o600 });
  const program = fileURLToPath(new URL('./manager.js', import.meta.url));
  const child = spawn(process.execPath, [program, file], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await Promise.race([new Promise((resolve) => child.once('message', resolve)), ended]);
  child.kill('SIGTERM');
  checks.is('the context manager starts and ends', await ended, 0);
  const verified = await folder.hmcp('audit', 'verify', own.store);
  checks.is('its store verifies', verified.code, 0);
}
