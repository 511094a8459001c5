import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Checks } from '@hmcp/examples/dist/checks.js';
import { ReadersFolder } from '@hmcp/examples/dist/guide/readers-folder.js';

// The LangChain program of docs/guide/call.md, in a folder as its reader has it: fails unless it prints what the page shows.

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
checks.end();
