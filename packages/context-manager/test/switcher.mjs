// Switches one session to and fro until it is killed, and says which commits were acknowledged. Runs on source, as tests do.
import { writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createViteServer } from 'vitest/node';

const [file] = process.argv.slice(2);
const vite = await createViteServer({
  configFile: false,
  logLevel: 'silent',
  appType: 'custom',
  server: { middlewareMode: true, ws: false, watch: null },
  optimizeDeps: { noDiscovery: true },
  ssr: { noExternal: [/^@hmcp\//], external: ['libsql'], resolve: { conditions: ['@hmcp/source'] } },
});
const load = (path) => vite.ssrLoadModule(fileURLToPath(new URL(path, import.meta.url)));
const { answer, ask, begin, commit, open } = await load('../src/machine.ts');
const { openSqliteStore } = await load('../src/index.ts');
const { at, session, subject, to } = await load('./support/rows.ts');

const store = await openSqliteStore({ file, by: 'https://manager.example/mcp' });
if ((await store.read('ctx_1')) === undefined) {
  const owner = { issuer: 'https://as.example', subject: 'alice' };
  const opened = open({ sid: 'ctx_1', owner, client: 'portal', subject: subject('A'), participants: [] }, at());
  await store.create(session(), 'key', opened.record);
}

/** Writes one step; a step that stands in the row already was written before the kill. */
async function write(decide) {
  const step = decide(await store.read('ctx_1'));
  if (step.is === 'moved') await store.compareAndSet(step.next, step.record);
  return step;
}
for (;;) {
  const { epoch, pending } = await store.read('ctx_1');
  const switchId = pending?.switchId ?? `s${epoch}`;
  const target = epoch % 2 === 0 ? 'A' : 'B';
  await write((row) => begin(row, to(target, { switchId, expectedEpoch: epoch }), at()));
  await write((row) => ask(row, { switchId, nonceHash: 'n' }, at()));
  await write((row) => answer(row, { switchId, nonceHash: 'n', right: true }, at()));
  await write((row) => commit(row, { switchId }, at()));
  writeSync(1, `${epoch + 1}\n`);
}
