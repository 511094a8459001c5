import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Checks } from '@hmcp/examples/dist/checks.js';
import { ReadersFolder } from '@hmcp/examples/dist/guide/readers-folder.js';

// The LangChain program of docs/guide/call.md and the express server of docs/guide/protect.md, in folders as their reader has them: fails
// unless they print and answer what the pages show.

const checks = new Checks();
const folder = await ReadersFolder.open(checks, 'protect.md');
try {
  await folder.shown('call.md', 'chat.ts', await folder.run(fileURLToPath(new URL('./chat.js', import.meta.url))));
  const audit = await readFile(join(folder.path, '.hmcp/audit/old-labs.jsonl'), 'utf8');
  const decisions = [...audit.matchAll(/"event":"(request\.\w+)"[^\n]*?"tool":"get-labs"/g)].map(([, event]) => event);
  checks.is('what the laboratory recorded', decisions, ['request.served', 'request.refused']);
} finally {
  await folder.close();
}

const program = fileURLToPath(new URL('./serve-express.js', import.meta.url));
const mounted = await ReadersFolder.start(checks, '--agent', `old-labs=${program}`, '--scope', 'patient/Observation.rs');
try {
  const served = await mounted.hmcp('call', 'old-labs', 'get-labs');
  checks.is('on express: served', [served.code, JSON.parse(served.stdout).results.length], [0, 2]);
  const other = JSON.stringify({ patientId: '5eed0b02-0000-4000-8000-000000000001' });
  await mounted.shown('protect.md', 'on express: another patient', await mounted.hmcp('call', 'old-labs', 'get-labs', other), 1);
  await mounted.shown('protect.md', 'on express: rows of another patient', await mounted.hmcp('call', 'old-labs', 'newest'), 1);
} finally {
  await mounted.close();
}
checks.end();
